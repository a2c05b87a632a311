"""How a process ended that is no child of ours, for whoever holds its pidfd."""

from __future__ import annotations

import contextlib
import fcntl
import time
from pathlib import Path

_TRIES = 50
# _IOWR(PIDFS_IOCTL_MAGIC, 11, 64 bytes) and PIDFD_INFO_EXIT (linux/pidfd.h, Linux 6.15).
_PIDFD_GET_INFO, _PIDFD_INFO_EXIT = 0xC040FF0B, 8


def exit_status(pidfd: int, pid: int) -> int:
    """Return the wait status of a process that has ended; 0 where the kernel does not tell. For a thread.

    Until its parent reaps it, /proc/PID/stat has the status (field 52); from then on, newer kernels tell by pidfd.
    """
    for _ in range(_TRIES):
        with contextlib.suppress(OSError, ValueError, IndexError):
            stat = Path(f"/proc/{pid}/stat").read_text()
            fields = stat[stat.rindex(")") + 2 :].split()
            if fields[0] == "Z":
                return int(fields[49])
        info = bytearray(64)
        info[:8] = _PIDFD_INFO_EXIT.to_bytes(8, "little")
        try:
            fcntl.ioctl(pidfd, _PIDFD_GET_INFO, info)
        except OSError:
            return 0
        if int.from_bytes(info[:8], "little") & _PIDFD_INFO_EXIT:
            return int.from_bytes(info[60:64], "little", signed=True)
        time.sleep(0.002)  # between the two
    return 0
