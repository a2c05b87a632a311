"""Saved machines: memory, device state and the key of all they depend on.

A template is a machine saved after it has booted; a snapshot is one saved after a function version's init code has
run. Both are ``SavedMachine``s in a ``MachineStore``. What a saved machine depends on (QEMU, accelerator, kernel,
guest image, device model) is hashed into its key, so that a change of any gives another key and the old one is never
restored. Files are checked when they are loaded: one that is truncated or altered is discarded, and whoever asked
boots cold.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alcove.errors import SandboxError
from alcove.host.files import building, private_folder, reap_unfinished, require_space, write_json
from alcove.host.memory import extents, is_sealed, load_memory, punch_zero_pages, seal_memory, store_memory

log = logging.getLogger(__name__)

_HASH_CHUNK = 1 << 22
_PAGE = 4096


def machine_key(**parts: Any) -> str:
    """Return the name of the machine that depends on ``parts`` (anything JSON can hold)."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def memory_digest(fd: int) -> str:
    """Return a digest of a memory file: of its data runs and where they lie.

    SHA-256, because processors compute it themselves: a restore after the daemon's start waits for this.
    """
    digest = hashlib.sha256()
    for start, end in extents(fd):
        digest.update(f"{start}-{end};".encode())
        position = start
        while position < end:
            chunk = os.pread(fd, min(_HASH_CHUNK, end - position), position)
            digest.update(chunk)
            position += len(chunk)
    return digest.hexdigest()


def disk_digest(fd: int) -> str:
    """Return a digest of a disk's content, wherever its file has holes: file systems differ in that."""
    digest = hashlib.sha256(b"%d" % os.fstat(fd).st_size)
    empty = bytes(_PAGE)
    for start, end in extents(fd):
        for position in range(start - start % _PAGE, end, _PAGE):
            page = os.pread(fd, _PAGE, position)
            if page != empty[: len(page)]:
                digest.update(b"%d;" % position)
                digest.update(page)
    return digest.hexdigest()


@dataclass(slots=True)
class SavedMachine:
    """A machine that can be restored any number of times; it owns its descriptors, all sealed or read-only.

    ``scratch_fd`` is its scratch disk as it was: each restored machine goes on with a copy, for its kernel holds parts
    of that disk in memory. None is a machine without one.
    """

    key: str
    memory_fd: int
    state_fd: int
    scratch_fd: int | None = None
    closed: bool = False
    _holders: int = 0

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep the descriptors open for the block, whoever closes it meanwhile: their numbers must not come to
        mean another machine's memory. Raises ``SandboxError`` where it is closed already.
        """
        if self.closed:
            raise SandboxError("the saved machine was dropped")
        self._holders += 1
        try:
            yield
        finally:
            self._holders -= 1
            if self.closed:
                self._free()

    def state(self) -> int:
        """Return a fresh descriptor of the device state, at its start (offsets are shared by dup(2))."""
        return os.open(f"/proc/self/fd/{self.state_fd}", os.O_RDONLY | os.O_CLOEXEC)

    def memory_bytes(self) -> int:
        return os.fstat(self.memory_fd).st_blocks * 512

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._free()

    def _free(self) -> None:
        if not self._holders:
            os.close(self.memory_fd)
            os.close(self.state_fd)
            if self.scratch_fd is not None:
                os.close(self.scratch_fd)


class MachineStore:
    """A folder of saved machines, each in a folder named by its key: ``memory`` and ``scratch`` (sparse), ``state``,
    ``manifest.json``.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = private_folder(folder)
        reap_unfinished(folder)

    def save(
        self, key: str, memory_fd: int, state: bytes, facts: dict[str, Any], scratch_fd: int | None = None
    ) -> SavedMachine:
        """Seal the memory and keep it, the state and a copy of the scratch disk durably. Raises ``CapacityError``
        where the disk is full; nothing is left then.
        """
        punch_zero_pages(memory_fd)
        seal_memory(memory_fd)
        blocks = sum(os.fstat(fd).st_blocks for fd in (memory_fd, scratch_fd) if fd is not None)
        require_space(self._folder, blocks * 512 + len(state), "a saved machine")
        target = self._folder / key
        if target.exists():
            shutil.rmtree(target)
        with building(target) as work:
            store_memory(memory_fd, work / "memory")
            (work / "state").write_bytes(state)
            manifest = {
                "facts": facts,
                "memory_sha256": memory_digest(memory_fd),
                "memory_size": os.fstat(memory_fd).st_size,
                "state_sha256": hashlib.sha256(state).hexdigest(),
            }
            if scratch_fd is not None:
                store_memory(scratch_fd, work / "scratch")
                manifest["scratch_sha256"] = disk_digest(scratch_fd)
            write_json(work / "manifest.json", manifest)
        return SavedMachine(key, memory_fd, *_open_files(target))

    def load(self, key: str) -> SavedMachine | None:
        """Return the saved machine, or None where there is none that is whole."""
        folder = self._folder / key
        try:
            manifest = json.loads((folder / "manifest.json").read_text())
            state = (folder / "state").read_bytes()
            if hashlib.sha256(state).hexdigest() != manifest["state_sha256"]:
                raise ValueError("the device state was altered")
            memory_fd = load_memory(folder / "memory", f"alcove-{key[:8]}")
        except FileNotFoundError:
            if folder.exists():
                self._discard(key, "it lacks a file")
            return None
        except (ValueError, KeyError, TypeError, OSError) as error:
            self._discard(key, str(error))
            return None
        try:
            size = os.fstat(memory_fd).st_size
            if size != manifest["memory_size"] or memory_digest(memory_fd) != manifest["memory_sha256"]:
                raise ValueError("the memory was altered")
            assert is_sealed(memory_fd)
            saved = SavedMachine(key, memory_fd, *_open_files(folder))
        except (ValueError, KeyError, TypeError, OSError) as error:
            os.close(memory_fd)
            self._discard(key, str(error))
            return None
        scratch = None if saved.scratch_fd is None else disk_digest(saved.scratch_fd)
        if scratch != manifest.get("scratch_sha256"):
            saved.close()
            self._discard(key, "the scratch disk was altered")
            return None
        return saved

    def has(self, key: str) -> bool:
        return (self._folder / key / "manifest.json").exists()

    def remove(self, key: str) -> None:
        shutil.rmtree(self._folder / key, ignore_errors=True)

    def keys(self) -> list[str]:
        return sorted(entry.name for entry in self._folder.iterdir() if entry.is_dir())

    def _discard(self, key: str, reason: str) -> None:
        log.warning("saved machine %s is discarded and will be made anew: %s", key, reason)
        self.remove(key)


def _open_files(folder: Path) -> tuple[int, int | None]:
    """Return the descriptors of device state and scratch disk, None where there is none."""
    state = os.open(folder / "state", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return state, os.open(folder / "scratch", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return state, None
