"""Content on its way to the disk: hashed as it comes, held against what the client said of it."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from alcove.buckets import checksums
from alcove.buckets.blobs import BlobStore
from alcove.buckets.errors import BadDigest, EntityTooLarge, EntityTooSmall, IncompleteBody, InvalidDigest
from alcove.buckets.model import Written

# Written in pieces of this size: fewer turns to the threads.
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Expected:
    """What the client said: ``size`` in bytes, digests in base64 by algorithm, ``md5`` in base64. Not ``exact``: the
    size is the most that it may be, and ``least`` the least.
    """

    size: int
    md5: str = ""
    checksums: Mapping[str, str] = field(default_factory=dict)
    least: int = 0
    exact: bool = True

    def check_more(self, size: int) -> None:
        """So much has come, and it is not all. Raises ``IncompleteBody``, ``EntityTooLarge``."""
        if size > self.size and self.exact:
            raise IncompleteBody("The request's body is longer than it was said to be.")
        if size > self.size:
            raise EntityTooLarge("Your proposed upload exceeds the maximum allowed size")

    def check_whole(self, size: int) -> None:
        """Raises ``IncompleteBody``, ``EntityTooSmall``."""
        if self.exact and size != self.size:
            raise IncompleteBody("You did not provide the number of bytes specified by the Content-Length HTTP header")
        if size < self.least:
            raise EntityTooSmall("Your proposed upload is smaller than the minimum allowed size")


class Late:
    """Checksums that a client sends after the content; filled by whoever reads its body."""

    def __init__(self) -> None:
        self.checksums: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Arrival:
    """Content that a client sends. ``announced`` checksums come after it, in ``late``; ``default`` is the one that is
    computed where the client names none.
    """

    content: AsyncIterator[bytes]
    expected: Expected
    announced: frozenset[str]
    late: Late
    default: str = checksums.DEFAULT

    @property
    def named(self) -> frozenset[str]:
        """The algorithms of the checksums that the client sends."""
        return self.announced | self.expected.checksums.keys()


class Digests:
    """MD5 always (it is the ETag), others where they are asked for."""

    def __init__(self, algorithms: frozenset[str]) -> None:
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._running = {name: checksums.start(name) for name in algorithms}

    def update(self, data: bytes) -> None:
        self._md5.update(data)
        for one in self._running.values():
            one.update(data)

    @property
    def md5(self) -> str:
        return self._md5.hexdigest()

    def checksums(self) -> dict[str, str]:
        return {name: checksums.encode(one.digest()) for name, one in self._running.items()}

    def compare(self, expected: Expected, announced: frozenset[str], late: Late) -> None:
        """Hold what came against what was said of it. Raises ``BadDigest``, ``BadRequest``."""
        if expected.md5 and _md5(expected.md5) != self._md5.digest():
            raise BadDigest("The Content-MD5 you specified did not match what we received.")
        if announced - late.checksums.keys():
            raise BadDigest("A checksum that was announced did not come.")
        given = {**expected.checksums, **{name: late.checksums[name] for name in announced}}
        for name, value in given.items():
            if checksums.decode(name, value) != self._running[name].digest():
                raise BadDigest(f"The {name.upper()} you specified did not match the calculated checksum.")


async def receive(blobs: BlobStore, arrival: Arrival, also: frozenset[str] = frozenset()) -> Written:
    """Write the content as one file, durable under its final name; nothing is left where this raises.

    Computes the checksums that the client names, and ``also`` these. Raises ``BadDigest``, and as ``Expected`` does.
    """
    expected = arrival.expected
    digests = Digests(arrival.named | also)
    async with blobs.writing(expected.size) as writer:
        async for piece in _pieces(arrival.content):
            expected.check_more(writer.size + len(piece))
            await blobs.run(digests.update, piece)
            await writer.write(piece)
        expected.check_whole(writer.size)
        digests.compare(expected, arrival.announced, arrival.late)
        segment = await writer.finish()
    return Written(segment, digests.md5, digests.checksums())


async def _pieces(content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    held = bytearray()
    async for data in content:
        held += data
        if len(held) >= _PIECE:
            yield bytes(held)
            held.clear()
    if held:
        yield bytes(held)


def _md5(text: str) -> bytes:
    try:
        digest = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if len(digest) != 16:
        raise InvalidDigest("The Content-MD5 you specified is not valid.")
    return digest
