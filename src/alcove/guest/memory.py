"""The most memory that the tenant's processes have held together, as the kernel counts it for their limit: what they
have touched, what the kernel keeps for them, cached files included.
"""

from __future__ import annotations

import contextlib
import os

_MIB = 1 << 20


class MemoryPeak:
    """Reads a group's ``memory.peak``. Opened once: reading is then one system call. Kernels before 5.19 have none."""

    def __init__(self, path: str) -> None:
        self._fd = -1
        self._told = 0
        with contextlib.suppress(FileNotFoundError):
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def mib(self) -> int:
        """Return the peak in MiB, rounded up; 0 where it is not known."""
        if self._fd < 0:
            return 0
        return -(-int(os.pread(self._fd, 32, 0)) // _MIB)

    def risen(self) -> int | None:
        """Return the peak where it is above what was told before, else None."""
        mib = self.mib()
        if mib <= self._told:
            return None
        self._told = mib
        return mib

    def forget(self) -> None:
        """Whoever was told is another one now."""
        self._told = 0
