"""One HTTP/1.1 connection: answers in the order of the questions, one at a time.

While ``PIPELINE_LIMIT`` requests wait nothing more is read. Nothing is answered while the client
does not read its answers.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from alcove.gateway.channel import Channel, ChannelClosed
from alcove.gateway.link import Link, unanswered
from alcove.gateway.message import Request, Response
from alcove.gateway.reader import Refused, RequestReader, Upgraded

if TYPE_CHECKING:
    from alcove.gateway.http import Server

log = logging.getLogger(__name__)

PIPELINE_LIMIT = 16


class Connection(Link):
    """Made by ``Server`` for each connection."""

    def __init__(self, server: Server) -> None:
        super().__init__(server, RequestReader(self, server.budget, server.body_limit, server.allowed))
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[Request, bool, Refused | None]] = deque()
        self._asked: asyncio.Future[None] | None = None
        self._channel: Channel | None = None
        self._continue_due = False

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._wake()
        if self._channel is not None:
            self._channel.end()

    def data_received(self, data: bytes) -> None:
        if self._channel is not None:
            self._channel.feed(data, self._transport)
            return
        super().data_received(data)

    def eof_received(self) -> bool:
        if self._channel is not None:
            self._channel.end()
        return super().eof_received()

    def _refuse(self, refusal: Refused) -> None:
        if isinstance(refusal, Upgraded):
            self._channel = Channel()
            self._channel.feed(refusal.rest, self._transport)
        super()._refuse(refusal)

    # Called by the reader

    def expects_continue(self) -> None:
        if self._busy:
            self._continue_due = True
        else:
            self.tell_to_continue()

    def request(self, request: Request, *, close: bool, refusal: Refused | None) -> None:
        self._waiting.append((request, close, refusal))
        self._last_read = self._last_read or close
        self._busy = True
        if self._task is None:
            # One task for all requests, from the first one on.
            self._task = self._loop.create_task(self._serve())
        else:
            self._wake()
        if len(self._waiting) >= PIPELINE_LIMIT and self._transport is not None:
            self._transport.pause_reading()

    # Answers

    async def _serve(self) -> None:
        """Answer what was asked, in order, for as long as the connection is there."""
        try:
            while self._transport is not None:
                if self._waiting:
                    await self._answer_next()
                else:
                    await self._wait()
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
            response = unanswered(request)
        finally:
            self._server.budget.held -= len(request.body)
        close = close or self._server.draining
        if response.takeover is not None and self._channel is not None and self._transport is not None:
            await self._hand_over(request, response, self._channel, self._transport)
            close = True
        elif response.parts is not None:
            close = await self._send_parts(request, response, response.parts, close=close)
        else:
            self._write(response.encode(self._server.date, close=close, head=request.method == "HEAD"))
            if self._writable is not None:
                await self._writable
        if close:
            self._end(linger=refusal is not None)

    async def _hand_over(
        self, request: Request, response: Response, channel: Channel, transport: asyncio.Transport
    ) -> None:
        """Let the answer's own protocol have the connection until it is done with it."""
        assert response.takeover is not None
        self._write(response.encode(self._server.date, close=False, head=True))
        channel.attach(transport, lambda: self._writable)
        try:
            await response.takeover(channel)
        except ChannelClosed:
            pass
        except Exception as error:
            log.info("%s %s broke off: %s", request.method, request.raw_path, error)

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

    async def _wait(self) -> None:
        """Wait for the next request, or for the end."""
        if self._rest() and self._continue_due:
            self._continue_due = False
            self.tell_to_continue()
        self._asked = self._loop.create_future()
        await self._asked

    def _wake(self) -> None:
        if self._asked is not None and not self._asked.done():
            self._asked.set_result(None)

    def _enqueue_refusal(self, refusal: Refused) -> None:
        self.request(self._reader.partial(), close=True, refusal=refusal)

    def _drop_waiting(self) -> None:
        while self._waiting:
            self._server.budget.held -= len(self._waiting.popleft()[0].body)

    def _client_is_due(self) -> bool:
        return not self._busy
