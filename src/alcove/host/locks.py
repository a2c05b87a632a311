"""Locks by key, that exist while someone holds or awaits them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager


class KeyedLock:
    """One lock for each key. For one event loop."""

    def __init__(self) -> None:
        self._locks: dict[Hashable, asyncio.Lock] = {}
        self._users: Counter[Hashable] = Counter()

    def __contains__(self, key: Hashable) -> bool:
        """Whether someone holds the key's lock, or waits for it."""
        return key in self._locks

    @asynccontextmanager
    async def held(self, key: Hashable) -> AsyncIterator[None]:
        lock = self._locks.setdefault(key, asyncio.Lock())
        # Counted: between a release and the waking of the next waiter the lock is free, but not unused.
        self._users[key] += 1
        try:
            async with lock:
                yield
        finally:
            self._users[key] -= 1
            if not self._users[key]:
                del self._users[key], self._locks[key]
