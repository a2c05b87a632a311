"""The runtimes' end of the invocation channel: blocking reads and writes of frames on one descriptor."""

from __future__ import annotations

import os
import select
import stat
import time
from typing import TYPE_CHECKING

from alcove.wire.frame import HEADER, Frame, Kind, encode, parse_header

if TYPE_CHECKING:
    import threading

_AWAY_S = 0.02
_READ = 1 << 20


class ChannelClosed(Exception):
    """The host closed the socket: the sandbox is over."""


class HostAway(Exception):
    """The host went away in the middle of a frame."""


class Channel:
    """On a virtio port nothing to read means that the host's daemon restarts, on a socket that it has gone."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        # Where several threads send, what keeps their frames whole.
        self.lock: threading.Lock | None = None
        self._port = stat.S_ISCHR(os.fstat(fd).st_mode)

    def _read(self, count: int) -> bytes:
        data = os.read(self.fd, count)
        if len(data) == count:
            return data
        chunks = [data] if data else []
        missing = count - len(data)
        while missing:
            data = os.read(self.fd, min(missing, _READ))
            if data:
                chunks.append(data)
                missing -= len(data)
            elif self._port:
                time.sleep(_AWAY_S)
                if chunks:
                    raise HostAway
            else:
                raise ChannelClosed
        return b"".join(chunks)

    def receive(self) -> Frame:
        while True:
            try:
                length, kind, id = parse_header(self._read(HEADER.size))
                return Frame(kind, id, self._read(length) if length else b"")
            except HostAway:
                # The next host begins with a frame of its own.
                continue

    def send(self, kind: Kind, id: int, payload: bytes) -> None:
        data = encode(kind, id, payload)
        if self.lock is None:
            self._write(data)
        else:
            with self.lock:
                self._write(data)

    def _write(self, data: bytes) -> None:
        written = os.write(self.fd, data)
        view = memoryview(data)
        while written < len(data):
            select.select([], [self.fd], [], 1.0)
            written += os.write(self.fd, view[written:])
