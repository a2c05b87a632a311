"""Changes that have begun: on the disk before they are made, so that none is without its line after a crash.

They are in files that are thrown away when everything in them has ended. While a long change keeps one, others are
written into the next.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from alcove.audit.line import AuditLine, decode_line, encode_line

FILE_BYTES = 1 << 20
_SUFFIX = ".begun"


class IntentFile:
    """``open_lines`` are those that have not ended."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self.open_lines = 0
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def append(self, line: AuditLine) -> None:
        """Raises ``OSError``; blocks until the line is on the disk."""
        data = encode_line(line)
        if os.write(self._file, data) != len(data):
            os.write(self._file, b"\n")
            raise OSError("the disk is full")
        self.size += len(data)
        os.fdatasync(self._file)

    def remove(self) -> None:
        os.close(self._file)
        with contextlib.suppress(OSError):
            self.path.unlink()


class Intents:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._number = max((int(path.stem) for path in _files(folder)), default=0)
        self._current: IntentFile | None = None

    def file(self) -> IntentFile:
        """Return where the next line goes; whoever takes it counts itself in ``open_lines``. Raises ``OSError``."""
        current = self._current
        if current is None or current.size > FILE_BYTES:
            self._number += 1
            self._current = IntentFile(self._folder / f"{self._number:08}{_SUFFIX}")
            if current is not None and not current.open_lines:
                current.remove()
        assert self._current is not None
        return self._current

    def ended(self, file: IntentFile) -> None:
        """A change of this file has its line."""
        file.open_lines -= 1
        if not file.open_lines and file is not self._current:
            file.remove()

    def close(self) -> None:
        if self._current is not None and not self._current.open_lines:
            self._current.remove()
            self._current = None


def left_intents(folder: Path) -> Iterator[tuple[Path, list[AuditLine]]]:
    """Yield the files of an earlier process with what began there."""
    for path in sorted(_files(folder)):
        found = (decode_line(raw) for raw in path.read_bytes().splitlines())
        yield path, [line for line in found if line is not None]


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.glob(f"*{_SUFFIX}") if path.stem.isdigit()]
