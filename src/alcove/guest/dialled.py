"""A connection that the host asked for, to a port of the pod: what comes from one end goes to the other.

Each way is on credit: at most ``WINDOW`` bytes are on their way that the other end has not taken, so that one
connection that nobody reads stops itself and no other.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
from collections import deque
from collections.abc import Callable

from alcove.guest.streams import Loop
from alcove.wire.frame import Kind
from alcove.wire.streams import CHUNK, WINDOW, taken

Send = Callable[[Kind, bytes], None]


class Dialled:
    """``ended`` is called once, when nothing is left to do."""

    def __init__(self, loop: Loop, send: Send, ended: Callable[[], None]) -> None:
        self._loop = loop
        self._send = send
        self._ended = ended
        self._to: deque[tuple[str, int]] = deque()
        self._socket: socket.socket | None = None
        self._connected = False
        # The channel to the host is full.
        self._held = False
        self._owed = 0
        self._input: deque[bytes] = deque()
        # Of what ends were told: of what the port says, of what the host says, and of that to the port.
        self._said_all = self._heard_all = self._passed_on = False

    def dial(self, addresses: list[str], port: int) -> None:
        """Try the addresses in turn."""
        self._to.extend((address, port) for address in addresses)
        self._try_next()

    def _try_next(self) -> None:
        while self._to:
            self._forget()
            if self._connect(*self._to.popleft()):
                return
        self._fail(errno.ECONNREFUSED)

    def _connect(self, address: str, port: int) -> bool:
        """Begin to; return whether there is hope."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            self._socket = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        except OSError:
            # The guest's kernel is without this family.
            return False
        self._socket.setblocking(False)
        hopeful = self._socket.connect_ex((address, port)) in (0, errno.EINPROGRESS)
        if hopeful:
            self._loop.watch(self._socket.fileno(), select.EPOLLOUT, self._ready)
        return hopeful

    def _ready(self, events: int) -> None:
        if self._socket is None:
            return
        try:
            if not self._connected:
                if self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    self._try_next()
                    return
                self._connected = True
                self._send(Kind.REPLY, b"")
            self._write()
            if events & ~select.EPOLLOUT:
                self._read()
        except OSError as error:
            self._fail(error.errno or 0)
            return
        self._arrange()

    def _read(self) -> None:
        if self._socket is None or not self._reads:
            return
        try:
            data = self._socket.recv(min(CHUNK, WINDOW - self._owed))
        except BlockingIOError:
            return
        self._owed += len(data)
        self._said_all = not data
        self._send(Kind.DATA, data)

    @property
    def _reads(self) -> bool:
        return not (self._said_all or self._held) and self._owed < WINDOW

    def _write(self) -> None:
        while self._input and self._socket is not None:
            try:
                count = self._socket.send(self._input[0])
            except BlockingIOError:
                return
            rest = self._input.popleft()[count:]
            if rest:
                self._input.appendleft(rest)
            self._send(Kind.EVENT, taken(count))
        if self._heard_all and not self._passed_on and self._socket is not None:
            self._passed_on = True
            self._socket.shutdown(socket.SHUT_WR)

    def _arrange(self) -> None:
        """Watch for what can be done now."""
        if self._socket is None or not self._connected:
            return
        if self._said_all and self._heard_all and not self._input:
            self.close()
            return
        mask = (select.EPOLLIN if self._reads else 0) | (select.EPOLLOUT if self._input else 0)
        if mask:
            self._loop.watch(self._socket.fileno(), mask, self._ready)
        else:
            # An end that hung up is told of without being asked.
            self._loop.unwatch(self._socket.fileno())

    # From the host

    def feed(self, data: bytes) -> None:
        """Bytes for the port; none are their end."""
        if data:
            self._input.append(data)
        else:
            self._heard_all = True
        if self._connected:
            self._ready(0)

    def acknowledge(self, count: int) -> None:
        self._owed = max(0, self._owed - count)
        self._arrange()

    def hold(self, held: bool) -> None:
        """Read nothing more from the port, or go on."""
        self._held = held
        self._arrange()

    # Ends

    def _fail(self, failure: int) -> None:
        self._send(Kind.ERROR, os.strerror(failure).encode())
        self.close(reset=True)

    def close(self, *, reset: bool = False) -> None:
        if reset and self._socket is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._forget()
        self._input.clear()
        self._ended()

    def _forget(self) -> None:
        if self._socket is not None:
            self._loop.unwatch(self._socket.fileno())
            self._socket.close()
            self._socket = None
