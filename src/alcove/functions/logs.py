"""What functions print, told apart by request, bounded, kept.

The runtime writes the marker ``\\0alcove:end:<request id>\\0`` to stderr after each answer; everything before it belongs to that request.
A function can forge markers or print for ever: it then only muddles its own log, and what is kept of a request is at most
``REQUEST_BYTES``. Each function's log is a ring of lines in memory over a file that is rotated once.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from alcove.host.files import private_folder

REQUEST_BYTES = 256 * 1024
TAIL_BYTES = 4096
RING_LINES = 2000
FILE_BYTES = 4 * 1024 * 1024
LINE_BYTES = 16 * 1024
# How long an answer that wants its log's tail waits for the marker.
MARKER_WAIT_S = 1.0

_MARKER = re.compile(rb"\0alcove:end:([^\0]{1,128})\0")


class RequestLog:
    """Collects the output of one sandbox and cuts it by request."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._dropped = 0
        self._ended: dict[str, asyncio.Future[None]] = {}

    def write(self, stream: int, data: bytes) -> None:
        room = REQUEST_BYTES - len(self._buffer)
        if len(data) > room:
            # Markers are short and come last: keep the end of what does not fit.
            self._dropped += len(data) - room
            data = data[: max(0, room - 256)] + data[-256:] if room > 256 else data[-256:]
            if room <= 256:
                del self._buffer[-256:]
        self._buffer += data
        for match in _MARKER.finditer(self._buffer, max(0, len(self._buffer) - len(data) - 160)):
            waiter = self._ended.pop(match[1].decode(errors="replace"), None)
            if waiter is not None and not waiter.done():
                waiter.set_result(None)

    async def settle(self, request_id: str) -> None:
        """Wait, not for ever, until the output of the request is all there."""
        marker = f"\0alcove:end:{request_id}\0".encode()
        if marker in self._buffer:
            return
        waiter = asyncio.get_running_loop().create_future()
        self._ended[request_id] = waiter
        try:
            async with asyncio.timeout(MARKER_WAIT_S):
                await waiter
        except TimeoutError:
            pass
        finally:
            self._ended.pop(request_id, None)

    def take(self) -> bytes:
        """Return what is there and start anew; markers are taken out."""
        text = _MARKER.sub(b"", bytes(self._buffer))
        self._buffer.clear()
        if self._dropped:
            text += f"\n[alcove: {self._dropped} bytes of output dropped]\n".encode()
            self._dropped = 0
        return text


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line. ``time`` is Unix time in seconds; ``number`` rises by one within a function."""

    number: int
    time: float
    request_id: str
    text: str


class FunctionLog:
    """The log of one function."""

    def __init__(self, path: Path) -> None:
        self._path = path
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
        data = "".join(json.dumps(asdict(line)) + "\n" for line in lines).encode()
        if self._size + len(data) > FILE_BYTES and self._path.exists():
            self._path.replace(self._path.with_suffix(".old"))
            self._size = 0
        with self._path.open("ab") as file:
            file.write(data)
        self._size += len(data)

    def lines(self, *, after: int = 0, tail: int | None = None) -> list[LogLine]:
        """Return the lines numbered above ``after``, at most the last ``tail``."""
        found = [line for line in self._lines if line.number > after]
        return found[-tail:] if tail else found


class LogStore:
    """The logs of all functions, a file for each under ``folder``; ``key`` is the function's id."""

    def __init__(self, folder: Path) -> None:
        self._folder = private_folder(folder)
        self._logs: dict[str, FunctionLog] = {}

    def of(self, key: str) -> FunctionLog:
        log = self._logs.get(key)
        if log is None:
            log = self._logs[key] = FunctionLog(self._folder / f"{_file_name(key)}.jsonl")
        return log

    def remove(self, key: str) -> None:
        self._logs.pop(key, None)
        for suffix in (".jsonl", ".old"):
            (self._folder / _file_name(key)).with_suffix(suffix).unlink(missing_ok=True)


def _file_name(key: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "_", key)
