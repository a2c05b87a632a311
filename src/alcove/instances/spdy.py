"""The client's side of SPDY/3.1, as far as Kubernetes' streams go: how containerd serves exec and attach.

A connection carries a few streams of bytes, each of which either side can end by itself; that is why it is not
WebSocket, where containerd 1.6 cannot be told that stdin has ended. The header block of a stream is compressed; ours
goes without the dictionary, which the receiver allows, and what comes back is not needed. Sources: the draft "SPDY
Protocol 3.1", Kubernetes' ``remotecommand``.
"""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections.abc import AsyncIterator, Mapping
from urllib.parse import urlsplit

from alcove.errors import AlcoveError

PROTOCOL = "v4.channel.k8s.io"
_SYN_STREAM, _RST_STREAM, _PING, _GOAWAY = 1, 3, 6, 7
_VERSION = 0x8003
_FIN = 1
_HEAD = struct.Struct(">II")
_HEAD_LIMIT = 16 << 10
# Data frames are cut to this; what a peer sends in one frame has its own limit.
PIECE = 32 << 10
_FRAME_LIMIT = 1 << 24
_CONNECT_S = 10.0


class StreamsBroken(AlcoveError):
    """The other side did not speak the protocol, or went away."""


class Streams:
    """``connect``, then ``open`` each stream, ``send`` and ``end`` it, and read ``frames``; ``close`` at the end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._deflate = zlib.compressobj()
        self._last = -1

    @classmethod
    async def connect(cls, url: str) -> Streams:
        """Raises ``StreamsBroken``."""
        address = urlsplit(url)
        try:
            async with asyncio.timeout(_CONNECT_S):
                reader, writer = await asyncio.open_connection(address.hostname, address.port, limit=_HEAD_LIMIT)
                writer.write(_request(address.path, address.netloc))
                head = await reader.readuntil(b"\r\n\r\n")
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise StreamsBroken(f"the runtime's streams cannot be reached: {error}") from error
        if b" 101 " not in head.split(b"\r\n", 1)[0] + b" ":
            writer.close()
            raise StreamsBroken(f"the runtime refused streams: {head.splitlines()[0].decode('latin-1')}")
        return cls(reader, writer)

    async def open(self, headers: Mapping[str, str]) -> int:
        """Begin a stream; return its number."""
        self._last += 2
        pairs = [_text(name.lower()) + _text(value) for name, value in headers.items()]
        block = struct.pack(">I", len(pairs)) + b"".join(pairs)
        packed = self._deflate.compress(block) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        payload = struct.pack(">IIBB", self._last, 0, 0, 0) + packed
        await self._control(_SYN_STREAM, payload)
        return self._last

    async def send(self, stream: int, data: bytes) -> None:
        for start in range(0, len(data), PIECE):
            piece = data[start : start + PIECE]
            self._writer.write(_HEAD.pack(stream, len(piece)) + piece)
        await self._drain()

    async def end(self, stream: int) -> None:
        """Nothing more goes out on it."""
        self._writer.write(_HEAD.pack(stream, _FIN << 24))
        await self._drain()

    async def frames(self) -> AsyncIterator[tuple[int, bytes, bool]]:
        """Yield (stream, data, whether it has ended) until the connection ends."""
        while True:
            try:
                first, second = _HEAD.unpack(await self._reader.readexactly(_HEAD.size))
                length, flags = second & 0xFFFFFF, second >> 24
                if length > _FRAME_LIMIT:
                    raise StreamsBroken("the runtime sent a frame that is too large")
                data = await self._reader.readexactly(length)
            except (asyncio.IncompleteReadError, OSError):
                return
            if not first >> 31:
                yield first, data, bool(flags & _FIN)
            elif (kind := first & 0xFFFF) == _PING:
                await self._control(_PING, data)
            elif kind == _RST_STREAM and len(data) >= 4:
                yield int.from_bytes(data[:4]) & 0x7FFFFFFF, b"", True
            elif kind == _GOAWAY:
                return

    async def close(self) -> None:
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except OSError:
            pass

    async def _control(self, kind: int, payload: bytes) -> None:
        self._writer.write(struct.pack(">HHI", _VERSION, kind, len(payload)) + payload)
        await self._drain()

    async def _drain(self) -> None:
        try:
            await self._writer.drain()
        except OSError as error:
            raise StreamsBroken(f"the runtime's streams broke: {error}") from error


def _request(path: str, host: str) -> bytes:
    lines = (
        f"POST {path} HTTP/1.1",
        f"Host: {host}",
        "Content-Length: 0",
        "Connection: Upgrade",
        "Upgrade: SPDY/3.1",
        f"X-Stream-Protocol-Version: {PROTOCOL}",
    )
    return "\r\n".join((*lines, "", "")).encode()


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack(">I", len(data)) + data
