"""What containers print, in the files that the runtime writes: CRI's format, one file for each attempt, rotated.

A line is ``TIME STREAM TAG TEXT``: RFC 3339 with nanoseconds, ``stdout`` or ``stderr``, ``F`` for a whole line or ``P``
for a part of one. A file that is full becomes ``N.log.1``, and the runtime is told to begin anew.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

ROTATE_AT = 10 << 20
TAIL_LIMIT = 100_000
_LINE = re.compile(rb"(\S{20,40}) (stdout|stderr) ([FP](?::\S*)?) (.*)", re.DOTALL)
_POLL_S = 0.05
_READ = 1 << 18


@dataclass(frozen=True, slots=True)
class Line:
    """``text`` has its newline where the line is whole."""

    time: str
    stream: str
    text: bytes


def parse(raw: bytes) -> Line | None:
    """Return the line of a log without its newline, or None where it is none."""
    found = _LINE.fullmatch(raw)
    if found is None:
        return None
    whole = found[3].startswith(b"F")
    return Line(found[1].decode("ascii", "replace"), found[2].decode(), found[4] + (b"\n" if whole else b""))


def attempts(folder: Path) -> list[int]:
    """Return the numbers of the attempts that have a log, in order."""
    found = (path.name.removesuffix(".log") for path in folder.glob("*.log"))
    return sorted(int(name) for name in found if name.isdecimal())


async def read(
    folder: Path,
    *,
    follow: Callable[[], Awaitable[bool]] | None,
    tail: int | None,
    previous: bool = False,
) -> AsyncGenerator[Line, None]:
    """Yield the lines of the newest attempt (``previous``: of the one before), the last ``tail`` of them first.

    ``follow`` tells whether nothing more will come; without it what is there is all.
    """
    reader = _Reader(folder)
    try:
        reader.open(previous=previous)
        first = await asyncio.to_thread(reader.tail, tail)
        for line in first:
            yield line
        while follow is not None:
            # Asked first: what was written before that is read after it.
            over = await follow()
            while lines := await asyncio.to_thread(reader.more):
                for line in lines:
                    yield line
            if over:
                return
            await asyncio.sleep(_POLL_S)
    finally:
        reader.close()


class _Reader:
    """Reads the files of one container on, across rotations and new attempts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: BinaryIO | None = None
        self._attempt = -1
        self._rest = b""

    def open(self, *, previous: bool) -> None:
        known = attempts(self._folder)
        chosen = known[:-1] if previous else known
        if chosen:
            self._open(chosen[-1])

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def tail(self, count: int | None) -> list[Line]:
        if self._file is None:
            return []
        rotated = self._folder / f"{self._attempt}.log.1"
        last: deque[Line] = deque(maxlen=TAIL_LIMIT if count is None else min(count, TAIL_LIMIT))
        if rotated.exists():
            with rotated.open("rb") as older:
                last.extend(self._lines(older.read(2 * ROTATE_AT)))
        while lines := self._read():
            last.extend(lines)
        return list(last)

    def more(self) -> list[Line]:
        """Return lines that were not read yet; none: there are none now."""
        if self._file is None:
            self.open(previous=False)
            if self._file is None:
                return []
        if lines := self._read():
            return lines
        path = self._folder / f"{self._attempt}.log"
        newest = attempts(self._folder)
        if newest and newest[-1] > self._attempt:
            self._open(newest[-1])
        elif path.exists() and path.stat().st_ino != os.fstat(self._file.fileno()).st_ino:
            self._open(self._attempt)
        else:
            return []
        return self._read()

    def _open(self, attempt: int) -> None:
        self.close()
        self._attempt, self._rest = attempt, b""
        self._file = (self._folder / f"{attempt}.log").open("rb")

    def _read(self) -> list[Line]:
        """Read until there is a whole line, or nothing more."""
        assert self._file is not None
        while data := self._file.read(_READ):
            if lines := self._lines(data):
                return lines
        return []

    def _lines(self, data: bytes) -> list[Line]:
        *whole, self._rest = (self._rest + data).split(b"\n")
        return [line for raw in whole if (line := parse(raw)) is not None]


def overfull(folder: Path) -> list[Path]:
    """Return the logs below a pod's folder that are to be rotated. Blocking."""
    return [path for path in folder.glob("*/*.log") if path.stat().st_size > ROTATE_AT]


def rotate(path: Path) -> None:
    """Put a full log away, in place of the one before. Blocking."""
    path.rename(path.with_name(f"{path.name}.1"))
