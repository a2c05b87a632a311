"""Scratch disks on the host: small when empty, without a name, saved with their machine, bounded together."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alcove.errors import InvalidRequest
from alcove.functions.limits import check_logging, check_scratch
from alcove.host.files import unnamed_bytes, unnamed_file
from alcove.host.memory import create_memory
from alcove.images.scratch import LARGEST_MIB, SMALLEST_MIB, disk_bytes, empty_disk
from alcove.policy.decide import Case, Facts, decide
from alcove.policy.rules import Rules
from alcove.sandbox.protocol import Isolation, Logging
from alcove.sandbox.scratch_guard import WORTH_MIB, ScratchGuard, largest
from alcove.sandbox.vm import VmSandbox
from alcove.vmm.template import MachineStore, disk_digest

MIB = 1 << 20


@pytest.fixture
def fds() -> Iterator[list[int]]:
    opened: list[int] = []
    yield opened
    for fd in opened:
        os.close(fd)


@given(st.integers(SMALLEST_MIB, LARGEST_MIB))
def test_a_disk_is_larger_than_its_quota_but_not_by_much(quota: int) -> None:
    assert quota * MIB < disk_bytes(quota) < quota * MIB * 1.06
    assert disk_bytes(quota) % 4096 == 0


def test_an_empty_disk_is_small_and_has_no_name(tmp_path: Path, fds: list[int]) -> None:
    fds.append(fd := empty_disk(tmp_path))
    status = os.fstat(fd)
    assert status.st_size == disk_bytes(SMALLEST_MIB)
    assert status.st_blocks * 512 < MIB
    assert status.st_nlink == 0
    assert list(tmp_path.iterdir()) == []
    # The magic number of ext4's superblock.
    assert os.pread(fd, 2, 1024 + 56) == b"\x53\xef"


def test_a_machine_is_saved_with_its_disk(tmp_path: Path, fds: list[int]) -> None:
    fds.append(fd := empty_disk(tmp_path))
    os.pwrite(fd, b"left by init", 300 * MIB)
    store = MachineStore(tmp_path / "machines")
    memory = create_memory("scratch-test", MIB)
    store.save("key", memory, b"state", {}, fd).close()
    assert (tmp_path / "machines/key/scratch").stat().st_blocks * 512 < MIB
    loaded = store.load("key")
    assert loaded is not None
    assert loaded.scratch_fd is not None
    assert disk_digest(loaded.scratch_fd) == disk_digest(fd)
    assert os.pread(loaded.scratch_fd, 12, 300 * MIB) == b"left by init"
    loaded.close()


@pytest.mark.parametrize("damage", ["altered", "truncated", "gone"])
def test_a_damaged_disk_is_not_restored(tmp_path: Path, fds: list[int], damage: str) -> None:
    fds.append(fd := empty_disk(tmp_path))
    store = MachineStore(tmp_path / "machines")
    store.save("key", create_memory("scratch-test", MIB), b"state", {}, fd).close()
    disk = tmp_path / "machines/key/scratch"
    if damage == "altered":
        with disk.open("r+b") as file:
            file.seek(200 * MIB)
            file.write(b"x")
    elif damage == "truncated":
        os.truncate(disk, 100 * MIB)
    else:
        disk.unlink()
    assert store.load("key") is None
    assert not store.has("key")


@dataclass
class Machine:
    id: str
    resources: Any
    ended: bool = False
    reason: str = ""

    async def end(self, reason: str) -> None:
        self.ended, self.reason = True, reason

    def disk_bytes(self) -> int:
        return VmSandbox.disk_bytes(cast(Any, self))


def machine(tmp_path: Path, fds: list[int], mib: int) -> Any:
    fds.append(fd := unnamed_file(tmp_path, 1 << 30))
    os.posix_fallocate(fd, 0, max(1, mib * MIB))
    return cast(Any, Machine(f"s-{mib}", SimpleNamespace(scratch_fd=fd)))


async def test_the_largest_goes_where_the_host_is_short(tmp_path: Path, fds: list[int]) -> None:
    machines = [machine(tmp_path, fds, mib) for mib in (WORTH_MIB + 4, WORTH_MIB + 8, 1)]
    adopted = cast(Any, Machine("s-adopted", SimpleNamespace(scratch_fd=None)))
    live = [lambda: [*machines[:1], adopted], lambda: machines[1:]]
    assert await ScratchGuard(tmp_path, live, reserve_mib=0).check() is None
    short = ScratchGuard(tmp_path, live, reserve_mib=1 << 30)
    assert await short.check() is machines[1]
    assert machines[1].reason == "out_of_disk"
    assert await short.check() is machines[0]
    # What is left holds nothing worth it.
    assert await short.check() is None
    assert largest([]) is None


@pytest.mark.parametrize("size", [511, 10_241, 0, -1])
def test_sizes_beyond_the_limits_are_refused(size: int) -> None:
    with pytest.raises(InvalidRequest, match="512 to 10240"):
        check_scratch(size)


def test_a_large_disk_demands_a_machine() -> None:
    operator = Facts(runtime="python3.11", latest=False, operator=Isolation.PROCESS)
    assert decide(operator, Rules()).isolation is Isolation.PROCESS
    found = decide(replace(operator, disk_mib=1024), Rules())
    assert (found.isolation, found.case) == (Isolation.VM, Case.DISK)
    assert "1024 MB" in found.reason


def test_logging_as_aws_has_it() -> None:
    assert check_logging(Logging()) == Logging()
    assert check_logging(Logging("JSON")) == Logging("JSON", "INFO", "INFO")
    assert check_logging(Logging("JSON", "TRACE", "WARN")) == Logging("JSON", "TRACE", "WARN")
    for wrong in (Logging("XML"), Logging("Text", "INFO"), Logging("JSON", "LOUD"), Logging("JSON", "INFO", "ERROR")):
        with pytest.raises(InvalidRequest):
            check_logging(wrong)


def test_what_a_process_holds_without_a_name_is_counted(tmp_path: Path, fds: list[int]) -> None:
    named = tmp_path / "named"
    named.write_bytes(bytes(4 * MIB))
    before = unnamed_bytes(os.getpid(), tmp_path.stat().st_dev)
    fds.append(fd := unnamed_file(tmp_path, 1 << 30))
    # Held twice, it takes its room once.
    fds += [os.dup(fd), os.open(named, os.O_RDONLY)]
    os.posix_fallocate(fd, 0, 8 * MIB)
    assert 8 * MIB <= unnamed_bytes(os.getpid(), tmp_path.stat().st_dev) - before < 9 * MIB
    assert unnamed_bytes(os.getpid(), 0) == 0
