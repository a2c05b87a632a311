"""What functions print, told apart by request, bounded, kept.

The runtime writes the marker ``\\0alcove:end:<request id>\\0`` to stderr after each answer; everything before it
belongs to that request. Where requests share an instance, ``\\0alcove:of:<request id>\\0`` says whose the rest of a
stream is until the next marker; with no id, nobody's, which goes to the request that ends first. A function can forge
markers or print for ever: it then only muddles its own log, and what is kept of a request is at most ``REQUEST_BYTES``.
Each function's log is a ring of lines in memory over a file that is rotated once; all logs together have a limit, too.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Container, Iterable
from pathlib import Path

import msgspec

from alcove.functions import log_space
from alcove.functions.log_files import LogFiles
from alcove.functions.log_space import OLD
from alcove.host.files import private_folder

REQUEST_BYTES = 256 * 1024
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
# How long an answer that wants its log's tail waits for the marker.
MARKER_WAIT_S = 1.0

_encoder = msgspec.json.Encoder()
_MARKER = re.compile(rb"\0alcove:(?:end:([^\0]{1,128})|of:([^\0]{0,128}))\0")
_ALONE = re.compile(rb"\0alcove:end:([^\0]{1,128})\0")
# The beginning of a marker, whose end has not come yet.
_BEGUN = re.compile(rb"\0(?:a?|al|alc|alco|alcov|alcove|alcove:[^\0]{0,132})\Z")
# What is kept of each request's own output at least, however many share an instance.
OWN_BYTES = 8 * 1024


# Called with a request's whole output, once.
OutputSink = Callable[[bytes], None]


class RequestLog:
    """Collects the output of one sandbox and cuts it by request.

    Answers and output travel on different channels, so a request's output may end after its answer, when the next
    request is already in the sandbox. Only markers of requests that are expected count.
    """

    def __init__(self) -> None:
        # By request, and "": nobody's.
        self._texts: dict[str, bytearray] = {}
        self._dropped: Counter[str] = Counter()
        # By stream: whose it is now, and a marker that has not come whole.
        self._owners: dict[int, str] = {}
        self._begun: dict[int, bytes] = {}
        self._expected: dict[str, OutputSink | None] = {}
        self._complete: dict[str, bytes] = {}
        self._waiters: dict[str, asyncio.Future[None]] = {}

    def expect(self, request_id: str) -> None:
        """A request is about to enter the sandbox."""
        self._expected[request_id] = None

    def write(self, stream: int, data: bytes) -> None:
        """Take output as it comes. Over ``REQUEST_BYTES`` for a request only the end is kept, where markers are."""
        alone = None if self._texts or self._begun else _ALONE.fullmatch(data)
        if alone is not None:
            # Most requests print nothing.
            self._marked(alone[1])
            return
        data = self._begun.pop(stream, b"") + data
        at = 0
        for match in _MARKER.finditer(data):
            self._take(stream, data[at : match.start()])
            at = match.end()
            if match[1] is not None:
                self._marked(match[1])
            else:
                self._owners[stream] = match[2].decode(errors="replace")
        begun = _BEGUN.search(data, at)
        end = begun.start() if begun else len(data)
        if begun:
            self._begun[stream] = data[end:]
        self._take(stream, data[at:end])

    def _take(self, stream: int, text: bytes) -> None:
        if not text:
            return
        owner = self._owners.get(stream, "")
        owner = owner if owner in self._expected else ""
        held = self._texts.setdefault(owner, bytearray())
        held += text
        excess = len(held) - max(OWN_BYTES, REQUEST_BYTES // len(self._texts))
        if excess > 0:
            del held[:excess]
            self._dropped[owner] += excess

    def _marked(self, name: bytes) -> None:
        """A request that was expected gets its text, and nobody's."""
        request_id = name.decode(errors="replace")
        if request_id in self._expected:
            self._end(request_id)

    def report(self, request_id: str, sink: OutputSink) -> None:
        """Have ``sink`` called with the request's output: now if it is complete, else when it is."""
        text = self._complete.pop(request_id, None)
        if text is None:
            self._expected[request_id] = sink
        else:
            sink(text)

    async def settle(self, request_id: str) -> None:
        """Wait, not for ever, until the output of the request is all there."""
        if request_id not in self._expected:
            return
        waiter = self._waiters[request_id] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(MARKER_WAIT_S):
                await waiter
        except TimeoutError:
            pass
        finally:
            self._waiters.pop(request_id, None)

    def flush(self) -> None:
        """The sandbox has ended, or a marker never came: whoever waits gets what is there."""
        for stream in list(self._begun):
            self._take(stream, self._begun.pop(stream))
        for request_id in list(self._expected):
            self._end(request_id)

    def _end(self, request_id: str) -> None:
        dropped = self._dropped.pop(request_id, 0) + self._dropped.pop("", 0)
        text = bytes(self._texts.pop(request_id, b"") + self._texts.pop("", b""))
        if dropped:
            text = f"[alcove: {dropped} bytes of output dropped]\n".encode() + text
        sink = self._expected.pop(request_id)
        if sink is None:
            self._complete[request_id] = text
        else:
            sink(text)
        waiter = self._waiters.get(request_id)
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


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
