"""HTTP/1.1 whose bodies are never held: they are read and written piece by piece, with back-pressure both ways.

For the object store, whose bodies are large and whose requests are few beside the invocations that ``connection``
serves. A handler gets a ``StreamRequest`` as soon as its head is there and reads the body itself; an answer may be a
``StreamResponse``. A client is told to continue (``Expect``) when the handler begins to read, so that one which is
refused sends nothing. What a handler leaves unread of a body is read and thrown away, up to ``DISCARD_LIMIT``.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from alcove.errors import InvalidRequest
from alcove.gateway.http import Server
from alcove.gateway.link import Link, unanswered
from alcove.gateway.message import Handler, Refusal, Request, Response, plain_refusal
from alcove.gateway.reader import BODY_BYTES_A_SECOND, DISCARD_LIMIT, Budget, Refused, RequestReader
from alcove.gateway.shares import Shares

log = logging.getLogger(__name__)

# Of a body, received and not read: beyond it the client waits. uvloop reads up to 256 KiB at once.
HELD_BYTES = 256 << 10
WAITING_LIMIT = 16
CONNECTION_LIMIT = 512
# The largest object that one request may carry, and what its encoding adds.
BODY_LIMIT = (5 << 30) + (64 << 20)


class BodyBroken(InvalidRequest):
    """The client went away, or broke HTTP, within the body."""


class Body:
    """A request's body: ``async for`` it, once."""

    def __init__(self, connection: StreamConnection, *, expects: bool) -> None:
        self.complete = False
        self.broken = False
        self.held = 0
        self.expects = expects
        self._connection = connection
        self._pieces: deque[bytes] = deque()
        self._waiter: asyncio.Future[None] | None = None

    def feed(self, data: bytes) -> None:
        self._pieces.append(data)
        self.held += len(data)
        self._wake()

    def finish(self, *, broken: bool = False) -> None:
        if not self.complete:
            self.complete = not broken
            self.broken = broken
            self._wake()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self.expects:
            self.expects = False
            self._connection.tell_to_continue()
        while not self._pieces:
            if self.complete:
                raise StopAsyncIteration
            if self.broken:
                raise BodyBroken("The request's body ended too early.")
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        data = self._pieces.popleft()
        self.held -= len(data)
        self._connection.was_read()
        return data

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


@dataclass
class StreamRequest(Request):
    """A request whose ``content`` is yet to come; ``body`` is empty."""

    content: Body = field(kw_only=True)


@dataclass(slots=True)
class StreamResponse(Response):
    """An answer of ``length`` bytes, which ``content`` yields; ``close`` is called once they are sent, or never will
    be.
    """

    length: int = 0
    content: AsyncIterator[bytes] | None = None
    close: Callable[[], Awaitable[None]] | None = None


class StreamServer(Server):
    """As ``Server``, for handlers of ``StreamRequest``."""

    def __init__(self, handler: Handler, *, refusal: Refusal = plain_refusal, shares: Shares | None = None) -> None:
        super().__init__(
            handler, body_limit=lambda *_: BODY_LIMIT, refusal=refusal, connection_limit=CONNECTION_LIMIT, shares=shares
        )

    def connect(self) -> StreamConnection:
        return StreamConnection(self)


class _Reader(RequestReader):
    """Hands on the head when it is whole, then the body as it comes."""

    def __init__(self, connection: StreamConnection, server: StreamServer) -> None:
        super().__init__(connection, Budget(0), server.body_limit)
        self._connection = connection
        self._current: Body | None = None
        self.expected = False

    def on_headers_complete(self) -> None:
        self.expected = False
        super().on_headers_complete()
        if self._refusal is not None:
            raise self._refusal
        head = self._request(b"")
        self._current = Body(self._connection, expects=self.expected)
        request = StreamRequest(
            head.method, head.raw_path, head.raw_query, head.headers, b"", head.peer, content=self._current
        )
        self._connection.begin(request, close=not self._parser.should_keep_alive())

    def on_body(self, body: bytes) -> None:
        assert self._current is not None
        self._body_bytes += len(body)
        self.deadline_s += len(body) / BODY_BYTES_A_SECOND
        if self._body_bytes > self._limit:
            raise self._too_large()
        self._current.feed(body)

    def on_message_complete(self) -> None:
        self.in_message = False
        self._end()

    def drop_body(self) -> None:
        """Nothing more comes of the body that is under way."""
        self._end(broken=True)

    def _end(self, *, broken: bool = False) -> None:
        if self._current is not None:
            self._current.finish(broken=broken)
            self._current = None


