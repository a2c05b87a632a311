"""Files and folders that are either whole or not there."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from alcove.errors import CapacityError

UNFINISHED = ".unfinished-"


def instance_tag(state: Path) -> str:
    """Return the tag that the kernel objects of the instance with this state folder carry."""
    return hashlib.sha256(str(state.resolve()).encode()).hexdigest()[:8]


def private_folder(path: Path) -> Path:
    """Make the folder, and any parent that is not there, for us alone. What someone else has planted in its
    place, a symbolic link or a folder of theirs, is refused.
    """
    for parent in (*reversed(path.parents), path):
        # Not ``parents=True``: parents would be made for everybody to read.
        if parent == path or not parent.exists():
            parent.mkdir(exist_ok=True, mode=0o700)
    if path.is_symlink():
        raise OSError(f"{path} is a symbolic link")
    if path.stat().st_uid != os.geteuid():
        raise OSError(f"{path} belongs to user {path.stat().st_uid}")
    os.chmod(path, 0o700)
    return path


def write_json(path: Path, document: Any, *, durable: bool = True) -> None:
    """Replace the file in one step. It survives a failure of this process, and where ``durable`` of the host."""
    data = json.dumps(document, indent=1, sort_keys=True).encode()
    fd, name = tempfile.mkstemp(dir=path.parent, prefix=UNFINISHED)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.rename(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


@contextlib.contextmanager
def building(target: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes ``target`` when the block succeeds and vanishes when it fails."""
    private_folder(target.parent)
    work = Path(tempfile.mkdtemp(dir=target.parent, prefix=UNFINISHED))
    try:
        yield work
        os.rename(work, target)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


def reap_unfinished(folder: Path) -> None:
    """Remove what an interrupted build left. Only for the owner of the folder, at its start."""
    if folder.is_dir():
        for leftover in folder.glob(UNFINISHED + "*"):
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)


def unnamed_file(folder: Path, size: int) -> int:
    """Return the descriptor of a sparse file of ``size`` bytes in the folder's file system. It has no name, so that it
    is gone with its last descriptor, whoever is killed.
    """
    try:
        fd = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR):
            raise
        fd, name = tempfile.mkstemp(dir=folder, prefix=UNFINISHED)
        os.unlink(name)
    try:
        os.ftruncate(fd, size)
    except BaseException:
        os.close(fd)
        raise
    return fd


def unnamed_bytes(pid: int, device: int) -> int:
    """Return what the files without a name that a process holds open take of the file system with that number."""
    sizes: dict[int, int] = {}
    with contextlib.suppress(OSError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                status = os.stat(entry.path)
                if status.st_dev == device and status.st_nlink == 0:
                    sizes[status.st_ino] = status.st_blocks * 512
    return sum(sizes.values())


def require_space(folder: Path, bytes_needed: int, purpose: str) -> None:
    """Raise ``CapacityError`` unless the folder's file system has that much room, with a margin of 64 MiB."""
    free = shutil.disk_usage(folder).free
    needed = bytes_needed + (64 << 20)
    if free < needed:
        raise CapacityError(
            f"not enough room for {purpose}: {needed >> 20} MiB needed, {free >> 20} MiB free in {folder}",
            hint="free disk space or choose another state folder with --state",
        )
