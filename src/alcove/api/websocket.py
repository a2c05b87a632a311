"""WebSocket (RFC 6455) for operations that go on in both directions; the frames are wsproto's work."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage
from wsproto.utilities import ProtocolError

from alcove.api.context import Call
from alcove.errors import InvalidRequest
from alcove.gateway.channel import Channel, ChannelClosed
from alcove.gateway.message import Response

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
# Of one message, all of its frames together.
MESSAGE_LIMIT = 1 << 20
_NORMAL, _TOO_LARGE, _BROKEN = 1000, 1009, 1002
# Who says nothing, not even to a ping, is gone.
PING_EVERY_S, SILENCE_S = 30.0, 90.0
# As long as the other side gets to take what is left when it ends.
_FAREWELL_S = 5.0


class WebSocket:
    """``messages`` until the other side ends; ``send`` meanwhile."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._frames = Connection(ConnectionType.SERVER)
        self._partial = bytearray()
        self._heard_s = time.monotonic()
        self._listening = False
        self._left = False
        self._refusing = False

    async def keep_alive(self) -> None:
        """Ping now and then, and return when the other side has gone silent; ``messages`` hears it meanwhile."""
        while not self._listening or time.monotonic() - self._heard_s < SILENCE_S:
            await asyncio.sleep(PING_EVERY_S)
            await self._channel.write(self._frames.send(Ping()))

    async def messages(self) -> AsyncIterator[bytes]:
        """Yield whole messages, text as UTF-8."""
        while data := await self._hear():
            try:
                self._frames.receive_data(data)
                for event in self._frames.events():
                    if isinstance(event, Ping):
                        await self._channel.write(self._frames.send(event.response()))
                    elif isinstance(event, CloseConnection):
                        self._left = True
                        await self._channel.write(self._frames.send(event.response()))
                        return
                    elif (
                        isinstance(event, BytesMessage | TextMessage)
                        and (whole := self._put_together(event)) is not None
                    ):
                        yield whole
            except ProtocolError:
                self._left = True
                await self.close(_BROKEN)
                return
            except _TooLarge:
                # What is on its way is read all the same: closing before it would reset the connection.
                self._refusing = True
                await self.close(_TOO_LARGE)
                return
        self._left = True

    async def _hear(self) -> bytes:
        # Who is not listened to, for the program does not read, is not silent.
        self._heard_s, self._listening = time.monotonic(), True
        try:
            return await self._channel.read()
        finally:
            self._heard_s, self._listening = time.monotonic(), False

    async def send(self, data: bytes) -> None:
        """Raises ``ChannelClosed``, also where the other side has said that it is at its end."""
        try:
            frame = self._frames.send(BytesMessage(data=data))
        except ProtocolError:
            raise ChannelClosed from None
        await self._channel.write(frame)

    async def part(self) -> None:
        """End it, and let the other side end it too before the connection goes (RFC 6455, 7.1.1)."""
        try:
            async with asyncio.timeout(_FAREWELL_S):
                await self.close()
                if not self._left:
                    async for _ in self.messages():
                        pass
        except (TimeoutError, ChannelClosed):
            pass

    async def close(self, code: int = _NORMAL) -> None:
        try:
            await self._channel.write(self._frames.send(CloseConnection(code=code)))
        except (ChannelClosed, ProtocolError):
            pass

    def _put_together(self, event: BytesMessage | TextMessage) -> bytes | None:
        if self._refusing:
            return None
        piece = event.data.encode() if isinstance(event, TextMessage) else bytes(event.data)
        if len(self._partial) + len(piece) > MESSAGE_LIMIT:
            raise _TooLarge
        self._partial += piece
        if not event.message_finished:
            return None
        whole = bytes(self._partial)
        self._partial.clear()
        return whole


class _TooLarge(Exception):
    pass


def accept(call: Call, protocols: tuple[str, ...], talk: Callable[[WebSocket], Awaitable[None]]) -> Response:
    """Answer a request for a WebSocket; ``talk`` has it from then on. Raises ``InvalidRequest`` for another request."""
    headers = call.request.headers
    # Only what the parser takes for an upgrade has a connection to hand over.
    leaves = "upgrade" in headers.get("connection", "").lower() and call.request.version != "1.0"
    if not leaves or headers.get("upgrade", "").lower() != "websocket" or headers.get("sec-websocket-version") != "13":
        raise InvalidRequest("This operation is a WebSocket (RFC 6455).", hint="alcove exec and port-forward speak it")
    offered = [one.strip() for one in headers.get("sec-websocket-protocol", "").split(",") if one.strip()]
    chosen = next((one for one in protocols if one in offered), None)
    if offered and chosen is None:
        raise InvalidRequest(f"Of the subprotocols only {', '.join(protocols)} is spoken.")
    out = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": _proof(headers)}
    if chosen is not None:
        out["Sec-WebSocket-Protocol"] = chosen

    async def takeover(channel: Channel) -> None:
        socket = WebSocket(channel)
        talking, alive = asyncio.ensure_future(talk(socket)), asyncio.create_task(socket.keep_alive())
        try:
            await asyncio.wait((talking, alive), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (talking, alive):
                task.cancel()
            _, ending = await asyncio.gather(alive, talking, return_exceptions=True)
            await socket.part()
        if isinstance(ending, Exception):
            raise ending

    return Response(101, out, takeover=takeover)


def _proof(headers: dict[str, str]) -> str:
    key = headers.get("sec-websocket-key", "")
    try:
        good = len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        good = False
    if not good:
        raise InvalidRequest("Sec-WebSocket-Key must be 16 bytes in base64.")
    return base64.b64encode(hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()).decode()
