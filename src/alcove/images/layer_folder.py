"""The folder of one image layer on the host, as containerd's overlayfs snapshotter keeps it.

A committed folder is never changed again, so its place and its inode's times name its content for good. What a stranger
has packed is in it: how much, and whether squashfs can hold it, is looked at before anything is built.
"""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from alcove.errors import InvalidRequest, NotFound, TooLarge

# What squashfs has no room for: it would be lost, and with it who may not read a file.
_ACCESS_LISTS = frozenset({"system.posix_acl_access", "system.posix_acl_default"})


@dataclass(frozen=True, slots=True)
class LayerLimits:
    """What one layer may be: bytes of its files, as they read; entries; seconds that building may take."""

    bytes: int = 32 << 30
    entries: int = 1_000_000
    seconds: int = 900


@dataclass(frozen=True, slots=True)
class Contents:
    """What a layer holds; ``stored`` is what its files take, without the holes of sparse ones."""

    entries: int
    stored: int


def open_folder(folder: Path) -> int:
    """Return a descriptor of the folder itself, which is no link. Raises ``NotFound``, ``InvalidRequest``."""
    try:
        return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise NotFound(f"the layer {folder} does not exist", hint="pull the image again") from error
    except OSError as error:
        raise InvalidRequest(f"the layer {folder} cannot be opened: {error.strerror}") from error


def fingerprint(folder: Path, fd: int) -> str:
    """Return the name of what the folder holds, as long as nobody changes it."""
    status = os.fstat(fd)
    parts = (os.fspath(folder), status.st_dev, status.st_ino, status.st_ctime_ns, status.st_mtime_ns)
    return hashlib.sha256("\0".join(map(str, parts)).encode(errors="surrogateescape")).hexdigest()


def survey(folder: Path, limits: LayerLimits) -> Contents:
    """Look at every entry. Raises ``TooLarge`` beyond the limits, ``InvalidRequest`` where squashfs would lose
    something.
    """
    entries, size, stored = 0, 0, 0
    waiting = [os.fspath(folder)]
    while waiting:
        current = waiting.pop()
        _refuse_access_lists(current)
        with os.scandir(current) as found:
            for entry in found:
                status = entry.stat(follow_symlinks=False)
                entries += 1
                if stat.S_ISDIR(status.st_mode):
                    waiting.append(entry.path)
                elif stat.S_ISREG(status.st_mode):
                    _refuse_access_lists(entry.path)
                    # A hard link's share: all of them together are one file.
                    size += status.st_size // status.st_nlink
                    stored += min(status.st_blocks * 512, status.st_size) // status.st_nlink
                if entries > limits.entries or size > limits.bytes:
                    raise TooLarge(
                        f"the layer {folder} has more than {limits.entries} entries or {limits.bytes >> 20} MiB",
                        hint="use an image with smaller layers",
                    )
    return Contents(entries, stored)


def _refuse_access_lists(path: str) -> None:
    if _ACCESS_LISTS.intersection(os.listxattr(path, follow_symlinks=False)):
        raise InvalidRequest(
            f"{path} has an access control list, which a pod's image cannot keep",
            hint="build the image without it (setfacl -b)",
        )
