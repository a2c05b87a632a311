"""S3's checksums: computed as content comes, and of an object in parts from those of its parts.

Source: "Checking object integrity in Amazon S3" in its user guide. An object's checksum is of its whole content, or
composite: the digest of its parts' digests. CRCs of parts can be put together to that of the whole, without reading the
content again; other digests cannot. Values are base64.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from awscrt import checksums as crt

from alcove.buckets.errors import BadRequest


class Kind(StrEnum):
    FULL_OBJECT = "FULL_OBJECT"
    COMPOSITE = "COMPOSITE"


class Running(Protocol):
    """A digest in the making."""

    def update(self, data: bytes) -> None: ...

    def digest(self) -> bytes: ...


class _Crc:
    def __init__(self, step: Callable[[bytes, int], int], size: int) -> None:
        self._step, self._size, self._value = step, size, 0

    def update(self, data: bytes) -> None:
        self._value = self._step(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._size, "big")


class _XxHash:
    """The library's, which can be asked only once."""

    def __init__(self, state: crt.XXHash) -> None:
        self._state, self._digest = state, b""

    def update(self, data: bytes) -> None:
        self._state.update(data)

    def digest(self) -> bytes:
        self._digest = self._digest or self._state.finalize()
        return self._digest


# Name, as in x-amz-checksum-NAME: how many bytes its values have, and what computes one.
_MAKERS: dict[str, tuple[int, Callable[[], Running]]] = {
    "crc32": (4, lambda: _Crc(crt.crc32, 4)),
    "crc32c": (4, lambda: _Crc(crt.crc32c, 4)),
    "crc64nvme": (8, lambda: _Crc(crt.crc64nvme, 8)),
    "md5": (16, lambda: hashlib.md5(usedforsecurity=False)),
    "sha1": (20, lambda: hashlib.sha1(usedforsecurity=False)),
    "sha256": (32, hashlib.sha256),
    "sha512": (64, hashlib.sha512),
    "xxhash64": (8, lambda: _XxHash(crt.XXHash.new_xxhash64())),
    "xxhash3": (8, lambda: _XxHash(crt.XXHash.new_xxhash3_64())),
    "xxhash128": (16, lambda: _XxHash(crt.XXHash.new_xxhash3_128())),
}
_COMBINE: dict[str, Callable[[int, int, int], int]] = {
    "crc32": crt.combine_crc32,
    "crc32c": crt.combine_crc32c,
    "crc64nvme": crt.combine_crc64nvme,
}
ALGORITHMS = tuple(_MAKERS)
# What is computed where a client names none, as S3 does.
DEFAULT = "crc64nvme"


@dataclass(frozen=True, slots=True)
class Plan:
    """Which checksum an object will have. ``explicit``: its client chose it."""

    algorithm: str = DEFAULT
    kind: Kind = Kind.FULL_OBJECT
    explicit: bool = False


def known(name: str) -> str:
    """Return the algorithm's name in small letters. Raises ``BadRequest``."""
    name = name.lower()
    if name not in _MAKERS:
        raise BadRequest(
            f"The checksum algorithm is not known: {name[:100]}", hint=f"choose from {', '.join(ALGORITHMS)}"
        )
    return name


def plan(algorithm: str, kind: str) -> Plan:
    """Return what an upload in parts asks for. Raises ``BadRequest`` for a pair that S3 does not have."""
    if not algorithm:
        if kind:
            raise BadRequest("x-amz-checksum-type can only be used with x-amz-checksum-algorithm")
        return Plan()
    name = known(algorithm)
    kinds = [Kind.COMPOSITE] * (name != DEFAULT) + [Kind.FULL_OBJECT] * (name in _COMBINE)
    if kind and kind.upper() not in kinds:
        raise BadRequest(f"The {kind[:20]} checksum type cannot be used with the {name} checksum algorithm.")
    return Plan(name, Kind(kind.upper()) if kind else kinds[0], explicit=True)


def start(name: str) -> Running:
    return _MAKERS[known(name)][1]()


def encode(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def decode(name: str, value: str) -> bytes:
    """Return a value that a client gave. Raises ``BadRequest`` where it cannot be one."""
    try:
        digest = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if len(digest) != _MAKERS[known(name)][0]:
        raise BadRequest(f"Value for x-amz-checksum-{name} header is invalid.")
    return digest


def together(plan: Plan, parts: Sequence[tuple[str, int]]) -> str:
    """Return the checksum of an object made of parts (value, size in bytes); none where a part has none."""
    if not all(value for value, _ in parts):
        return ""
    digests = [(base64.b64decode(value), size) for value, size in parts]
    if plan.kind == Kind.COMPOSITE:
        running = start(plan.algorithm)
        running.update(b"".join(digest for digest, _ in digests))
        return f"{encode(running.digest())}-{len(parts)}"
    combine, total = _COMBINE[plan.algorithm], 0
    for digest, size in digests:
        total = combine(total, int.from_bytes(digest, "big"), size)
    return encode(total.to_bytes(_MAKERS[plan.algorithm][0], "big"))
