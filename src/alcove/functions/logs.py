"""What functions print, bounded, kept: what each request printed comes from ``request_log``.

Each function's log is a ring of lines in memory over a file that is rotated once; all logs together have a limit, too.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections import OrderedDict, deque
from collections.abc import Container, Iterable
from pathlib import Path

import msgspec

from alcove.functions import log_space
from alcove.functions.log_files import LogFiles
from alcove.functions.log_space import OLD
from alcove.host.files import private_folder

TAIL_BYTES = 4096
# Of each function's log in memory, its lines' own cost included; and of how many functions.
RING_BYTES = 128 * 1024
LINE_COST = 200
OPEN_LOGS = 512
FILE_BYTES = 4 * 1024 * 1024
LINE_BYTES = 16 * 1024
# What trimming leaves of the limit, so that it is not always at it.
TRIMMED_TO = 0.9
REMOVED_KNOWN = 10_000

_encoder = msgspec.json.Encoder()


class LogLine(msgspec.Struct, frozen=True):
    """One line. ``time`` is Unix time in seconds; ``number`` rises by one within a function."""

    number: int
    time: float
    request_id: str
    text: str


class FunctionLog:
    """The log of one function: its end in memory, at most ``RING_BYTES`` of it, the rest in its files."""

    def __init__(self, path: Path, files: LogFiles) -> None:
        self._path = path
        self._files = files
        self._lines: deque[LogLine] = deque()
        self._held = 0
        self._next = 1
        self._size = path.stat().st_size if path.exists() else 0
        # A file that was just renamed may have no follower yet.
        self._keep(read_lines(path if self._size else path.with_suffix(OLD), last_bytes=2 * RING_BYTES))

    def append(self, request_id: str, texts: Iterable[str]) -> int:
        """Return by how many bytes the log has grown on the disk. Raises ``OSError``."""
        now = time.time()
        first = self._next
        lines = [LogLine(first + at, now, request_id, text[:LINE_BYTES]) for at, text in enumerate(texts)]
        self._keep(lines)
        data = _encoder.encode_lines(lines)
        freed = 0
        if self._size + len(data) > FILE_BYTES and self._path.exists():
            freed = self._rotate()
        written = self._files.append(self._path, data)
        self._size += written
        return written - freed

    def _rotate(self) -> int:
        """Make room; return how many bytes that freed."""
        old = self._path.with_suffix(OLD)
        freed = old.stat().st_size if old.exists() else 0
        self._files.forget(self._path)
        self._path.replace(old)
        self._size = 0
        return freed

    def _keep(self, lines: list[LogLine]) -> None:
        kept, held = self._lines, self._held
        kept.extend(lines)
        for line in lines:
            held += len(line.text) + LINE_COST
            self._next = line.number + 1
        while held > RING_BYTES:
            held -= len(kept.popleft().text) + LINE_COST
        self._held = held

    def lines(self, *, after: int = 0, tail: int | None = None) -> list[LogLine]:
        """Return the lines in memory numbered above ``after``, at most the last ``tail``."""
        found = [line for line in self._lines if line.number > after]
        return found[-tail:] if tail else found

    async def read(self, *, after: int = 0, tail: int | None = None, request: str = "") -> list[LogLine]:
        """As ``lines``, from the files where memory does not reach back. ``request``: the lines of one request, whose
        id begins so.
        """
        oldest = self._lines[0].number if self._lines else self._next
        lines = self.lines(after=after)
        if after < oldest - 1 and (request or not tail or len(lines) < tail):
            every = await asyncio.to_thread(self._read_files)
            lines = [line for line in every if line.number > after]
        found = [line for line in lines if line.request_id.startswith(request)]
        return found[-tail:] if tail else found

    def _read_files(self) -> list[LogLine]:
        return [*read_lines(self._path.with_suffix(OLD)), *read_lines(self._path)]


class LogStore:
    """The logs of all functions, files for each under ``folder``; ``key`` is the function's id. ``close`` ends it.

    Together they have ``limit`` bytes on the disk: ``trim`` removes what was written least recently. In memory are the
    ends of those that were used last.
    """

    def __init__(self, folder: Path, limit: int = 4 << 30) -> None:
        self._folder = private_folder(folder)
        self._files = LogFiles()
        self._logs: OrderedDict[str, FunctionLog] = OrderedDict()
        # Deleted functions whose last calls may still be writing; ids are never used again.
        self._removed: OrderedDict[str, None] = OrderedDict()
        self._limit = limit
        self.size = log_space.used(folder)

    def of(self, key: str) -> FunctionLog:
        log = self._logs.get(key)
        if log is None:
            log = self._logs[key] = FunctionLog(self._path(key), self._files)
            if len(self._logs) > OPEN_LOGS:
                self._logs.popitem(last=False)
        else:
            self._logs.move_to_end(key)
        return log

    def append(self, key: str, request_id: str, texts: Iterable[str]) -> None:
        """Write lines, unless the function is deleted. Raises ``OSError``."""
        if key not in self._removed:
            self.size += self.of(key).append(request_id, texts)

    def remove(self, key: str) -> None:
        """The function is deleted: its log goes, and nothing makes it anew."""
        self._removed[key] = None
        if len(self._removed) > REMOVED_KNOWN:
            self._removed.popitem(last=False)
        self._forget(key)

    def retain(self, keys: Container[str]) -> None:
        """At a start: remove the logs of functions that are no more."""
        for name in {path.stem for path, _, _ in log_space.files(self._folder)}:
            if name not in keys:
                self._forget(name)

    async def trim(self) -> None:
        """Keep to the limit."""
        if self.size <= self._limit:
            return
        for path in await asyncio.to_thread(log_space.oldest, self._folder, int(self._limit * TRIMMED_TO)):
            self._logs.pop(path.stem, None)
            self._files.forget(path)
            self.size -= log_space.remove(path)

    def close(self) -> None:
        self._files.close()

    def _forget(self, key: str) -> None:
        self._logs.pop(key, None)
        path = self._path(key)
        self._files.forget(path)
        self.size -= log_space.remove(path) + log_space.remove(path.with_suffix(OLD))

    def _path(self, key: str) -> Path:
        return self._folder / f"{_file_name(key)}{log_space.CURRENT}"


def read_lines(path: Path, last_bytes: int | None = None) -> list[LogLine]:
    """Return what a file holds, without lines that are torn; nothing where it does not exist."""
    try:
        with path.open("rb") as file:
            if last_bytes is not None:
                file.seek(max(0, file.seek(0, os.SEEK_END) - last_bytes))
            found = (_decode(raw) for raw in file.read().splitlines())
            return [line for line in found if line is not None]
    except FileNotFoundError:
        return []


def _decode(raw: bytes) -> LogLine | None:
    try:
        return msgspec.json.decode(raw, type=LogLine)
    except (msgspec.DecodeError, ValueError):
        return None


def _file_name(key: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "_", key)
