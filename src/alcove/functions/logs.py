"""What functions print, told apart by request, bounded, kept.

The runtime writes the marker ``\\0alcove:end:<request id>\\0`` to stderr after each answer; everything before it
belongs to that request. A function can forge markers or print for ever: it then only muddles its own log, and what is
kept of a request is at most ``REQUEST_BYTES``. Each function's log is a ring of lines in memory over a file that is
rotated once.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from alcove.functions.log_files import LogFiles
from alcove.host.files import private_folder

REQUEST_BYTES = 256 * 1024
TAIL_BYTES = 4096
RING_LINES = 2000
FILE_BYTES = 4 * 1024 * 1024
LINE_BYTES = 16 * 1024
# How long an answer that wants its log's tail waits for the marker.
MARKER_WAIT_S = 1.0

_MARKER = re.compile(rb"\0alcove:end:([^\0]{1,128})\0")


# Called with a request's whole output, once.
OutputSink = Callable[[bytes], None]


class RequestLog:
    """Collects the output of one sandbox and cuts it by request.

    Answers and output travel on different channels, so a request's output may end after its answer, when the next
    request is already in the sandbox. Only markers of requests that are expected count.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._dropped = 0
        self._expected: dict[str, OutputSink | None] = {}
        self._complete: dict[str, bytes] = {}
        self._waiters: dict[str, asyncio.Future[None]] = {}

    def expect(self, request_id: str) -> None:
        """A request is about to enter the sandbox."""
        self._expected[request_id] = None

    def write(self, stream: int, data: bytes) -> None:
        """Take output as it comes. Over ``REQUEST_BYTES`` for a request only the end is kept, where markers are."""
        self._buffer += data
        while True:
            match = _MARKER.search(self._buffer)
            if match is None:
                break
            text = bytes(self._buffer[: match.start()])
            request_id = match[1].decode(errors="replace")
            del self._buffer[: match.end()]
            if request_id in self._expected:
                self._end(request_id, text)
            else:
                self._buffer[:0] = text
        excess = len(self._buffer) - REQUEST_BYTES
        if excess > 0:
            del self._buffer[:excess]
            self._dropped += excess

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
        for request_id in list(self._expected):
            self._end(request_id, bytes(self._buffer))
            self._buffer.clear()

    def _end(self, request_id: str, text: bytes) -> None:
        if self._dropped:
            text = f"[alcove: {self._dropped} bytes of output dropped]\n".encode() + text
            self._dropped = 0
        sink = self._expected.pop(request_id)
        if sink is None:
            self._complete[request_id] = text
        else:
            sink(text)
        waiter = self._waiters.get(request_id)
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line. ``time`` is Unix time in seconds; ``number`` rises by one within a function."""

    number: int
    time: float
    request_id: str
    text: str


class FunctionLog:
    """The log of one function."""

    def __init__(self, path: Path, files: LogFiles) -> None:
        self._path = path
        self._files = files
        self._lines: deque[LogLine] = deque(maxlen=RING_LINES)
        self._next = 1
        self._size = path.stat().st_size if path.exists() else 0
        if self._size:
            self._read_back()

    def _read_back(self) -> None:
        with self._path.open("rb") as file:
            for raw in file:
                try:
                    line = LogLine(**json.loads(raw))
                except (ValueError, TypeError):
                    continue
                self._lines.append(line)
                self._next = line.number + 1

    def append(self, request_id: str, texts: Iterable[str]) -> None:
        now = time.time()
        lines = []
        for text in texts:
            lines.append(LogLine(self._next, now, request_id, text[:LINE_BYTES]))
            self._next += 1
        self._lines.extend(lines)
        data = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
        if self._size + len(data) > FILE_BYTES and self._path.exists():
            self._files.forget(self._path)
            self._path.replace(self._path.with_suffix(".old"))
            self._size = 0
        self._size += self._files.append(self._path, data)

    def lines(self, *, after: int = 0, tail: int | None = None) -> list[LogLine]:
        """Return the lines numbered above ``after``, at most the last ``tail``."""
        found = [line for line in self._lines if line.number > after]
        return found[-tail:] if tail else found


class LogStore:
    """The logs of all functions, a file for each under ``folder``; ``key`` is the function's id. ``close`` ends it."""

    def __init__(self, folder: Path) -> None:
        self._folder = private_folder(folder)
        self._files = LogFiles()
        self._logs: dict[str, FunctionLog] = {}

    def of(self, key: str) -> FunctionLog:
        log = self._logs.get(key)
        if log is None:
            log = self._logs[key] = FunctionLog(self._folder / f"{_file_name(key)}.jsonl", self._files)
        return log

    def close(self) -> None:
        self._files.close()

    def remove(self, key: str) -> None:
        self._logs.pop(key, None)
        self._files.forget(self._folder / f"{_file_name(key)}.jsonl")
        for suffix in (".jsonl", ".old"):
            (self._folder / _file_name(key)).with_suffix(suffix).unlink(missing_ok=True)


def _file_name(key: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "_", key)
