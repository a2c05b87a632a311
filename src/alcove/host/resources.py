"""What is left of the machine."""

from __future__ import annotations

from pathlib import Path

from alcove.errors import CapacityError


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
