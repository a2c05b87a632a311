"""Files that are appended to, the busy ones kept open: for a line or two, opening costs as much as writing."""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path

OPEN_FILES = 64


class LogFiles:
    """At most ``most`` files are open; the one that has rested longest makes room. ``close`` at the end."""

    def __init__(self, most: int = OPEN_FILES) -> None:
        self._most = most
        self._open: OrderedDict[Path, int] = OrderedDict()

    def append(self, path: Path, data: bytes) -> int:
        """Return how many bytes were written. Raises ``OSError``."""
        descriptor = self._open.get(path)
        if descriptor is None:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            self._open[path] = descriptor
            if len(self._open) > self._most:
                os.close(self._open.popitem(last=False)[1])
        else:
            self._open.move_to_end(path)
        return os.write(descriptor, data)

    def forget(self, path: Path) -> None:
        """The file is about to be renamed or removed."""
        descriptor = self._open.pop(path, None)
        if descriptor is not None:
            os.close(descriptor)

    def close(self) -> None:
        for path in list(self._open):
            self.forget(path)
