"""Quotas of folders: an ext4 project each, by which the kernel counts what is written below (quotactl(2)).

What is made in a folder is of its project. A container's root can give its own files to another project: the quota
keeps neighbours in a pod from each other's mistakes; what a pod may write is its disk's size.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct

from alcove.guest.refused import Refused

# linux/fs.h: _IOR('X', 31, struct fsxattr), _IOW('X', 32, struct fsxattr); flags, hints, extents, project.
_FS_IOC_FSGETXATTR, _FS_IOC_FSSETXATTR = 0x801C581F, 0x401C5820
_FSXATTR = struct.Struct("=IIIII8x")
_INHERIT = 0x200
# linux/quota.h: QCMD(Q_GETQUOTA and Q_SETQUOTA, PRJQUOTA), struct if_dqblk in blocks of 1 KiB, QIF_BLIMITS and
# QIF_ILIMITS.
_GET_QUOTA, _SET_QUOTA = 0x800007 << 8 | 2, 0x800008 << 8 | 2
_DQBLK = struct.Struct("=QQQQQQQQI4x")
_BLOCK, _LIMITS_COUNT = 1024, 1 | 4
# As mke2fs made the disk (images/scratch.py); small limits are of more files, which take no blocks where empty.
_BYTES_OF_A_FILE, _FEWEST_FILES = 16_384, 1024
# asm-generic/unistd.h, Linux 5.14.
_SYS_QUOTACTL_FD = 443

_libc = ctypes.CDLL(None, use_errno=True)


def assign(folder: str, project: int) -> None:
    """Make an empty folder the project's, and all that will be made in it. Raises ``Refused``."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        flags, *others = _FSXATTR.unpack(fcntl.ioctl(fd, _FS_IOC_FSGETXATTR, bytes(_FSXATTR.size)))
        wanted = _FSXATTR.pack(flags | _INHERIT, *others[:2], project, others[3])
        fcntl.ioctl(fd, _FS_IOC_FSSETXATTR, wanted)
    except OSError as error:
        raise Refused("unsupported", "the pod's kernel holds containers to no disk limits of their own") from error
    finally:
        os.close(fd)


def limit(folder: str, project: int, size: int) -> None:
    """Let the project have ``size`` bytes of the folder's disk beside what it has, and its share of files."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        used = _DQBLK.unpack(_quota(fd, _GET_QUOTA, project, bytes(_DQBLK.size)))
        _quota(fd, _SET_QUOTA, project, quota(size, used_bytes=used[2], used_files=used[5]))
    finally:
        os.close(fd)


def quota(size: int, *, used_bytes: int, used_files: int) -> bytes:
    # Where nothing is left there still is a limit, for 0 is none.
    blocks = max(1, (used_bytes + size) // _BLOCK)
    files = used_files + max(_FEWEST_FILES, size // _BYTES_OF_A_FILE)
    return _DQBLK.pack(blocks, blocks, 0, files, files, 0, 0, 0, _LIMITS_COUNT)


def _quota(fd: int, command: int, project: int, quota: bytes) -> bytes:
    buffer = ctypes.create_string_buffer(quota, len(quota))
    if _libc.syscall(_SYS_QUOTACTL_FD, fd, command, project, buffer):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return buffer.raw
