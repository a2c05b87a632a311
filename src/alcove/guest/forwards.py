"""Connections of the host's to ports of the pod, over a channel of their own (``alcove.wire.streams``).

The host connects when it first needs one. Until then, and while its daemon is away, the port is readable and hung up
without end: it is watched by its edges then, and looked at only when something of that has changed.
"""

from __future__ import annotations

import select
import sys
from functools import partial

from alcove.guest.dialled import Dialled
from alcove.guest.port import Port
from alcove.guest.streams import Loop
from alcove.wire.frame import Frame, FrameError, Kind, document
from alcove.wire.streams import MOST, parse_taken


class Forwards:
    """See the module's docstring."""

    def __init__(self, loop: Loop, port: Port) -> None:
        self._loop = loop
        self._port = port
        self._connections: dict[int, Dialled] = {}
        self._away = False
        self._held = False
        self._mask = 0
        self._watch()

    def _ready(self, events: int) -> None:
        if self._away and events & select.EPOLLHUP:
            return
        self._away = False
        try:
            self._port.flush()
            for frame in self._port.receive():
                self._carry_out(frame)
        except (FrameError, LookupError, OverflowError, TypeError, ValueError) as error:
            # The host is trusted: it can only have been cut off in the middle of a frame.
            sys.stderr.write(f"alcove agent: {error}\n")
            self._port.reset()
        if self._port.away:
            self._part()
        else:
            self._watch()

    def _part(self) -> None:
        """The host is away: what was begun for it is over."""
        self._away = True
        for connection in list(self._connections.values()):
            connection.close(reset=True)
        self._port.forget()
        self._held, self._mask = False, 0
        self._loop.watch(self._port.fd, select.EPOLLOUT | select.EPOLLET, self._ready)

    def _watch(self) -> None:
        mask = select.EPOLLIN | (select.EPOLLOUT if self._port.wants_write else 0)
        if mask != self._mask:
            self._mask = mask
            self._loop.watch(self._port.fd, mask, self._ready)
        if self._port.full is not self._held:
            self._held = self._port.full
            for connection in list(self._connections.values()):
                connection.hold(self._held)

    def _carry_out(self, frame: Frame) -> None:
        connection = self._connections.get(frame.id)
        if frame.kind is Kind.REQUEST:
            self._dial(frame)
        elif connection is None:
            # It has ended here, which the host has yet to read; or it is of before a frame that was none.
            if frame.kind is Kind.DATA:
                self._send(frame.id, Kind.ERROR, b"it has ended")
        elif frame.kind is Kind.DATA:
            connection.feed(frame.payload)
        elif frame.kind is Kind.EVENT:
            connection.acknowledge(parse_taken(frame.payload))
        elif frame.kind is Kind.ERROR:
            connection.close(reset=True)

    def _dial(self, frame: Frame) -> None:
        if len(self._connections) >= MOST:
            self._port.send(Kind.ERROR, frame.id, f"{MOST} connections are open".encode())
            return
        request = document(frame.payload)
        connection = Dialled(self._loop, partial(self._send, frame.id), partial(self._ended, frame.id))
        self._connections[frame.id] = connection
        connection.dial(request["addresses"], request["port"])

    def _send(self, id: int, kind: Kind, payload: bytes) -> None:
        if not self._away:
            self._port.send(kind, id, payload)
            self._watch()

    def _ended(self, id: int) -> None:
        self._connections.pop(id, None)
