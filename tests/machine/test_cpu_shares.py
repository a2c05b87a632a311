"""CPU in proportion to memory: what two machines get of one processor that both want."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from tests.machine.lab import Guest, Lab

from alcove.host.cgroup import find_hierarchy

pytestmark = [pytest.mark.machine, pytest.mark.asyncio(loop_scope="session")]

SMALL_MIB, LARGE_MIB = 128, 512
BUSY = "end = time.monotonic() + event['s']\nwhile time.monotonic() < end: pass\nresult = 1"
# Seconds of contention that are counted, and of the work around them.
COUNTED_S, WORK_S = 4.0, 8.0


def weight(lab: Lab, guest: Guest) -> int:
    """Return the group's share of a processor that others want too, in the hierarchy's own scale."""
    hierarchy, path = find_hierarchy(), f"alcove-{lab.tag}/{guest.sandbox.id}"
    if hierarchy.unified is not None:
        return int((hierarchy.unified / path / "cpu.weight").read_text())
    return int((hierarchy.controllers["cpu"] / path / "cpu.shares").read_text())


def pin(guest: Guest, cpu: int) -> None:
    for thread in Path(f"/proc/{guest.pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {cpu})


def ticks(guest: Guest) -> int:
    """Return the processor time that the machine has had, user's and system's (proc(5))."""
    fields = Path(f"/proc/{guest.pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


async def test_four_times_the_memory_is_four_times_the_processor(lab: Lab) -> None:
    small, large = [await lab.load(memory_mib=mib) for mib in (SMALL_MIB, LARGE_MIB)]
    assert await small.do("result = 1") == await large.do("result = 1") == 1
    wanted = LARGE_MIB / SMALL_MIB
    assert weight(lab, large) / weight(lab, small) == pytest.approx(wanted, rel=0.35)
    # On one processor, so that each has only what the other leaves, whatever else runs on this machine.
    cpu = min(os.sched_getaffinity(0))
    for guest in (small, large):
        pin(guest, cpu)
    work = [asyncio.create_task(guest.do(BUSY, timeout_s=120, s=WORK_S)) for guest in (small, large)]
    await asyncio.sleep((WORK_S - COUNTED_S) / 2)
    before = ticks(small), ticks(large)
    await asyncio.sleep(COUNTED_S)
    got_small, got_large = ticks(small) - before[0], ticks(large) - before[1]
    assert await asyncio.gather(*work) == [1, 1]
    assert got_small > 0
    assert wanted / 2 < got_large / got_small < wanted * 2, (got_small, got_large)
