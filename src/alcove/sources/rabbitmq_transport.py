"""The connection to a RabbitMQ that a tenant names: to the address that was checked, and bounded, since it can be
anything.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

from aiormq.connection import TransportFactory
from yarl import URL

from alcove.sources.source import ITEM_BYTES

# RabbitMQ's frames are 128 KiB; the heads of frames have their length in front.
FRAME_BYTES = 1 << 20


class _BoundedReader(asyncio.StreamReader):
    async def readexactly(self, n: int) -> bytes:
        if n > FRAME_BYTES:
            raise ConnectionError("a frame is too large")
        return await super().readexactly(n)


class BoundedTransport(TransportFactory):
    """Connects to one address, whatever the URL says; under TLS the certificate must be for ``name``."""

    def __init__(self, host: str, port: int, *, tls: ssl.SSLContext | None = None, name: str = "") -> None:
        self._host = host
        self._port = port
        self._tls: dict[str, Any] = {} if tls is None else {"ssl": tls, "server_hostname": name}

    async def create(self, url: URL, **options: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop = asyncio.get_running_loop()
        reader = _BoundedReader(limit=FRAME_BYTES, loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport, _ = await loop.create_connection(lambda: protocol, self._host, self._port, **self._tls)
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


def bound_content(channel: Any) -> None:
    """Have the channel read no more of a message's body than an item may have; ``header.too_large`` says so."""
    read = channel._read_content

    async def bounded(frame: Any, header: Any) -> Any:
        if header.body_size <= ITEM_BYTES:
            return await read(frame, header)
        left, whole = header.body_size, header.body_size
        while left > 0:
            left -= len((await channel._get_frame()).value)
        header.body_size = 0
        message = await read(frame, header)
        header.body_size, header.too_large = whole, True
        return message

    channel._read_content = bounded
