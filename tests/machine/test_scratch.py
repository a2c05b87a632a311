"""/tmp is a disk of its own: as large as its quota, private to its machine, gone with it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.machine.lab import ANYTHING, Guest, Lab

from alcove.errors import SandboxError
from alcove.images.scratch import SMALLEST_MIB, disk_bytes
from alcove.sandbox.protocol import Start
from alcove.sandbox.vm import SCRATCH_DRIVE

pytestmark = [pytest.mark.machine, pytest.mark.asyncio(loop_scope="session")]

MIB = 1 << 20
FREE = "found = os.statvfs('/tmp'); result = found.f_bavail * found.f_bsize >> 20"
FILL = """
block, result = os.urandom(1 << 20), 0
with open("/tmp/big", "wb", buffering=0) as file:
    try:
        while True:
            result += file.write(block)
    except OSError as error:
        result = [result >> 20, error.errno]
"""


def disk(guest: Guest) -> os.stat_result:
    fd = guest.sandbox.resources.scratch_fd
    assert fd is not None
    return os.fstat(fd)


async def test_it_is_full_at_its_quota_and_costs_no_memory(lab: Lab) -> None:
    """A function of 128 MB fills its 512 MiB with what no compression shrinks."""
    guest = await lab.load(how=Start.RESTORED, memory_mib=128)
    written, errno = await guest.do(FILL, timeout_s=120)
    assert 512 <= written < 512 + 32
    assert errno == 28
    assert disk(guest).st_size == disk_bytes(SMALLEST_MIB)
    assert disk(guest).st_blocks * 512 <= disk_bytes(SMALLEST_MIB)
    assert await guest.do("os.unlink('/tmp/big'); os.sync(); result = os.listdir('/tmp')") == []
    # What is deleted is the host's again.
    assert disk(guest).st_blocks * 512 < 16 * MIB
    assert guest.exits == []


@pytest.mark.parametrize("how", [Start.BOOTED, Start.RESTORED], ids=str)
async def test_a_larger_quota(lab: Lab, how: Start) -> None:
    guest = await lab.load(how=how, scratch_mib=10_240)
    assert 10_240 <= await guest.do(FREE) < 10_240 + 300
    size = disk_bytes(10_240)
    assert disk(guest).st_size == size
    # The last of it is there.
    source = "fd = os.open('/tmp/big', os.O_RDWR | os.O_CREAT)\nos.posix_fallocate(fd, 0, 10_200 << 20)\n"
    source += (
        "os.pwrite(fd, b'end', (10_200 << 20) - 3)\nos.sync()\nresult = os.pread(fd, 3, (10_200 << 20) - 3).decode()"
    )
    assert await guest.do(source, timeout_s=60) == "end"
    assert disk(guest).st_size == size


async def test_its_file_has_no_name_and_each_machine_its_own(lab: Lab) -> None:
    first, second = await lab.load(), await lab.load(tenant="tenant-b")
    await first.do("open('/tmp/mine', 'w').write('x')")
    assert await second.do("result = os.listdir('/tmp')") == []
    assert disk(first).st_nlink == 0
    assert (disk(first).st_dev, disk(first).st_ino) != (disk(second).st_dev, disk(second).st_ino)
    found = await first.do("result = [line.split() for line in open('/proc/mounts') if ' /tmp ext4 ' in line]")
    assert {"nosuid", "nodev", "rw"} <= set(found[0][3].split(","))
    assert await first.do("result = oct(os.stat('/tmp').st_mode)") == "0o41777"


async def test_a_snapshot_has_what_init_left_there(lab: Lab) -> None:
    source = "open('/tmp/cache', 'wb').write(b'c' * 100_000)\n" + ANYTHING
    workload = await lab.workload("import os\n" + source, scratch_mib=1024, version="scratch")
    await lab.tier.snapshot(workload)
    first, second = [lab.guest(await lab.tier.start_snapshot(workload)) for _ in range(2)]
    for guest in (first, second):
        assert await guest.do("result = open('/tmp/cache', 'rb').read() == b'c' * 100_000") is True
        assert 1024 <= await guest.do(FREE) < 1024 + 64
    await first.do("open('/tmp/cache', 'wb').write(b'changed')\nopen('/tmp/new', 'w').write('x')")
    assert await second.do("result = sorted(os.listdir('/tmp'))") == ["cache"]
    third = lab.guest(await lab.tier.start_snapshot(workload))
    assert await third.do("result = open('/tmp/cache', 'rb').read() == b'c' * 100_000") is True


async def test_a_snapshot_that_leaves_too_much_is_not_taken(lab: Lab) -> None:
    source = "import os\nopen('/tmp/big', 'wb').write(os.urandom(80 << 20))\nos.sync()\n" + ANYTHING
    workload = await lab.workload(source, version="full")
    with pytest.raises(SandboxError, match="leaves more than 64 MiB"):
        await lab.tier.snapshot(workload)
    assert not lab.tier.has_snapshot(workload)


async def test_its_format_is_said_and_its_use_is_limited(lab: Lab) -> None:
    """A qcow2 header in the raw disk, written by the guest's root: nothing of the host's is opened for it."""
    guest = await lab.load()
    nodes = await guest.sandbox.machine.monitor.execute("query-named-block-nodes")
    scratch = [node for node in nodes if node["node-name"].startswith(SCRATCH_DRIVE)]
    assert {node["drv"] for node in scratch} == {"file", "raw", "throttle"}
    groups = await guest.sandbox.machine.monitor.execute(
        "qom-get", {"path": f"/objects/{SCRATCH_DRIVE}-limits", "property": "limits"}
    )
    assert groups["bps-total"] == 256 * MIB
    assert groups["iops-total"] > 0
    limits = Path(f"/proc/{guest.pid}/limits").read_text()
    assert f"{12 << 30}" in next(line for line in limits.splitlines() if line.startswith("Max file size"))
