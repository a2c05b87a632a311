"""One HTTP/1.1 connection: answers in the order of the questions, one at a time.

While ``PIPELINE_LIMIT`` requests wait nothing more is read. Nothing is answered while the client
does not read its answers. Time limits are checked by the server's sweep, once a second, so that a
request costs no timer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from alcove.gateway.message import Peer, Request, Response
from alcove.gateway.reader import HEAD_TIMEOUT_S, Refused, RequestReader

if TYPE_CHECKING:
    from alcove.gateway.http import Server

log = logging.getLogger(__name__)

PIPELINE_LIMIT = 16
IDLE_TIMEOUT_S = 75.0
# A client that reads nothing of an answer for so long is cut off.
WRITE_TIMEOUT_S = 60.0
# After a refusal, what the client still sends is thrown away for so long: closing at once would
# reset the connection, and the client might lose the answer (RFC 9112, section 9.6).
LINGER_S = 2.0
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Connection(asyncio.Protocol):
    """Made by ``Server`` for each connection; calls its handler for one request at a time."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._reader = RequestReader(self, server.budget, server.body_limit, server.allowed)
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[tuple[Request, bool, Refused | None]] = deque()
        # One task for all requests, from the first one on.
        self._task: asyncio.Task[None] | None = None
        self._busy = False
        self._asked: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._last_read = False  # nothing that the client sends from now on counts
        self._continue_due = False
        self._lingering = False
        self._deadline_s = time.monotonic() + HEAD_TIMEOUT_S

    @property
    def peer(self) -> Peer:
        return self._reader.peer

    # Called by the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        assert self._transport is not None
        self._reader.peer = self._server.peer_of(self._transport)
        if not self._server.admit(self):
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        # A request under way is not cancelled: its function runs to its end, as on AWS.
        self._transport = None
        self._reader.drop_body()
        self._drop_waiting()
        self._wake()
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._server.forget(self)

    def data_received(self, data: bytes) -> None:
        if self._last_read:
            return
        try:
            self._reader.feed(data)
        except Refused as refusal:
            self._refuse(refusal)

    def eof_received(self) -> bool:
        # The client may have shut its side only: what it asked for is still answered.
        self._last_read = True
        return self._busy

    def pause_writing(self) -> None:
        self._writable = self._loop.create_future()
        self._deadline_s = time.monotonic() + WRITE_TIMEOUT_S

    def resume_writing(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    # Called by the reader

    def expects_continue(self) -> None:
        if self._busy:
            self._continue_due = True
        else:
            self._write(_CONTINUE)

    def request(self, request: Request, *, close: bool, refusal: Refused | None) -> None:
        self._waiting.append((request, close, refusal))
        self._last_read = self._last_read or close
        self._busy = True
        if self._task is None:
            self._task = self._loop.create_task(self._serve())
        else:
            self._wake()
        if len(self._waiting) >= PIPELINE_LIMIT and self._transport is not None:
            self._transport.pause_reading()

    # Called by the server

    def expire(self, now_s: float) -> None:
        """Called by the sweep: end what is idle, slow, or does not read."""
        if self._transport is None:
            return
        if self._writable is not None or self._lingering:
            if now_s > self._deadline_s:
                self._transport.abort()
        elif self._busy:
            return
        elif self._reader.in_message:
            if now_s > self._reader.deadline_s:
                self._refuse(Refused(408, "The request took too long to arrive."))
        elif now_s > self._deadline_s:
            self._transport.close()

    def drain(self) -> None:
        """End now where nothing is under way; else after the answer."""
        if not self._busy and not self._reader.in_message and self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._task is not None:
            self._task.cancel()
        if self._transport is not None:
            self._transport.abort()

    # Answers

    async def _serve(self) -> None:
        """Answer what was asked, in order, for as long as the connection is there."""
        try:
            while self._transport is not None:
                if self._waiting:
                    await self._answer_next()
                else:
                    await self._rest()
        finally:
            self._task = None
            self._busy = False

    async def _answer_next(self) -> None:
        if len(self._waiting) == PIPELINE_LIMIT and self._transport is not None:
            self._transport.resume_reading()
        request, close, refusal = self._waiting.popleft()
        try:
            if refusal is None:
                response = await self._server.handler(request)
            else:
                response = self._server.refusal(request, refusal.status, str(refusal))
        except Exception:
            # The application answers its own failures; this is the last resort.
            log.exception("unanswered failure: %s %s", request.method, request.raw_path)
            response = Response(500, {"Content-Type": "text/plain"}, b"internal error\n")
        finally:
            self._server.budget.held -= len(request.body)
        close = close or self._server.draining
        if response.parts is not None:
            close = await self._send_parts(request, response, response.parts, close=close)
        else:
            self._write(response.encode(self._server.date, close=close, head=request.method == "HEAD"))
            if self._writable is not None:
                await self._writable
        if close:
            self._end(linger=refusal is not None)

    async def _send_parts(
        self, request: Request, response: Response, parts: AsyncGenerator[bytes, None], *, close: bool
    ) -> bool:
        """Send an answer as it is made, as fast as the client reads; return whether the connection ends after it."""
        # HTTP/1.0 knows no chunks: there the end of the connection is the end of the answer.
        bare = request.method == "HEAD" or response.status in (204, 304)
        chunked = request.version != "1.0" and not bare
        close = close or not (chunked or bare)
        try:
            self._write(response.encode(self._server.date, close=close, head=bare, chunked=chunked))
            async for data in parts:
                if bare or self._transport is None or self._transport.is_closing():
                    return close
                if data:
                    self._write(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)
                if self._writable is not None:
                    await self._writable
            if chunked:
                self._write(b"0\r\n\r\n")
        except Exception as error:
            log.info("an answer to %s %s broke off: %s", request.method, request.raw_path, error)
            if not chunked and self._transport is not None:
                self._transport.abort()
            # What was made before still arrives; the last chunk does not.
            return True
        finally:
            await parts.aclose()
        return close

    async def _rest(self) -> None:
        """Between requests: be idle until the next, or end where nothing more may come."""
        self._busy = False
        if self._transport is not None and not self._lingering:
            if self._last_read or (self._server.draining and not self._reader.in_message):
                self._transport.close()
            elif self._continue_due:
                self._continue_due = False
                self._write(_CONTINUE)
        self._deadline_s = time.monotonic() + (LINGER_S if self._lingering else IDLE_TIMEOUT_S)
        self._asked = self._loop.create_future()
        await self._asked

    def _wake(self) -> None:
        if self._asked is not None and not self._asked.done():
            self._asked.set_result(None)

    def _refuse(self, refusal: Refused) -> None:
        """Answer what was asked before, then this, then end."""
        self._reader.drop_body()
        self._reader.in_message = False
        self._last_read = True
        if refusal.status:
            self.request(self._reader.partial(), close=True, refusal=refusal)
        elif not self._busy and self._transport is not None:
            self._transport.close()

    def _end(self, *, linger: bool) -> None:
        self._drop_waiting()
        self._last_read = True
        if self._transport is None:
            return
        if linger and self._transport.can_write_eof():
            self._lingering = True
            self._deadline_s = time.monotonic() + LINGER_S
            self._transport.write_eof()
        else:
            self._transport.close()

    def _drop_waiting(self) -> None:
        while self._waiting:
            self._server.budget.held -= len(self._waiting.popleft()[0].body)

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)
