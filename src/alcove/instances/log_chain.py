"""The files of a container's log: for each attempt ``N.log``, which the runtime writes, and before it the ones that
were full, ``N.log.1``, ``N.log.2`` and so on, the oldest with the least number.

A full file is renamed, and the runtime told to begin ``N.log`` anew; until it does, it writes on under the old name,
and what it had in hand goes there even after. So a file is at its end when a newer one is there and nobody has it open
for writing any more, which the kernel tells: only such a file can be leased (fcntl(2), F_SETLEASE).

All of this blocks. Renames and listings exclude each other, or a listing could miss a file that moves.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import threading
from dataclasses import dataclass
from pathlib import Path

ROTATE_AT = 10 << 20
# Full files of one attempt that are kept, beside the one that is written; and attempts of a container.
KEPT = 4
ATTEMPTS_KEPT = 2
# Of all logs of a container, and of a pod; beyond it the oldest files go, full or of attempts that have ended.
CONTAINER_LIMIT = 128 << 20
POD_LIMIT = 512 << 20
_moving = threading.Lock()


@dataclass(frozen=True, slots=True)
class _Kept:
    """``is_newest``: what the runtime writes, or wrote last."""

    changed_s: float
    size: int
    path: Path
    is_newest: bool


def attempts(folder: Path) -> list[int]:
    """Return the numbers of the attempts that have a log, in order."""
    with _moving:
        return sorted({number for number, _, _ in _every(folder)})


def chain(folder: Path, attempt: int) -> list[Path]:
    """Return the files of an attempt, the oldest first."""
    return [path for number, _, path in sorted(_every(folder)) if number == attempt]


def open_chain(folder: Path, attempt: int) -> list[int]:
    """Return descriptors of an attempt's files, the oldest first."""
    with _moving:
        return [fd for path in chain(folder, attempt) if (fd := _open(path)) is not None]


def open_next(folder: Path, attempt: int, current: int) -> tuple[int, int] | None:
    """Return the attempt and a descriptor of the file that was begun after the open one; None: that is the newest."""
    own = os.fstat(current).st_ino
    with _moving:
        every = sorted(_every(folder))
        inodes = [_inode(path) for _, _, path in every]
        # One that is removed has none before it, and what came next may be removed too.
        first = inodes.index(own) + 1 if own in inodes else 0
        for number, _, path in every[first:]:
            if number < attempt:
                continue
            if (fd := _open(path)) is not None:
                return number, fd
    return None


def is_written(fd: int) -> bool:
    """Tell whether somebody has the file open for writing."""
    try:
        # Who opens it meanwhile makes a signal, whose default would be our end.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        # A file system without leases cannot tell.
        return error.errno == errno.EAGAIN
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def rotate(path: Path) -> None:
    """Put a full log away, if it is there, and remove what is too old."""
    folder, attempt = path.parent, int(path.name.removesuffix(".log"))
    with _moving:
        full = [one for one in chain(folder, attempt) if one != path]
        newest = int(full[-1].suffix[1:]) if full else 0
        if path.exists():
            path.rename(path.with_name(f"{path.name}.{newest + 1}"))
        for one in full[: max(0, len(full) + 1 - KEPT)]:
            one.unlink(missing_ok=True)


def trim(logs: Path) -> None:
    """Keep the logs of a pod, below ``logs``, bounded: attempts of each container, and bytes of each and of all."""
    with _moving:
        every = [_trim_container(folder) for folder in _folders(logs)]
        _trim_bytes([one for files in every for one in files], POD_LIMIT)


def _trim_container(folder: Path) -> list[_Kept]:
    every = sorted(_every(folder))
    kept = sorted({number for number, _, _ in every})[-ATTEMPTS_KEPT:]
    found = []
    for number, _, path in every:
        if number not in kept:
            path.unlink(missing_ok=True)
        elif (status := _status(path)) is not None:
            found.append(_Kept(status.st_mtime, status.st_size, path, is_newest=path == every[-1][2]))
    return _trim_bytes(found, CONTAINER_LIMIT)


def _trim_bytes(files: list[_Kept], limit: int) -> list[_Kept]:
    """Remove the oldest that may go until the others have no more than ``limit``; return those."""
    total = sum(one.size for one in files)
    left = []
    for one in sorted(files, key=lambda one: one.changed_s):
        if total > limit and not one.is_newest:
            one.path.unlink(missing_ok=True)
            total -= one.size
        else:
            left.append(one)
    return left


def current(logs: Path) -> list[tuple[Path, int]]:
    """Return, of each container, the file that its newest attempt writes, and its size; -1 where it is not there."""
    found = []
    for folder in _folders(logs):
        if known := attempts(folder):
            path = folder / f"{known[-1]}.log"
            status = _status(path)
            found.append((path, -1 if status is None else status.st_size))
    return found


def _folders(logs: Path) -> list[Path]:
    try:
        return [one for one in sorted(logs.iterdir()) if one.is_dir()]
    except OSError:
        return []


def _every(folder: Path) -> list[tuple[int, float, Path]]:
    """Return attempt, place in its chain and path of each log in the folder."""
    found = []
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    for name in names:
        attempt, dot, number = name.partition(".log")
        if dot and attempt.isdecimal() and (not number or number[1:].isdecimal()):
            found.append((int(attempt), int(number[1:]) if number else float("inf"), folder / name))
    return found


def _open(path: Path) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None


def _inode(path: Path) -> int:
    status = _status(path)
    return 0 if status is None else status.st_ino


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat(follow_symlinks=False)
    except OSError:
        return None
