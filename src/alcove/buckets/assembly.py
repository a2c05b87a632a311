"""An object from the parts of an upload: which of them, and what the client says the whole is."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from alcove.buckets import checksums
from alcove.buckets.checksums import Plan
from alcove.buckets.errors import (
    BadDigest,
    BadRequest,
    EntityTooLarge,
    EntityTooSmall,
    InvalidPart,
    InvalidPartOrder,
)
from alcove.buckets.model import PART_LEAST, UPLOAD_LIMIT, Attributes, Part, Upload


@dataclass(frozen=True, slots=True)
class NamedPart:
    """A part as its client names it, with the checksums that it gives, by algorithm."""

    number: int
    etag: str
    checksums: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Completion:
    """What the client says of the whole object; empty or None: nothing."""

    parts: tuple[NamedPart, ...]
    checksum: tuple[str, str] = ("", "")  # algorithm, value
    kind: str = ""
    size: int | None = None
    if_none_match: bool = False
    if_match: str = ""


def choose(there: Mapping[int, Part], wanted: Completion, plan: Plan) -> list[Part]:
    """Return the parts that the object will have. Raises ``BucketError``s."""
    numbers = [one.number for one in wanted.parts]
    if not numbers or numbers != sorted(set(numbers)):
        raise InvalidPartOrder("The list of parts was not in ascending order.")
    parts = [there[one.number] for one in wanted.parts if one.number in there and _is(there[one.number], one, plan)]
    if len(parts) != len(numbers):
        raise InvalidPart("One or more of the specified parts could not be found, or their entity tags do not match.")
    if any(part.segment.size < PART_LEAST for part in parts[:-1]):
        raise EntityTooSmall("Your proposed upload is smaller than the minimum allowed size")
    size = sum(part.segment.size for part in parts)
    if size > UPLOAD_LIMIT:
        raise EntityTooLarge("Your proposed upload exceeds the maximum allowed size")
    if wanted.size not in (None, size):
        raise BadRequest("The provided 'x-amz-mp-object-size' header value does not match what was computed.")
    return parts


def check_part(plan: Plan, named: frozenset[str]) -> None:
    """A part has the checksum that its upload was begun with, if any. Raises ``BadRequest``."""
    if plan.explicit and named - {plan.algorithm}:
        given = ", ".join(sorted(named))
        raise BadRequest(
            f"Checksum Type mismatch occurred, expected checksum Type: {plan.algorithm}, actual checksum Type: {given}"
        )


def attributes(upload: Upload, parts: Sequence[Part], wanted: Completion) -> Attributes:
    """Return what is kept with the object. Raises ``BadDigest``, ``BadRequest``."""
    value = checksum(parts, wanted, upload.plan)
    found = {upload.plan.algorithm: value} if value else {}
    return replace(upload.attributes, checksums=found, checksum_kind=upload.plan.kind)


def etag(parts: Sequence[Part]) -> str:
    """S3's: the MD5 of the parts' MD5s, and their number."""
    whole = hashlib.md5(b"".join(bytes.fromhex(part.etag) for part in parts), usedforsecurity=False)
    return f"{whole.hexdigest()}-{len(parts)}"


def checksum(parts: Sequence[Part], wanted: Completion, plan: Plan) -> str:
    """Return the object's checksum, none where its parts have none. Raises ``BadDigest``, ``BadRequest``."""
    if wanted.kind and wanted.kind.upper() != plan.kind:
        raise BadDigest(f"The upload was created with the checksum type {plan.kind}.")
    whole = checksums.together(plan, [(part.segment.checksum, part.segment.size) for part in parts])
    name, value = wanted.checksum
    if name:
        if name != plan.algorithm:
            raise BadRequest(f"The upload was created with the checksum {plan.algorithm}, not {name}.")
        if checksums.encode(checksums.decode(name, value.partition("-")[0])) != whole.partition("-")[0]:
            raise BadDigest(f"The {name} you specified did not match the calculated checksum.")
    return whole


def _is(part: Part, named: NamedPart, plan: Plan) -> bool:
    if part.etag != named.etag.strip('"'):
        return False
    return named.checksums.get(plan.algorithm, part.segment.checksum) == part.segment.checksum
