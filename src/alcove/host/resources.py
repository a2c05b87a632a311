"""What is left of the machine, and the errors of what was not enough."""

from __future__ import annotations

import errno
from pathlib import Path

from alcove.errors import CapacityError, HostError


def available_memory_mib() -> int:
    """Return what can be used without swapping, as the kernel estimates it (MemAvailable, proc(5))."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) // 1024
    return 0


def require_memory(needed_mib: int, reserve_mib: int) -> None:
    """Raise ``CapacityError`` where taking ``needed_mib`` would leave less than the reserve."""
    available = available_memory_mib()
    if available - needed_mib < reserve_mib:
        raise CapacityError(
            f"memory is short: {available} MiB available, {needed_mib} needed, {reserve_mib} kept in reserve",
            hint="stop sandboxes, lower --idle-timeout-s, or lower --memory-reserve-mib",
        )


def start_failure(error: OSError, what: str) -> CapacityError | HostError:
    """Return the error for a ``what`` that the host did not let start."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return CapacityError(f"no room for a {what}: the disk is full", hint="free disk space in the state folder")
    if error.errno in (errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE):
        return CapacityError(
            f"the machine is out of resources: {error.strerror}", hint="stop sandboxes or raise limits"
        )
    return HostError(f"a {what} could not be started: {error}", hint="run: alcove doctor")
