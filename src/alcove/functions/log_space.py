"""The disk that logs take: two files for each function, the one that is written and the one before it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

CURRENT = ".jsonl"
OLD = ".old"


def files(folder: Path) -> Iterator[tuple[Path, int, float]]:
    """Yield each file with its size in bytes and when it was last written."""
    with os.scandir(folder) as found:
        for entry in found:
            try:
                if entry.name.endswith((CURRENT, OLD)):
                    status = entry.stat(follow_symlinks=False)
                    yield Path(entry.path), status.st_size, status.st_mtime
            except FileNotFoundError:
                continue


def used(folder: Path) -> int:
    """Return the bytes of all files together."""
    return sum(size for _, size, _ in files(folder))


def oldest(folder: Path, keep: int) -> list[Path]:
    """Return what must go so that ``keep`` bytes are left: what was written least recently, old files first."""
    found = sorted(files(folder), key=lambda file: (file[0].suffix != OLD, file[2]))
    excess = sum(size for _, size, _ in found) - keep
    chosen = []
    for path, size, _ in found:
        if excess <= 0:
            break
        chosen.append(path)
        excess -= size
    return chosen


def remove(path: Path) -> int:
    """Remove a file; return its size, 0 where it is not there."""
    try:
        size = path.stat().st_size
        path.unlink()
    except FileNotFoundError:
        return 0
    return size
