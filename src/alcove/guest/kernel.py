"""System calls that Python's standard library lacks, bound once.

Sources: mount(2), umount2(2), prctl(2), personality(2), random(4).
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct

_libc = ctypes.CDLL(None, use_errno=True)
_mount = _libc.mount
_umount2 = _libc.umount2
_prctl = _libc.prctl
_personality = _libc.personality
_personality.argtypes = [ctypes.c_ulong]

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND = 1, 2, 4, 8, 32, 4096
MS_NOATIME = 1024
MNT_DETACH = 2
CLONE_NEWPID = 0x20000000
PER_LINUX, ADDR_NO_RANDOMIZE = 0, 0x40000
_PR_SET_NO_NEW_PRIVS = 38
_RNDADDENTROPY = 0x40085203
_RNDRESEEDCRNG = 0x5207
# _IOW('f', 16, __u64), Linux fs/ext4/ext4.h: the new size in blocks.
_EXT4_IOC_RESIZE_FS = 0x40086610
_BLKRRPART = 0x125F


def _check(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def mount(source: str, target: str, kind: str, flags: int = 0, data: str = "") -> None:
    _check(_mount(source.encode(), target.encode(), kind.encode(), flags, data.encode() or None), target)


def unmount(target: str, flags: int = 0) -> None:
    _check(_umount2(target.encode(), flags), target)


def grow_ext4(path: str, size: int) -> None:
    """Make the mounted file system as large as ``size`` bytes; its disk is that large already."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, _EXT4_IOC_RESIZE_FS, struct.pack("Q", size // os.fstatvfs(fd).f_bsize))
    finally:
        os.close(fd)


def reread_partitions(device: str) -> None:
    """Have the kernel read the disk's partition table again; none of them may be in use."""
    fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, _BLKRRPART)
    finally:
        os.close(fd)


def unshare(flags: int) -> None:
    """Source: unshare(2)."""
    _check(_libc.unshare(flags), "unshare")


def set_namespace(fd: int, kind: int) -> None:
    """Source: setns(2)."""
    _check(_libc.setns(fd, kind), "setns")


def set_personality(persona: int) -> None:
    """What programs that are executed from now on are given, by us and by our children. Source: personality(2)."""
    if _personality(persona) < 0:
        raise OSError(ctypes.get_errno(), "personality")


def forbid_new_privileges() -> None:
    _check(_prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")


def add_entropy(fd: int, entropy: bytes) -> None:
    """Credit ``entropy`` to the kernel's pool (``fd`` is /dev/urandom) and have every generator reseed at once."""
    fcntl.ioctl(fd, _RNDADDENTROPY, struct.pack("ii", len(entropy) * 8, len(entropy)) + entropy)
    fcntl.ioctl(fd, _RNDRESEEDCRNG)
