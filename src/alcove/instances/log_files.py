"""What containers print, read from the files of ``log_chain``: from where it is asked for, on across rotations and new
attempts, each line once.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from alcove.instances import log_chain
from alcove.instances.log_lines import Line, is_whole, nanoseconds, parse

_POLL_S = 0.05
_READ = 1 << 18
# As long as the last of an ended container may take from the runtime's hands to its file.
_DRAIN_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Which lines: the last ``tail`` ones, none before ``since_ns``; ``previous``: of the attempt before the newest."""

    tail: int | None = None
    since_ns: int = 0
    previous: bool = False


EVERYTHING = Range()


async def read(
    folder: Path, chosen: Range = EVERYTHING, *, follow: Callable[[], Awaitable[bool]] | None = None
) -> AsyncGenerator[Line, None]:
    """Yield the lines of the newest attempt, and with ``follow`` what comes after them, of later attempts too.

    ``follow`` tells whether nothing more will come; without it what is there is all.
    """
    reader = _Reader(folder, chosen)
    try:
        await asyncio.to_thread(reader.open)
        lines = _follow(reader, follow) if follow is not None else _here(reader)
        async with aclosing(lines):
            async for line in lines:
                yield line
    finally:
        # A thread that still reads has it until then.
        asyncio.get_running_loop().run_in_executor(None, reader.close)


async def _here(reader: _Reader) -> AsyncGenerator[Line, None]:
    while lines := await asyncio.to_thread(reader.here):
        for line in lines:
            yield line


async def _follow(reader: _Reader, over: Callable[[], Awaitable[bool]]) -> AsyncGenerator[Line, None]:
    until_s: float | None = None
    while True:
        # Asked first: what was written before that is read after it.
        if until_s is None and await over():
            until_s = time.monotonic() + _DRAIN_S
        while lines := await asyncio.to_thread(reader.more):
            for line in lines:
                yield line
        if until_s is not None and (await asyncio.to_thread(reader.at_end) or time.monotonic() > until_s):
            return
        await asyncio.sleep(_POLL_S)


class _Reader:
    """``open``, then either ``here`` until it is empty, or ``more`` again and again; ``close``. Blocking."""

    def __init__(self, folder: Path, chosen: Range) -> None:
        self._folder = folder
        self._chosen = chosen
        self._since_ns = chosen.since_ns
        self._attempt = -1
        # The open file and those after it that are open already.
        self._files: deque[int] = deque()
        self._rest = b""
        # Where what was there at the beginning ends, in the last of them.
        self._end = 0
        self._patience = _DRAIN_S / _POLL_S
        self._lock = threading.Lock()

    def open(self) -> None:
        """Open what is there, at the first line that is wanted."""
        with self._lock:
            known = log_chain.attempts(self._folder)
            chosen = known[:-1] if self._chosen.previous else known
            if chosen:
                self._attempt = chosen[-1]
                self._files.extend(log_chain.open_chain(self._folder, self._attempt))
            if self._files:
                self._end = os.fstat(self._files[-1]).st_size
                self._seek()

    def close(self) -> None:
        with self._lock:
            while self._files:
                os.close(self._files.popleft())

    def here(self) -> list[Line]:
        """Return further lines of what was there; none: that is all."""
        with self._lock:
            while self._files:
                if data := os.read(self._files[0], self._left()):
                    if lines := self._lines(data):
                        return lines
                elif len(self._files) > 1 and self._patience > 0 and log_chain.is_written(self._files[0]):
                    self._patience -= 1
                    time.sleep(_POLL_S)
                else:
                    self._begin_next()
            return []

    def more(self) -> list[Line]:
        """Return lines that were not read yet; none: there are none now."""
        with self._lock:
            if not self._files and not self._open_first():
                return []
            while not (lines := self._read()):
                if not self._is_read():
                    return []
                # What came between our last read and its last writer's end.
                lines = self._read()
                self._begin_next()
                if lines:
                    return lines
            return lines

    def at_end(self) -> bool:
        """Tell, after ``more`` had nothing, whether that is all: nobody writes, and nothing came meanwhile."""
        with self._lock:
            if not self._files:
                return True
            if len(self._files) > 1 or log_chain.is_written(self._files[0]):
                return False
            return os.lseek(self._files[0], 0, os.SEEK_CUR) == os.fstat(self._files[0]).st_size

    def _left(self) -> int:
        """How much may be read of the open file."""
        if len(self._files) > 1:
            return _READ
        return max(0, min(_READ, self._end - os.lseek(self._files[0], 0, os.SEEK_CUR)))

    def _open_first(self) -> bool:
        """Begin with the first log that there is, where there was none."""
        known = [one for one in log_chain.attempts(self._folder) if one > self._attempt]
        if known:
            self._attempt = known[0]
            self._files.extend(log_chain.open_chain(self._folder, known[0]))
        return bool(self._files)

    def _is_read(self) -> bool:
        """Tell whether the open file gets no more and another comes after it, which is opened."""
        if len(self._files) == 1:
            found = log_chain.open_next(self._folder, self._attempt, self._files[0])
            if found is None:
                return False
            self._attempt = found[0]
            self._files.append(found[1])
        return not log_chain.is_written(self._files[0])

    def _begin_next(self) -> None:
        os.close(self._files.popleft())
        self._rest = b""

    def _read(self) -> list[Line]:
        """Read until there is a whole line, or nothing more."""
        while data := os.read(self._files[0], _READ):
            if lines := self._lines(data):
                return lines
        return []

    def _lines(self, data: bytes) -> list[Line]:
        *whole, self._rest = (self._rest + data).split(b"\n")
        lines = [line for raw in whole if (line := parse(raw)) is not None]
        return self._late_enough(lines) if self._since_ns else lines

    def _late_enough(self, lines: list[Line]) -> list[Line]:
        """Drop lines until the first that is late enough; times only grow."""
        for index, line in enumerate(lines):
            if (nanoseconds(line.time) or 0) >= self._since_ns:
                self._since_ns = 0
                return lines[index:]
        return []

    def _seek(self) -> None:
        """Let the reading begin so many whole lines before the end. Parts of a line count with its last."""
        left = self._chosen.tail
        if left is None:
            return
        end = self._end
        for index in range(len(self._files) - 1, -1, -1):
            for offset, raw in _backwards(self._files[index], end):
                if is_whole(raw):
                    if left == 0:
                        self._begin_at(index, offset + len(raw) + 1)
                        return
                    left -= 1
            if index:
                end = os.fstat(self._files[index - 1]).st_size

    def _begin_at(self, index: int, offset: int) -> None:
        for _ in range(index):
            self._begin_next()
        os.lseek(self._files[0], offset, os.SEEK_SET)


def _backwards(fd: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Yield the offset and the bytes of each line before ``end``, the last first, without what is not ended there."""
    position, later = end, b""
    while position > 0:
        size = min(_READ, position)
        position -= size
        data = os.pread(fd, size, position) + later
        *lines, rest = data.split(b"\n")
        if not lines:
            later = data
            continue
        offset = position + len(data) - len(rest)
        for raw in reversed(lines[1 if position else 0 :]):
            offset -= len(raw) + 1
            yield offset, raw
        later = lines[0] + b"\n"
