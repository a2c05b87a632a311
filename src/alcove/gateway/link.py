"""What all HTTP connections share: the transport, its back-pressure, their time limits, their ends.

How requests are read and answered is each kind's own (``connection``, ``streaming``). Time limits are checked by the
server's sweep, once a second, so that a request costs no timer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from alcove.gateway.message import Peer, Request, Response
from alcove.gateway.reader import HEAD_TIMEOUT_S, Refused, RequestReader

if TYPE_CHECKING:
    from alcove.gateway.http import Server

log = logging.getLogger(__name__)

IDLE_TIMEOUT_S = 75.0
# A client that reads nothing of an answer for so long is cut off.
WRITE_TIMEOUT_S = 60.0
# After a refusal, what the client still sends is thrown away for so long: closing at once would
# reset the connection, and the client might lose the answer (RFC 9112, section 9.6).
LINGER_S = 2.0
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Link(asyncio.Protocol, ABC):
    """One connection of a ``Server``; calls its handler for one request at a time."""

    def __init__(self, server: Server, reader: RequestReader) -> None:
        self._server = server
        self._reader = reader
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._busy = False
        self._writable: asyncio.Future[None] | None = None
        self._last_read = False  # nothing that the client sends from now on counts
        self._lingering = False
        self._deadline_s = time.monotonic() + HEAD_TIMEOUT_S

    @property
    def peer(self) -> Peer:
        return self._reader.peer

    # Each kind's own

    @abstractmethod
    def _enqueue_refusal(self, refusal: Refused) -> None:
        """Answer with it what was read last, after all that was asked before; then end."""

    @abstractmethod
    def _drop_waiting(self) -> None:
        """Forget the requests that were read and are not yet answered."""

    @abstractmethod
    def _client_is_due(self) -> bool:
        """Tell whether the rest of a request is for the client to send now."""

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
        self._last_read = True
        self._reader.drop_body()
        self._drop_waiting()
        self.resume_writing()
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
        self._writable = asyncio.get_running_loop().create_future()
        self._deadline_s = time.monotonic() + WRITE_TIMEOUT_S

    def resume_writing(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    # Called by the server

    def expire(self, now_s: float) -> None:
        """Called by the sweep: end what is idle, slow, or does not read."""
        if self._transport is None:
            return
        if self._writable is not None or self._lingering:
            if now_s > self._deadline_s:
                self._transport.abort()
        elif self._reader.in_message:
            if now_s > self._reader.deadline_s and self._client_is_due():
                self._refuse(Refused(408, "The request took too long to arrive."))
        elif not self._busy and now_s > self._deadline_s:
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

    # Ends

    def _rest(self) -> bool:
        """Between requests: be idle until the next, or end where nothing more may come; tell whether more may."""
        self._busy = False
        if self._transport is None or self._lingering:
            return False
        if self._last_read or (self._server.draining and not self._reader.in_message):
            self._transport.close()
            return False
        self._deadline_s = time.monotonic() + IDLE_TIMEOUT_S
        return True

    def _refuse(self, refusal: Refused) -> None:
        """Answer what was asked before, then this, then end."""
        self._reader.drop_body()
        self._reader.in_message = False
        self._last_read = True
        if refusal.status:
            self._enqueue_refusal(refusal)
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

    # Answers

    def tell_to_continue(self) -> None:
        self._write(_CONTINUE)

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)


def unanswered(request: Request) -> Response:
    """Log the failure at hand and answer it. The application answers its own failures; this is the last resort."""
    log.exception("unanswered failure: %s %s", request.method, request.raw_path)
    return Response(500, {"Content-Type": "text/plain"}, b"internal error\n")
