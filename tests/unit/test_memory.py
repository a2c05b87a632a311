"""Sealed memory: what nobody can change, and what survives on disk."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import pytest

from alcove.host.memory import (
    copy_sparse,
    create_memory,
    extents,
    is_sealed,
    load_memory,
    punch_zero_pages,
    seal_memory,
    store_memory,
)
from alcove.vmm.template import MachineStore, machine_key

SIZE = 64 << 20


@pytest.fixture
def memory() -> int:
    fd = create_memory("test", SIZE)
    os.pwrite(fd, b"kernel" * 1000, 1 << 20)
    os.pwrite(fd, b"tenant" * 1000, 40 << 20)
    return fd


def test_sealed_memory_serves_private_mappings_alone(memory: int) -> None:
    seal_memory(memory)
    assert is_sealed(memory)
    reopened = os.open(f"/proc/self/fd/{memory}", os.O_RDWR)
    with pytest.raises(PermissionError):
        os.pwrite(reopened, b"x", 0)
    with pytest.raises(PermissionError):
        mmap.mmap(reopened, SIZE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
    with mmap.mmap(reopened, SIZE, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE) as private:
        private[1 << 20] = 0
    assert os.pread(memory, 6, 1 << 20) == b"kernel"
    os.close(reopened)
    os.close(memory)


def test_it_is_stored_sparsely_and_loaded_sealed(memory: int, tmp_path: Path) -> None:
    store_memory(memory, tmp_path / "memory")
    assert (tmp_path / "memory").stat().st_blocks * 512 < 1 << 20
    loaded = load_memory(tmp_path / "memory", "again")
    assert is_sealed(loaded)
    assert os.pread(loaded, 6000, 40 << 20) == b"tenant" * 1000
    os.close(loaded)
    os.close(memory)


def test_pages_of_zeros_become_holes(memory: int) -> None:
    os.pwrite(memory, bytes(8 << 20), 8 << 20)
    before = os.fstat(memory).st_blocks
    assert punch_zero_pages(memory) == 8 << 20
    assert os.fstat(memory).st_blocks < before
    assert os.pread(memory, 6, 1 << 20) == b"kernel"
    os.close(memory)


def test_a_copy_keeps_the_holes(memory: int) -> None:
    copy = create_memory("copy", SIZE)
    copy_sparse(memory, copy)
    assert extents(copy) == extents(memory)
    os.close(copy)
    os.close(memory)


def saved(folder: Path, memory: int) -> MachineStore:
    store = MachineStore(folder)
    store.save("key", memory, b"device state", {"runtime": "x"}).close()
    return store


def test_a_saved_machine_is_found_again(memory: int, tmp_path: Path) -> None:
    store = saved(tmp_path / "store", memory)
    found = store.load("key")
    assert found is not None
    state = found.state()
    assert os.read(state, 100) == b"device state"
    os.close(state)
    found.close()
    assert store.load("other") is None


@pytest.mark.parametrize("damage", ["truncated", "altered", "state", "manifest", "missing"])
def test_a_damaged_machine_is_discarded(memory: int, tmp_path: Path, damage: str) -> None:
    store = saved(tmp_path / "store", memory)
    folder = tmp_path / "store" / "key"
    match damage:
        case "truncated":
            os.truncate(folder / "memory", SIZE // 2)
        case "altered":
            with (folder / "memory").open("r+b") as file:
                file.seek(1 << 20)
                file.write(b"KERNEL")
        case "state":
            (folder / "state").write_bytes(b"device State")
        case "manifest":
            (folder / "manifest.json").write_text("{")
        case "missing":
            (folder / "memory").unlink()
    assert store.load("key") is None
    assert not folder.exists()


def test_an_interrupted_save_leaves_nothing(memory: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = MachineStore(tmp_path / "store")

    def full(fd: int, path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("alcove.vmm.template.store_memory", full)
    with pytest.raises(OSError, match="No space"):
        store.save("key", memory, b"", {})
    assert store.keys() == []
    assert list((tmp_path / "store").iterdir()) == []
    os.close(memory)


def test_the_key_changes_with_every_part() -> None:
    key = machine_key(image="a", qemu="b")
    assert key != machine_key(image="a", qemu="c")
    assert key == machine_key(qemu="b", image="a")
