"""One connection to a pod's loopback, carried to its guest and back; see ``alcove.wire.streams``.

The guest may be hostile: what it sends beyond the credit that it has ends the connection.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from socket import SO_LINGER, SOL_SOCKET
from typing import Any, Protocol

from alcove.wire.frame import Frame, FrameError, Kind
from alcove.wire.streams import CHUNK, WINDOW, parse_taken, taken

Send = Callable[[Kind, bytes], Awaitable[None]]


class Reader(Protocol):
    """What ``asyncio.StreamReader`` is to a connection."""

    async def read(self, n: int, /) -> bytes:
        """Return what has come, at most so much; nothing at the end."""
        ...


class Writer(Protocol):
    """What ``asyncio.StreamWriter`` is to a connection."""

    def write(self, data: bytes, /) -> None: ...

    async def drain(self) -> None:
        """Wait until more may be written."""
        ...

    def write_eof(self) -> None: ...


class Refused(Exception):
    """The guest has no such connection, or no longer."""


class Stream:
    """``receive`` is given the frames of this connection; ``run`` carries it to its end."""

    def __init__(self, reader: Reader, writer: Writer, send: Send) -> None:
        self._reader, self._writer = reader, writer
        self._send = send
        loop = asyncio.get_running_loop()
        self._connected: asyncio.Future[None] = loop.create_future()
        self._failed: asyncio.Future[Refused] = loop.create_future()
        self._changed = asyncio.Event()
        self._credit = WINDOW
        self._output: deque[bytes] = deque()
        self._waiting = 0
        self._heard_all = False

    def receive(self, frame: Frame) -> None:
        """Take a frame from the guest. Raises ``FrameError``."""
        if frame.kind is Kind.REPLY:
            if not self._connected.done():
                self._connected.set_result(None)
        elif frame.kind is Kind.DATA:
            self._take(frame.payload)
        elif frame.kind is Kind.EVENT:
            self._credit = min(WINDOW, self._credit + parse_taken(frame.payload))
        elif frame.kind is Kind.ERROR:
            self.fail(frame.payload[:200].decode(errors="replace"))
        else:
            raise FrameError(f"{frame.kind.name} has no place here")
        self._changed.set()

    def _take(self, data: bytes) -> None:
        self._waiting += len(data)
        if self._heard_all or self._waiting > WINDOW:
            self.fail("the guest sends more than it may")
            return
        self._heard_all = not data
        self._output.append(data)

    def fail(self, words: str) -> None:
        """End it: whoever waits for it raises ``Refused``."""
        if not self._failed.done():
            self._failed.set_result(Refused(words))

    async def connected(self) -> None:
        """Wait for the guest's answer. Raises ``Refused``."""
        await self._unless_failed(self._connected)

    async def run(self) -> None:
        """Carry both ways to their ends. Raises ``Refused``, ``OSError``."""
        ways = [asyncio.ensure_future(way) for way in (self._to_guest(), self._from_guest())]
        both = asyncio.gather(*ways)
        try:
            await self._unless_failed(both)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(both, *ways, return_exceptions=True)

    async def _unless_failed(self, work: asyncio.Future[Any]) -> None:
        await asyncio.wait([work, self._failed], return_when=asyncio.FIRST_COMPLETED)
        if self._failed.done():
            raise self._failed.result()
        work.result()

    async def _until(self, there: Callable[[], bool]) -> None:
        while not there():
            self._changed.clear()
            await self._changed.wait()

    async def _to_guest(self) -> None:
        while True:
            await self._until(lambda: self._credit > 0)
            data = await self._reader.read(min(CHUNK, self._credit))
            self._credit -= len(data)
            await self._send(Kind.DATA, data)
            if not data:
                return

    async def _from_guest(self) -> None:
        while True:
            await self._until(lambda: bool(self._output))
            data = self._output.popleft()
            if not data:
                self._writer.write_eof()
                return
            self._writer.write(data)
            await self._writer.drain()
            self._waiting -= len(data)
            await self._send(Kind.EVENT, taken(len(data)))


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection so that its other end sees that it was cut off."""
    with suppress(OSError):
        writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
