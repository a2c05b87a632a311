"""The agent's end of the control channel: a virtio-serial port, never blocking, never holding much.

A read of nothing means that the host is away, because its daemon restarts: the port is then looked at again
after ``RETRY_S``.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator

from alcove.wire.frame import Decoder, Frame, Kind, encode

RETRY_S = 0.05
READ = 65536
# Above this the tenant's pipes are left unread until the host has taken what is queued.
HIGH_WATER = 256 * 1024


def find_port(name: str) -> str:
    """Return the device of the virtio-serial port with this name."""
    base = "/sys/class/virtio-ports"
    for entry in os.listdir(base):
        with open(f"{base}/{entry}/name") as file:
            if file.read().strip() == name:
                return f"/dev/{entry}"
    raise FileNotFoundError(f"no virtio port is named {name}")


class Port:
    def __init__(self, device: str) -> None:
        self.fd = os.open(device, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self.away = False
        self._decoder = Decoder()
        self._queue: deque[bytes] = deque()
        self._queued = 0
        # The head of the queue is the rest of a frame whose beginning is sent.
        self._torn = False

    @property
    def full(self) -> bool:
        return self._queued > HIGH_WATER

    @property
    def wants_write(self) -> bool:
        return bool(self._queue)

    def receive(self) -> Iterator[Frame]:
        """Yield the frames that have come. Raises ``FrameError``."""
        try:
            data = os.read(self.fd, READ)
        except BlockingIOError:
            return
        self.away = not data
        if self.away:
            self._forget_halves()
            return
        yield from self._decoder.feed(data)

    def reset(self) -> None:
        """Begin anew after something that was no frame."""
        self.away = True
        self._forget_halves()

    def forget(self) -> None:
        """Drop what is queued: it is for nobody but the host that went away."""
        self._queue.clear()
        self._queued = 0
        self._torn = False

    def _forget_halves(self) -> None:
        """Half a frame from a host that went away is never completed, nor is half a frame to it for the next."""
        self._decoder = Decoder()
        if self._torn:
            self._queued -= len(self._queue.popleft())
            self._torn = False

    def send(self, kind: Kind, id: int, payload: bytes) -> None:
        data = encode(kind, id, payload)
        if self._queue:
            self._queue.append(data)
            self._queued += len(data)
            return
        written = self._write(data)
        if written < len(data):
            self._torn = written > 0
            self._queue.append(data[written:])
            self._queued += len(data) - written

    def flush(self) -> None:
        while self._queue:
            data = self._queue[0]
            written = self._write(data)
            self._queued -= written
            if written < len(data):
                self._torn = self._torn or written > 0
                self._queue[0] = data[written:]
                return
            self._queue.popleft()
            self._torn = False

    def _write(self, data: bytes) -> int:
        try:
            return os.write(self.fd, data)
        except BlockingIOError:
            return 0
