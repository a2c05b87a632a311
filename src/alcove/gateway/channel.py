"""A connection that has left HTTP (``101 Switching Protocols``): bytes in both directions, bounded in both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

# What has come and was not read; beyond it the transport is told to wait.
INBOX_LIMIT = 256 << 10


class ChannelClosed(Exception):
    """The other side is gone."""


class Channel:
    """Fed by the connection; read and written by whoever took the connection over."""

    def __init__(self) -> None:
        self._inbox = bytearray()
        self._over = False
        self._transport: asyncio.Transport | None = None
        self._arrived = asyncio.Event()
        self._writable: Callable[[], asyncio.Future[None] | None] = lambda: None

    def attach(self, transport: asyncio.Transport, writable: Callable[[], asyncio.Future[None] | None]) -> None:
        """The answer was sent: from now on it can be written to."""
        self._transport, self._writable = transport, writable

    def feed(self, data: bytes, transport: asyncio.Transport | None) -> None:
        self._inbox += data
        self._arrived.set()
        if len(self._inbox) > INBOX_LIMIT and transport is not None:
            transport.pause_reading()

    def end(self) -> None:
        self._over = True
        self._arrived.set()

    async def read(self) -> bytes:
        """Return what has come; nothing at the end."""
        while not self._inbox and not self._over:
            self._arrived.clear()
            await self._arrived.wait()
        data = bytes(self._inbox)
        self._inbox.clear()
        if self._transport is not None and not self._over:
            self._transport.resume_reading()
        return data

    async def write(self, data: bytes) -> None:
        """Raises ``ChannelClosed``. Waits while the other side does not read."""
        if self._transport is None or self._transport.is_closing():
            raise ChannelClosed
        self._transport.write(data)
        waiting = self._writable()
        if waiting is not None:
            await waiting
