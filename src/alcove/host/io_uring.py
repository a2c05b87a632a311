"""Whether this host lets an unprivileged process use io_uring(7)."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_SETUP = 425
_PARAMETERS_BYTES = 120
_DISABLED = Path("/proc/sys/kernel/io_uring_disabled")


def io_uring_works() -> bool:
    """Set one up and drop it. Containers' seccomp filters refuse it; so does the sysctl, from Linux 6.6 on."""
    if _DISABLED.exists() and _DISABLED.read_text().strip() != "0":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    fd = int(libc.syscall(_SETUP, 1, ctypes.create_string_buffer(_PARAMETERS_BYTES)))
    if fd < 0:
        return False
    os.close(fd)
    return True
