"""Content on its way to the disk: hashed as it comes, held against what the client said of it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import zlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from alcove.buckets.blobs import BlobStore
from alcove.buckets.errors import BadArgument, BadDigest, IncompleteBody
from alcove.buckets.model import Written

# Written in pieces of this size: fewer turns to the threads.
_PIECE = 1 << 20
# Checksums that can be held against content here; those of others (CRC32C, CRC64NVME) are refused where they are given.
ALGORITHMS = ("crc32", "sha1", "sha256")


@dataclass(frozen=True, slots=True)
class Expected:
    """What the client said: ``size`` in bytes, digests in base64 by algorithm, ``md5`` in base64."""

    size: int
    md5: str = ""
    checksums: Mapping[str, str] = field(default_factory=dict)


class Digests:
    """MD5 always (it is the ETag), others where they are asked for."""

    def __init__(self, algorithms: frozenset[str]) -> None:
        unknown = algorithms - set(ALGORITHMS)
        if unknown:
            raise BadArgument(
                f"The checksum algorithm is not supported here: {', '.join(sorted(unknown))[:100]}",
                hint=f"choose from {', '.join(ALGORITHMS)}",
            )
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._hashes = {name: hashlib.new(name) for name in algorithms - {"crc32"}}
        self._crc32 = 0 if "crc32" in algorithms else None

    def update(self, data: bytes) -> None:
        self._md5.update(data)
        for one in self._hashes.values():
            one.update(data)
        if self._crc32 is not None:
            self._crc32 = zlib.crc32(data, self._crc32)

    @property
    def md5(self) -> str:
        return self._md5.hexdigest()

    def checksums(self) -> dict[str, str]:
        found = {name: base64.b64encode(one.digest()).decode() for name, one in self._hashes.items()}
        if self._crc32 is not None:
            found["crc32"] = base64.b64encode(self._crc32.to_bytes(4, "big")).decode()
        return found


async def receive(
    blobs: BlobStore, content: AsyncIterator[bytes], expected: Expected, announced: frozenset[str], late: Late
) -> Written:
    """Write the content as one file, durable under its final name; nothing is left where this raises.

    ``announced`` are checksums that come after the content, in ``late``. Raises ``IncompleteBody``, ``BadDigest``.
    """
    digests = Digests(frozenset(expected.checksums) | announced)
    async with blobs.writing(expected.size) as writer:
        async for piece in _pieces(content):
            if writer.size + len(piece) > expected.size:
                raise IncompleteBody("The request's body is longer than it was said to be.")
            await blobs.run(digests.update, piece)
            await writer.write(piece)
        if writer.size != expected.size:
            raise IncompleteBody("You did not provide the number of bytes specified by the Content-Length HTTP header")
        _compare(digests, expected, announced, late)
        segment = await writer.finish()
    return Written(segment, digests.md5, digests.checksums())


class Late:
    """Checksums that a client sends after the content; filled by whoever reads its body."""

    def __init__(self) -> None:
        self.checksums: dict[str, str] = {}


async def _pieces(content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    held = bytearray()
    async for data in content:
        held += data
        if len(held) >= _PIECE:
            yield bytes(held)
            held.clear()
    if held:
        yield bytes(held)


def _compare(digests: Digests, expected: Expected, announced: frozenset[str], late: Late) -> None:
    if expected.md5 and _bytes(expected.md5) != bytes.fromhex(digests.md5):
        raise BadDigest("The Content-MD5 you specified did not match what we received.")
    if announced - late.checksums.keys():
        raise BadDigest("A checksum that was announced did not come.")
    found = digests.checksums()
    given = {**expected.checksums, **{name: late.checksums[name] for name in announced}}
    for name, value in given.items():
        if _bytes(value) != _bytes(found[name]):
            raise BadDigest(f"The {name.upper()} you specified did not match what we received.")


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BadDigest("A digest is not valid base64.") from None
