"""What a container prints: pipes read by the daemon, at a bounded pace.

A container that floods its output is slowed by its own full pipe, never by ours: the daemon reads a little at a time
and pauses a stream that exceeds its allowance, so that no sandbox takes the event loop from the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable

_CHUNK = 64 * 1024
# Per stream: this much in each window, then a pause until the next.
_ALLOWANCE, _WINDOW_S = 1 << 20, 0.1


class OutputPipe:
    """The reading end of one stream. ``write_fd`` goes to the container; close it with ``close_write``."""

    def __init__(self, sink: Callable[[bytes], None]) -> None:
        self._sink = sink
        self._loop = asyncio.get_running_loop()
        self._fd, self.write_fd = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._fd, False)
        self._left = _ALLOWANCE
        self._window = 0.0
        self._pause: asyncio.TimerHandle | None = None
        self._loop.add_reader(self._fd, self._read)

    def _read(self) -> None:
        now = self._loop.time()
        if now - self._window >= _WINDOW_S:
            self._window, self._left = now, _ALLOWANCE
        try:
            data = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return
        if not data:
            self.close()
            return
        self._left -= len(data)
        if self._left <= 0:
            self._loop.remove_reader(self._fd)
            self._pause = self._loop.call_at(self._window + _WINDOW_S, self._resume)
        self._sink(data)

    def _resume(self) -> None:
        self._pause = None
        if self._fd >= 0:
            self._loop.add_reader(self._fd, self._read)

    def drain(self) -> None:
        """Take what has arrived but was not read yet, up to one allowance: the container has ended."""
        for _ in range(_ALLOWANCE // _CHUNK):
            if self._fd < 0:
                return
            data = b""
            with contextlib.suppress(BlockingIOError):
                data = os.read(self._fd, _CHUNK)
            if not data:
                return
            self._sink(data)

    def close_write(self) -> None:
        if self.write_fd >= 0:
            os.close(self.write_fd)
            self.write_fd = -1

    def close(self) -> None:
        self.close_write()
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
