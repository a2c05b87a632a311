"""Disks that a pod's guest may write: sparse files with an empty ext4 file system, whose capacity is exact.

A volume's limit is what its files may hold: the file system's own tables come on top, and the host finds out how large
the file must be by making one and counting. Disks of one size are copies of the first; nothing on the host ever reads
what a guest has written.
"""

from __future__ import annotations

import os
import subprocess
import uuid
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path

from alcove.errors import HostError, InvalidRequest
from alcove.host.files import unnamed_file
from alcove.host.memory import copy_sparse

BLOCK = 4096
SMALLEST = 1 << 20
# Made disks kept to be copied; each takes some hundred kilobytes.
_KEPT = 16
_TRIES = 8
# A journal would guard a file system that nobody opens after a crash.
_FEATURES = "^has_journal,^resize_inode,^64bit,^metadata_csum,^huge_file,uninit_bg,extent,flex_bg"
_SUPERBLOCK = 1024
_FREE_BLOCKS = 12
# What the kernel keeps back from everybody: the fiftieth part, at most 4096 blocks (ext4_calculate_resv_clusters in
# fs/ext4/super.c).
_KERNEL_SHARE, _KERNEL_MOST = 50, 4096
# Hidden blocks are those of an inode: so many are in itself, so many more in one block of addresses.
_DIRECT, _MOST_HIDDEN = 12, 1024
_STEP = 128
# /lost+found, which is removed when the disk is mounted.
_LOST_AND_FOUND = 4


class DiskMaker:
    """Makes disks as files without a name in ``folder``'s file system. For threads; one at a time."""

    def __init__(self, folder: Path, largest: int) -> None:
        self._folder = folder
        self._largest = largest
        self._made: OrderedDict[int, int] = OrderedDict()

    def check(self, capacity: object) -> int:
        """Return a disk's capacity if there can be one. Raises ``InvalidRequest``."""
        if isinstance(capacity, bool) or not isinstance(capacity, int) or not SMALLEST <= capacity <= self._largest:
            raise InvalidRequest(f"bytes: {capacity!r} is not between {SMALLEST} and {self._largest}")
        return capacity

    def make(self, capacity: int) -> int:
        """Return the descriptor of a new disk whose files may hold ``capacity`` bytes, as far as whole blocks go, and
        never more. Raises ``CapacityError``, ``HostError``.
        """
        source = self._made.get(capacity)
        if source is None:
            source = self._made[capacity] = self._format(capacity)
            if len(self._made) > _KEPT:
                os.close(self._made.popitem(last=False)[1])
        self._made.move_to_end(capacity)
        fd = unnamed_file(self._folder, os.fstat(source).st_size)
        try:
            copy_sparse(source, fd)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def close(self) -> None:
        while self._made:
            os.close(self._made.popitem()[1])

    def _format(self, capacity: int) -> int:
        wanted = capacity // BLOCK
        blocks = wanted + wanted // 48 + 64
        for _ in range(_TRIES):
            fd = self._try(blocks)
            missing = wanted - _usable(fd, blocks)
            if not missing:
                return fd
            os.close(fd)
            blocks += missing
        # Where a block more starts a new group of blocks, no size has just that: a larger one, of which some is hidden.
        return self._larger(blocks, wanted)

    def _larger(self, blocks: int, wanted: int) -> int:
        while True:
            fd = self._try(blocks)
            spare = _usable(fd, blocks) - wanted
            os.close(fd)
            # Beyond so many, the list of what is hidden takes a block itself.
            hidden = spare if spare <= _DIRECT else spare - 1
            if spare >= 0 and hidden <= _MOST_HIDDEN:
                fd = self._try(blocks, hidden)
                if _usable(fd, blocks) == wanted:
                    return fd
                os.close(fd)
            blocks += 1 if spare >= 0 else max(-spare, _STEP)

    def _try(self, blocks: int, hidden: int = 0) -> int:
        fd = unnamed_file(self._folder, blocks * BLOCK)
        try:
            _make_file_system(fd, range(blocks - hidden, blocks))
        except BaseException:
            os.close(fd)
            raise
        return fd


def _usable(fd: int, blocks: int) -> int:
    free = int.from_bytes(os.pread(fd, 4, _SUPERBLOCK + _FREE_BLOCKS), "little")
    return free + _LOST_AND_FOUND - min(blocks // _KERNEL_SHARE, _KERNEL_MOST)


def _make_file_system(fd: int, hidden: Iterable[int] = ()) -> None:
    """``hidden`` are blocks that no file gets: the file system is told that they are bad."""
    options = f"lazy_itable_init=1,nodiscard,root_owner=0:0,hash_seed={uuid.uuid4()}"
    command = ["/sbin/mke2fs", "-q", "-F", "-t", "ext4", "-b", str(BLOCK), "-I", "256", "-i", "16384", "-m", "0"]
    command += ["-O", _FEATURES, "-E", options, "-l", "/dev/stdin", f"/proc/self/fd/{fd}"]
    listed = "".join(f"{block}\n" for block in hidden)
    try:
        done = subprocess.run(command, pass_fds=(fd,), capture_output=True, text=True, input=listed)
    except OSError as error:
        raise HostError(f"mke2fs cannot run: {error}", hint="apt-get install e2fsprogs") from error
    if done.returncode:
        raise HostError(f"mke2fs failed: {done.stderr.strip()[-400:]}", hint="is the disk of the state folder full?")
