"""What requests that share a process print, each line said to be of the request that printed it.

The host cuts output by request (``functions/request_log.py``): after the marker ``\\0alcove:of:<request id>\\0`` it
is that request's, until the next. Tasks of asyncio and what ``contextvars`` is copied to inherit whose they are; what
threads of the function's own and child processes print belongs to the request that ends first.
"""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Callable

_NOBODY = b"\0alcove:of:\0"
# A line that is longer is told in parts.
_LINE = 8192


class _Lines(io.RawIOBase):
    """The writing end of one stream. ``whose`` is asked at each write: a request's id, or nothing."""

    def __init__(self, fd: int, name: str, whose: Callable[[], str]) -> None:
        self.name = name
        self._fd = fd
        self._whose = whose
        self._begun: dict[str, bytes] = {}
        self._reset()
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        """Another thread may have held the lock when this process was forked. Finalizers print while we do."""
        self._lock = threading.RLock()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def write(self, data: bytes, /) -> int:  # type: ignore[override]
        text, whose = bytes(data), self._whose()
        with self._lock:
            held = self._begun.pop(whose, b"") + text
            cut = held.rfind(b"\n") + 1 if len(held) <= _LINE else len(held)
            if cut < len(held):
                self._begun[whose] = held[cut:]
            if cut:
                self._tell(whose, held[:cut])
        return len(text)

    def flush(self) -> None:
        """Tell what the running request has begun of a line."""
        whose = self._whose()
        with self._lock:
            held = self._begun.pop(whose, b"")
            if held:
                self._tell(whose, held)

    def _tell(self, whose: str, text: bytes) -> None:
        data = b"\0alcove:of:%s\0%s%s" % (whose.encode(), text, _NOBODY) if whose else text
        while data:
            data = data[os.write(self._fd, data) :]


def install(whose: Callable[[], str]) -> None:
    """Take the place of ``sys.stdout`` and ``sys.stderr``, where the function has not put something else there."""
    for name, fd in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None or stream is not getattr(sys, f"__{name}__"):
            continue
        lines = _Lines(fd, stream.name, whose)
        ours = io.TextIOWrapper(lines, stream.encoding, stream.errors, write_through=True)
        setattr(sys, name, ours)
        setattr(sys, f"__{name}__", ours)
