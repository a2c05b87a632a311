"""Saved machines in memory: loaded once, sent back to the disk when there are too many, never half dropped."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from alcove.errors import SandboxError
from alcove.host.memory import create_memory
from alcove.sandbox.shelf import Shelf
from alcove.vmm.template import MachineStore

MIB = 1 << 20


def memory(mib: int) -> int:
    fd = create_memory("shelf-test", 16 * MIB)
    os.pwrite(fd, b"x" * (mib * MIB), 0)
    return fd


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "machines"


async def test_what_was_used_least_recently_goes_back_to_the_disk(folder: Path) -> None:
    shelf = Shelf(MachineStore(folder), limit_bytes=5 * MIB)
    gone: list[str] = []
    shelf.removed = gone.append
    first = await shelf.save("a", memory(2), b"state of a", {})
    await shelf.save("b", memory(2), b"state of b", {})
    assert shelf.get("a") is first
    await shelf.save("c", memory(2), b"state of c", {})
    assert gone == ["b"]
    assert shelf.get("b") is None
    assert "b" in shelf
    again = await shelf.find("b")
    assert again is not None
    assert os.pread(again.memory_fd, 4, 0) == b"xxxx"
    assert gone == ["b", "a"]
    assert first.closed
    shelf.close()


async def test_one_that_is_larger_than_the_limit_is_kept_alone(folder: Path) -> None:
    shelf = Shelf(MachineStore(folder), limit_bytes=MIB)
    await shelf.save("a", memory(1), b"a", {})
    saved = await shelf.save("b", memory(3), b"b", {})
    assert shelf.get("b") is saved
    assert shelf.get("a") is None
    shelf.close()


async def test_many_who_ask_at_once_get_the_same_machine(folder: Path) -> None:
    shelf = Shelf(MachineStore(folder))
    await shelf.save("a", memory(1), b"a", {})
    shelf.close()
    before = len(os.listdir("/proc/self/fd"))
    found = await asyncio.gather(*(shelf.find("a") for _ in range(8)))
    assert len({id(saved) for saved in found}) == 1
    shelf.close()
    assert len(os.listdir("/proc/self/fd")) == before


async def test_what_is_dropped_is_gone_from_memory_and_disk(folder: Path) -> None:
    shelf = Shelf(MachineStore(folder))
    saved = await shelf.save("a", memory(1), b"a", {})
    with saved.held():
        await shelf.drop("a")
        # Who holds it may finish.
        assert os.pread(saved.memory_fd, 1, 0) == b"x"
    assert "a" not in shelf
    assert await shelf.find("a") is None
    assert list(folder.iterdir()) == []
    with pytest.raises(SandboxError), saved.held():
        pass


async def test_only_what_is_wanted_is_retained(folder: Path) -> None:
    shelf = Shelf(MachineStore(folder))
    for key in "abc":
        await shelf.save(key, memory(1), key.encode(), {})
    other = Shelf(MachineStore(folder))
    await other.retain({"b", "unknown"})
    assert sorted(path.name for path in folder.iterdir()) == ["b"]
    shelf.close()
