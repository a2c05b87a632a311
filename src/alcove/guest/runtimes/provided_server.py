"""The HTTP server of the Runtime API: connections on loopback, requests in order, answers that may come later."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from typing import Protocol

from alcove.guest.runtimes.provided_calls import Call
from alcove.guest.runtimes.provided_errors import Response, refusal
from alcove.guest.runtimes.provided_http import CONTINUE, BadRequest, Request, RequestReader, Sink, encode_response
from alcove.guest.runtimes.provided_loop import Loop

_CHUNK = 256 * 1024
# A hundred that wait for events, as many that answer, and some.
_CONNECTIONS = 256


class Connection:
    """One client. ``request`` is the one that waits for its answer, ``streaming`` the call whose answer it brings."""

    def __init__(self, sock: socket.socket, choose: Callable[[Connection, Request], Sink | None]) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.reader = RequestReader(lambda request: choose(self, request))
        self.out = bytearray()
        self.mask = select.EPOLLIN
        self.request: Request | None = None
        self.streaming: Call | None = None
        self.closing = False


class Routes(Protocol):
    """What is served."""

    def choose(self, connection: Connection, request: Request) -> Sink | None:
        """Return who takes the request's body as it comes, or None."""
        ...

    def route(self, connection: Connection, request: Request) -> Response | None:
        """Return the answer, or None where the request waits for ``Server.respond``."""
        ...

    def lost(self, connection: Connection) -> None:
        """Nothing more comes from there."""
        ...


class Server:
    """``address`` is where it listens."""

    def __init__(self, loop: Loop, port: int, routes: Routes) -> None:
        self._loop = loop
        self._routes = routes
        self._listener = socket.create_server(("127.0.0.1", port), backlog=_CONNECTIONS)
        self._listener.setblocking(False)
        self.address: tuple[str, int] = self._listener.getsockname()
        self._connections: dict[int, Connection] = {}
        loop.watch(self._listener.fileno(), self._accept)

    def close_all(self) -> None:
        """Let go of every client."""
        for connection in list(self._connections.values()):
            self._close(connection)

    def respond(self, connection: Connection, response: Response) -> None:
        """Answer the request that waits, and look for the next: it may have come already."""
        self._answer(connection, response)
        self._work_off(connection)

    def _accept(self, events: int) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        if len(self._connections) >= _CONNECTIONS:
            sock.close()
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(sock, self._routes.choose)
        self._connections[connection.fd] = connection
        self._loop.watch(connection.fd, lambda events: self._on_events(connection, events))

    def _close(self, connection: Connection) -> None:
        self._routes.lost(connection)
        if self._connections.pop(connection.fd, None) is not None:
            self._loop.forget(connection.fd)
            connection.sock.close()

    def _on_events(self, connection: Connection, events: int) -> None:
        try:
            if events & select.EPOLLOUT:
                self._flush(connection)
            if events & ~select.EPOLLOUT:
                data = connection.sock.recv(_CHUNK)
                if not data:
                    self._close(connection)
                    return
                if not connection.closing:
                    connection.reader.feed(data)
            self._work_off(connection)
        except BlockingIOError:
            pass
        except OSError:
            self._close(connection)

    def _work_off(self, connection: Connection) -> None:
        """Answer each request that has come whole, in order."""
        try:
            while connection.request is None and not connection.closing:
                request = connection.reader.next()
                if request is None:
                    if connection.reader.expects_continue:
                        connection.reader.expects_continue = False
                        self._write(connection, CONTINUE)
                    return
                connection.request = request
                response = self._routes.route(connection, request)
                if response is not None:
                    self._answer(connection, response)
        except BadRequest as error:
            self._routes.lost(connection)
            status, body, headers = refusal(error.status, "InvalidRequest", str(error))
            connection.closing = True
            self._write(connection, encode_response(status, body, headers, keep=False))

    def _answer(self, connection: Connection, response: Response) -> None:
        status, body, headers = response
        request, connection.request = connection.request, None
        assert request is not None
        connection.closing = not request.keep
        with_body = request.method != "HEAD"
        self._write(connection, encode_response(status, body, headers, keep=request.keep, with_body=with_body))

    def _write(self, connection: Connection, data: bytes) -> None:
        connection.out += data
        try:
            self._flush(connection)
        except OSError:
            self._close(connection)

    def _flush(self, connection: Connection) -> None:
        try:
            while connection.out:
                sent = connection.sock.send(memoryview(connection.out)[:_CHUNK])
                del connection.out[:sent]
        except BlockingIOError:
            pass
        if connection.closing and not connection.out and connection.fd in self._connections:
            # What else it sends is thrown away until it closes: closing now could cost it this.
            connection.sock.shutdown(socket.SHUT_WR)
        mask = select.EPOLLIN | (select.EPOLLOUT if connection.out else 0)
        if mask != connection.mask and connection.fd in self._connections:
            connection.mask = mask
            self._loop.change(connection.fd, mask)
