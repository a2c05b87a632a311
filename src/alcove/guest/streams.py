"""What a container's process reads and writes: pipes, or a terminal.

Output goes to the host on credit: of each process at most ``WINDOW`` bytes are sent that nobody has taken, so that one
that nobody reads stops itself and nothing else. Input waits here until the process reads it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import struct
import termios
from collections import deque
from collections.abc import Callable
from typing import Protocol

WINDOW = 256 * 1024
CHUNK = 32 * 1024
# What a process that has ended may still have in its pipes; another may go on writing to them.
LAST_WORDS = 1024 * 1024
# Input that waits; whoever sends more than the process reads is told what was taken, and loses what is beyond.
INPUT = 32 * 1024 * 1024


class Loop(Protocol):
    def watch(self, fd: int, mask: int, handler: Callable[[int], None]) -> None: ...
    def unwatch(self, fd: int) -> None: ...


class Streams:
    """``outputs`` maps our ends to 1 (stdout) or 2 (stderr), ``stdin`` is our end of that. All are ours to close."""

    def __init__(
        self,
        loop: Loop,
        outputs: dict[int, int],
        stdin: int | None,
        send: Callable[[int, bytes], None],
        taken: Callable[[int], None] = lambda count: None,
        *,
        full: bool = False,
    ) -> None:
        self._loop = loop
        self._outputs = outputs
        self._stdin = stdin
        self._send = send
        self._taken = taken
        self._full = full
        self._owed = 0
        self._reading = False
        self._input: deque[bytes] = deque()
        self._waiting = 0
        self._closing = False
        for fd in (*outputs, *([] if stdin is None else [stdin])):
            os.set_blocking(fd, False)
        self._arrange()

    # Output

    def acknowledge(self, count: int) -> None:
        """The host has passed on so many bytes."""
        self._owed = max(0, self._owed - count)
        self._arrange()

    def throttle(self, full: bool) -> None:
        """The channel is full, or has room again."""
        self._full = full
        self._arrange()

    def _arrange(self) -> None:
        # An end that hung up is told of without being asked: what is not to be read is not watched at all.
        wanted = not self._full and self._owed < WINDOW
        if wanted is self._reading:
            return
        self._reading = wanted
        for fd in self._outputs:
            if wanted:
                self._loop.watch(fd, select.EPOLLIN, self._reader(fd))
            else:
                self._loop.unwatch(fd)

    def _reader(self, fd: int) -> Callable[[int], None]:
        def read(events: int) -> None:
            self._forward(fd)

        return read

    def _forward(self, fd: int, most: int = CHUNK) -> int:
        """Send one chunk; return its length."""
        try:
            data = os.read(fd, most)
        except BlockingIOError:
            return 0
        except OSError:
            # A terminal that no process has open any more.
            data = b""
        if not data:
            self._drop(fd)
            return 0
        self._owed += len(data)
        self._send(self._outputs[fd], data)
        self._arrange()
        return len(data)

    def _drop(self, fd: int) -> None:
        self._loop.unwatch(fd)
        del self._outputs[fd]
        os.close(fd)

    def finish(self) -> None:
        """The process has ended: send what it printed last, whatever the credit, and close everything."""
        for fd in list(self._outputs):
            left = LAST_WORDS
            while fd in self._outputs and left > 0 and (count := self._forward(fd, min(CHUNK, left))):
                left -= count
            if fd in self._outputs:
                self._drop(fd)
        self._close_input()

    # Input

    def feed(self, data: bytes) -> None:
        if self._stdin is None or self._closing or self._waiting + len(data) > INPUT:
            return
        self._input.append(data)
        self._waiting += len(data)
        self._flush()

    def close_stdin(self) -> None:
        """No more comes; what waits is read first."""
        self._closing = True
        self._flush()

    def _flush(self) -> None:
        written = 0
        while self._input and self._stdin is not None:
            try:
                count = os.write(self._stdin, self._input[0])
            except BlockingIOError:
                break
            except OSError:
                # Nobody reads it any more.
                self._close_input()
                return
            written += count
            self._waiting -= count
            rest = self._input.popleft()[count:]
            if rest:
                self._input.appendleft(rest)
        self._await_room()
        if written:
            self._taken(written)

    def _await_room(self) -> None:
        if self._stdin is None:
            return
        if self._input:
            self._loop.watch(self._stdin, select.EPOLLOUT, lambda events: self._flush())
            return
        self._loop.unwatch(self._stdin)
        if self._closing:
            self._close_input()

    def _close_input(self) -> None:
        self._input.clear()
        if self._stdin is not None:
            self._loop.unwatch(self._stdin)
            os.close(self._stdin)
            self._stdin = None

    # Terminal

    def resize(self, width: int, height: int) -> None:
        """Of pipes nothing comes of it."""
        size = struct.pack("HHHH", height & 0xFFFF, width & 0xFFFF, 0, 0)
        for fd in self._outputs:
            with contextlib.suppress(OSError):
                fcntl.ioctl(fd, termios.TIOCSWINSZ, size)
