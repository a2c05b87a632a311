"""The saved machines of one folder that are in memory, ready to restore.

A saved machine takes its memory as long as it is on the shelf: what was used least recently goes back to the disk
when the shelf holds more than it may. Machines that were restored from it keep what they have.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from alcove.host.locks import KeyedLock
from alcove.host.threads import to_the_end
from alcove.vmm.template import MachineStore, SavedMachine


class Shelf:
    """``limit_bytes`` None keeps all. ``removed`` is called with the key of each machine that leaves the shelf."""

    def __init__(self, store: MachineStore, *, limit_bytes: int | None = None) -> None:
        self.removed: Callable[[str], None] = lambda key: None
        self._store = store
        self._limit_bytes = limit_bytes
        self._loaded: dict[str, SavedMachine] = {}  # the least recently used first
        # Who holds a key's lock is the only one that loads or makes its machine.
        self.locks = KeyedLock()

    def __contains__(self, key: str) -> bool:
        return key in self._loaded or self._store.has(key)

    def get(self, key: str) -> SavedMachine | None:
        """Return the machine where it is in memory."""
        saved = self._loaded.pop(key, None)
        if saved is not None:
            self._loaded[key] = saved
        return saved

    async def find(self, key: str) -> SavedMachine | None:
        """Return the machine, loaded from the disk where it is there, and whole."""
        saved = self.get(key)
        if saved is None:
            async with self.locks.held(key):
                saved = await self.find_locked(key)
        return saved

    async def find_locked(self, key: str) -> SavedMachine | None:
        """As ``find``, for the holder of the key's lock."""
        saved = self.get(key)
        if saved is None and self._store.has(key):
            saved = await to_the_end(self._store.load, key)
            if saved is not None:
                self.put(saved)
        return saved

    async def obtain(self, key: str, make: Callable[[], Awaitable[SavedMachine]]) -> SavedMachine:
        """Return the machine, made where there is none that is whole; once, however many ask."""
        found = self.get(key)
        if found is None:
            async with self.locks.held(key):
                found = await self.find_locked(key) or await make()
        return found

    async def discard(self, saved: SavedMachine) -> None:
        """Drop a machine that does not fit, unless another has taken its place."""
        if self.get(saved.key) is saved:
            await self.drop(saved.key)

    async def save(
        self, key: str, memory_fd: int, state: bytes, facts: dict[str, Any], scratch_fd: int | None = None
    ) -> SavedMachine:
        """Keep a machine durably and put it on the shelf; its memory is the shelf's from then on."""
        saved = await to_the_end(self._store.save, key, memory_fd, state, facts, scratch_fd)
        self.put(saved)
        return saved

    def put(self, saved: SavedMachine) -> None:
        self._remove(saved.key)
        self._loaded[saved.key] = saved
        if self._limit_bytes is not None:
            self._make_room(self._limit_bytes, saved.key)

    async def drop(self, key: str) -> None:
        """Remove it from the shelf and from the disk."""
        self._remove(key)
        await to_the_end(self._store.remove, key)

    async def retain(self, keys: set[str]) -> None:
        """Drop every machine but those of ``keys``."""
        for key in {*self._loaded, *self._store.keys()} - keys:
            await self.drop(key)

    def close(self) -> None:
        for key in list(self._loaded):
            self._remove(key)

    def _remove(self, key: str) -> None:
        saved = self._loaded.pop(key, None)
        if saved is not None:
            self.removed(key)
            saved.close()

    def _make_room(self, limit_bytes: int, kept: str) -> None:
        sizes = {key: saved.memory_bytes() for key, saved in self._loaded.items()}
        total = sum(sizes.values())
        for key, size in sizes.items():
            if total > limit_bytes and key != kept:
                self._remove(key)
                total -= size
