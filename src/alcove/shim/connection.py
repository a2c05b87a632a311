"""A stream socket on the loop: bytes that came are handed on, bytes to send wait in a bounded place."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable

from alcove.shim.loop import READ, WRITE, Future, Loop

CHUNK = 64 * 1024
# More than this waiting to be sent: whoever feeds the connection should pause.
HIGH_WATER = 256 * 1024


class Connection:
    """``on_data(bytes)`` and, once, ``on_close()`` are called from the loop. Takes the socket over."""

    def __init__(
        self, loop: Loop, sock: socket.socket, on_data: Callable[[bytes], None], on_close: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._socket = sock
        self._on_data = on_data
        self._on_close = on_close
        self._out = bytearray()
        self._room: list[Future[None]] = []
        self.closed = False
        sock.setblocking(False)
        loop.watch(sock.fileno(), READ, self._on_ready)

    @classmethod
    def connect(
        cls, loop: Loop, path: str, on_data: Callable[[bytes], None], on_close: Callable[[], None]
    ) -> Connection:
        """Connect to a UNIX socket. Raises ``OSError``; never waits (a full backlog is ``EAGAIN``)."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            sock.connect(path)
        except BaseException:
            sock.close()
            raise
        return cls(loop, sock, on_data, on_close)

    @property
    def waiting(self) -> int:
        """Bytes that are not sent yet."""
        return len(self._out)

    def send(self, data: bytes) -> None:
        """Send now what can be sent, the rest when there is room. What is sent on a closed connection is lost."""
        if self.closed:
            return
        self._out += data
        self._flush()

    async def room(self) -> None:
        """Wait until less than ``HIGH_WATER`` bytes wait to be sent, or the connection is closed."""
        if len(self._out) >= HIGH_WATER and not self.closed:
            future: Future[None] = self._loop.future()
            self._room.append(future)
            await future

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._loop.unwatch(self._socket.fileno())
        self._socket.close()
        self._out.clear()
        self._wake()
        self._on_close()

    def _on_ready(self, events: int) -> None:
        if events & WRITE:
            self._flush()
        if events & ~WRITE and not self.closed:
            self._receive()

    def _receive(self) -> None:
        try:
            data = self._socket.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._on_data(data)
        else:
            self.close()

    def _flush(self) -> None:
        try:
            while self._out:
                sent = self._socket.send(self._out[:CHUNK])
                del self._out[:sent]
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno != errno.EINTR:
                self.close()
                return
        self._loop.watch(self._socket.fileno(), READ | WRITE if self._out else READ, self._on_ready)
        if len(self._out) < HIGH_WATER:
            self._wake()

    def _wake(self) -> None:
        for future in self._room:
            future.set_result(None)
        self._room.clear()
