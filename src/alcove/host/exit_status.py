"""How a process ended that is no child of ours: the kernel tells whoever holds its pidfd, from Linux 6.15 on."""

from __future__ import annotations

import fcntl
import time

_TRIES = 50
# _IOWR(PIDFS_IOCTL_MAGIC, 11, 64 bytes) and PIDFD_INFO_EXIT (linux/pidfd.h, Linux 6.15).
_PIDFD_GET_INFO, _PIDFD_INFO_EXIT = 0xC040FF0B, 8


def exit_status(pidfd: int) -> int:
    """Return the wait status of a process that has ended, child of ours or not; 0 where the kernel does not tell."""
    info = bytearray(64)
    for _ in range(_TRIES):
        info[:8] = _PIDFD_INFO_EXIT.to_bytes(8, "little")
        try:
            fcntl.ioctl(pidfd, _PIDFD_GET_INFO, info)
        except OSError:
            return 0
        if int.from_bytes(info[:8], "little") & _PIDFD_INFO_EXIT:
            return int.from_bytes(info[60:64], "little", signed=True)
        time.sleep(0.002)  # its parent has not reaped it yet
    return 0
