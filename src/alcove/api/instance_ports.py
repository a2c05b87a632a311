"""A port of an instance over WebSocket: one connection each.

Messages are as Kubernetes' ``portforward`` has them for one port: the first byte is the channel, 0 the connection's
bytes, 1 what went wrong, in words. On each, first come two bytes from here: the port, the lower byte first. As in
``v5.channel.k8s.io``, 255 and a channel's number end that channel, so that each way ends by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from alcove.api.context import Call
from alcove.api.dialect import AWS
from alcove.api.instances import whole
from alcove.api.router import Route
from alcove.api.schema import Detail
from alcove.api.websocket import WebSocket, accept
from alcove.errors import AlcoveError, InvalidRequest
from alcove.gateway.channel import ChannelClosed
from alcove.gateway.message import Response

PROTOCOL = "v5.channel.k8s.io"
DATA, ERROR, CLOSE = 0, 1, 255
_HIGHEST = 65_535


async def forward_port(call: Call, name: str) -> Response:
    """A connection to a port of an instance."""
    port = whole(call.request.query.get("ports", ""), "ports") or 0
    if not 0 < port <= _HIGHEST:
        raise InvalidRequest(f"'ports' must be one port, from 1 to {_HIGHEST}.")
    instances = call.faces.services.instances
    sandbox = await instances.sandbox_id(call.tenant, name)

    async def talk(socket: WebSocket) -> None:
        with instances.session_of(call.tenant):
            for channel in (DATA, ERROR):
                await socket.send(bytes((channel,)) + port.to_bytes(2, "little"))
            near = Near(socket)
            await _until_one_ends(near, instances.carry(sandbox, port, near))

    instances.require_session(call.tenant)
    return accept(call, (PROTOCOL,), talk)


async def _until_one_ends(near: Near, work: Coroutine[Any, Any, None]) -> None:
    hearing, carrying = asyncio.create_task(near.hear()), asyncio.create_task(work)
    try:
        # Who goes away ends it.
        await asyncio.wait((hearing, carrying), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (hearing, carrying):
            task.cancel()
        _, end = await asyncio.gather(hearing, carrying, return_exceptions=True)
    if isinstance(end, AlcoveError):
        await near.tell(str(end))
    elif isinstance(end, Exception) and not isinstance(end, ChannelClosed):
        raise end
    await near.flushed()


class Near:
    """The client's end, as a reader and a writer; ``hear`` goes on meanwhile, and returns when the client leaves."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        # One message waits; while it does no other is read.
        self._arrived: asyncio.Queue[bytes] = asyncio.Queue(1)
        self._rest = b""
        self._ended = False
        self._out: list[bytes] = []
        self._flushing: asyncio.Task[None] | None = None

    async def hear(self) -> None:
        ended = False
        async for message in self._socket.messages():
            ended = ended or message == bytes((CLOSE, DATA))
            if ended or (message[:1] == bytes((DATA,)) and len(message) > 1):
                await self._arrived.put(b"" if ended else message[1:])

    async def read(self, n: int, /) -> bytes:
        """Return what has come, at most so much; nothing at the end."""
        if not self._rest and not self._ended:
            self._rest = await self._arrived.get()
            self._ended = not self._rest
        data, self._rest = self._rest[:n], self._rest[n:]
        return data

    def write(self, data: bytes, /) -> None:
        self._out.append(bytes((DATA,)) + data)

    def write_eof(self) -> None:
        self._out.append(bytes((CLOSE, DATA)))
        self._flushing = asyncio.create_task(self.drain())

    async def drain(self) -> None:
        """Raises ``ChannelClosed``."""
        while self._out:
            await self._socket.send(self._out.pop(0))

    async def flushed(self) -> None:
        """Wait until the end has been told."""
        if self._flushing is not None:
            await asyncio.gather(self._flushing, return_exceptions=True)

    async def tell(self, words: str) -> None:
        with suppress(ChannelClosed):
            await self._socket.send(bytes((ERROR,)) + words.encode()[:4096])


ROUTES = (
    Route(
        "GET",
        "/alcove/v1/pods/{name}/portforward",
        forward_port,
        AWS,
        detail=Detail(query=("ports",), needs=("ports",), status=101),
        audited=True,
    ),
)
