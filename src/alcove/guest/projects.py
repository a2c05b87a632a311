"""Quotas of folders: an ext4 project each, by which the kernel counts what is written below (quotactl(2)).

What is made in a folder is of its project. A container's root can give its own files to another project: the quota
keeps neighbours in a pod from each other's mistakes; what a pod may write is its disk's size.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct

# linux/fs.h: _IOR('X', 31, struct fsxattr), _IOW('X', 32, struct fsxattr); flags, hints, extents, project.
_FS_IOC_FSGETXATTR, _FS_IOC_FSSETXATTR = 0x801C581F, 0x401C5820
_FSXATTR = struct.Struct("=IIIII8x")
_INHERIT = 0x200
# linux/quota.h: QCMD(Q_SETQUOTA, PRJQUOTA), struct if_dqblk in blocks of 1 KiB, QIF_BLIMITS.
_SET_QUOTA = 0x800008 << 8 | 2
_DQBLK = struct.Struct("=QQQQQQQQI4x")
_BLOCK, _LIMITS_COUNT = 1024, 1
# asm-generic/unistd.h, Linux 5.14.
_SYS_QUOTACTL_FD = 443

_libc = ctypes.CDLL(None, use_errno=True)


def assign(folder: str, project: int) -> None:
    """Make an empty folder the project's, and all that will be made in it."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        flags, *others = _FSXATTR.unpack(fcntl.ioctl(fd, _FS_IOC_FSGETXATTR, bytes(_FSXATTR.size)))
        wanted = _FSXATTR.pack(flags | _INHERIT, *others[:2], project, others[3])
        fcntl.ioctl(fd, _FS_IOC_FSSETXATTR, wanted)
    finally:
        os.close(fd)


def limit(folder: str, project: int, size: int) -> None:
    """Let the project have ``size`` bytes of the folder's disk; 0 is no limit."""
    # More than nothing, for nothing is no limit.
    blocks = max(1, size // _BLOCK) if size else 0
    quota = _DQBLK.pack(blocks, blocks, 0, 0, 0, 0, 0, 0, _LIMITS_COUNT)
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _libc.syscall(_SYS_QUOTACTL_FD, fd, _SET_QUOTA, project, quota):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), folder)
    finally:
        os.close(fd)