class StreamConnection(Link):
    """Made by ``StreamServer`` for each connection."""

    _reader: _Reader

    def __init__(self, server: StreamServer) -> None:
        super().__init__(server, _Reader(self, server))
        self._waiting: deque[tuple[StreamRequest | None, bool, Refused | None]] = deque()
        self._current: StreamRequest | None = None
        self._paused_s = 0.0

    # Called by the transport

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._throttle()

    def eof_received(self) -> bool:
        self._reader.drop_body()
        return super().eof_received()

    # Called by the reader and the body

    def request(self, request: Request, *, close: bool, refusal: Refused | None) -> None:
        raise AssertionError("bodies are never whole here")

    def expects_continue(self) -> None:
        self._reader.expected = True

    def begin(self, request: StreamRequest, *, close: bool) -> None:
        if len(self._waiting) >= WAITING_LIMIT:
            raise Refused(400, "Too many requests wait on this connection.")
        self._enqueue(request, close, None)

    def was_read(self) -> None:
        if self._paused_s and self._transport is not None and not self._full():
            # The time that the client was kept waiting is not its own.
            self._reader.deadline_s += time.monotonic() - self._paused_s
            self._paused_s = 0.0
            self._transport.resume_reading()

    # Answers

    def _enqueue(self, request: StreamRequest | None, close: bool, refusal: Refused | None) -> None:
        self._waiting.append((request, close, refusal))
        if self._task is None:
            self._busy = True
            self._task = asyncio.get_running_loop().create_task(self._serve())

    async def _serve(self) -> None:
        try:
            while self._waiting and self._transport is not None:
                request, close, refusal = self._waiting.popleft()
                self._current = request
                if request is None or refusal is not None:
                    assert refusal is not None
                    await self._send(self._server.refusal(self._reader.partial(), refusal.status, str(refusal)), True)
                    self._end(linger=True)
                    return
                response = await self._answer(request)
                try:
                    close = close or self._server.draining or not await self._discard(request.content)
                    await self._send(response, close, head=request.method == "HEAD")
                finally:
                    if isinstance(response, StreamResponse) and response.close is not None:
                        await response.close()
                if close:
                    self._end(linger=not request.content.complete)
        finally:
            self._task = None
            self._current = None
            if self._rest():
                self.was_read()

    async def _answer(self, request: StreamRequest) -> Response:
        try:
            return await self._server.handler(request)
        except Exception:
            return unanswered(request)

    async def _discard(self, body: Body) -> bool:
        """Read what the handler left; tell whether the connection can go on."""
        if body.expects:
            return False
        left = DISCARD_LIMIT
        try:
            async for piece in body:
                left -= len(piece)
                if left < 0:
                    return False
        except BodyBroken:
            return False
        return True

    async def _send(self, response: Response, close: bool, *, head: bool = False) -> None:
        if not isinstance(response, StreamResponse):
            self._write(response.encode(self._server.date, close=close, head=head))
            return
        self._write(_head(response, self._server.date, close))
        if head or response.content is None:
            return
        sent = 0
        try:
            async for piece in response.content:
                self._write(piece)
                sent += len(piece)
                if self._writable is not None:
                    await self._writable
                if self._transport is None:
                    return
        except Exception:
            log.exception("an answer broke off")
        if sent != response.length and self._transport is not None:
            self._transport.abort()

    def _enqueue_refusal(self, refusal: Refused) -> None:
        self._enqueue(None, True, refusal)

    def _drop_waiting(self) -> None:
        self._waiting.clear()

    # Flow

    def _full(self) -> bool:
        held = sum(request.content.held for request, _, _ in self._waiting if request is not None)
        return held + (0 if self._current is None else self._current.content.held) > HELD_BYTES

    def _throttle(self) -> None:
        if not self._paused_s and self._transport is not None and not self._last_read and self._full():
            self._paused_s = time.monotonic()
            self._transport.pause_reading()

    def _client_is_due(self) -> bool:
        told = self._current is None or not self._current.content.expects
        return told and not self._paused_s


def _head(response: StreamResponse, date: bytes, close: bool) -> bytes:
    bare = Response(response.status, response.headers).encode(date, close=close, head=True)
    length = f"\r\nContent-Length: {response.length}\r\n".encode()
    return bare.replace(b"\r\nContent-Length: 0\r\n", length, 1)
