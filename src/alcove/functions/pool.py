"""Sandboxes started ahead, rehearsed, waiting for code.

One pool for each (isolation, runtime). Its target follows demand: each claim that finds the pool empty raises it by
one, up to ``ceiling``; a quiet period lowers it to its floor again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque

from alcove.errors import AlcoveError
from alcove.sandbox.protocol import Runtime, Sandbox, Tier

log = logging.getLogger(__name__)

QUIET_S = 60.0
RETRY_S = 2.0


class Pool:
    """Keeps ``target`` sandboxes of one tier and runtime ready."""

    def __init__(self, tier: Tier, runtime: Runtime, *, floor: int, ceiling: int) -> None:
        self.tier = tier
        self.runtime = runtime
        self.floor = floor
        self.ceiling = max(floor, ceiling)
        self.target = floor
        self._ready: deque[Sandbox] = deque()
        self._wanted = asyncio.Event()
        self._changed = asyncio.Event()
        self._last_miss = 0.0
        self._task: asyncio.Task[None] | None = None
        self._pause = 0

    def start(self) -> None:
        self._wanted.set()
        self._task = asyncio.create_task(self._fill())

    def __len__(self) -> int:
        return len(self._ready)

    def claim(self) -> Sandbox | None:
        """Return a ready sandbox, the caller's from now on, or None where the pool is empty."""
        while self._ready:
            sandbox = self._ready.popleft()
            if not getattr(sandbox, "ended", False):
                self._wanted.set()
                return sandbox
        if self.target < self.ceiling:
            self.target += 1
        self._last_miss = time.monotonic()
        self._wanted.set()
        return None

    async def filled(self) -> None:
        """Wait until the pool holds its target."""
        while len(self._ready) < self.target:
            self._changed.clear()
            await self._changed.wait()

    async def _fill(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            while len(self._ready) < self.target:
                if self.target > self.floor and time.monotonic() - self._last_miss > QUIET_S:
                    self.target = self.floor
                    continue
                try:
                    sandbox = await self.tier.start(self.runtime)
                    try:
                        await sandbox.rehearse()
                    except BaseException:
                        await sandbox.close()
                        raise
                    self._watch(sandbox)
                    self._ready.append(sandbox)
                    self._changed.set()
                except (AlcoveError, TimeoutError, OSError) as error:
                    log.warning("pool %s/%s: %s", self.tier.isolation, self.runtime, error)
                    await asyncio.sleep(RETRY_S)

    def _watch(self, sandbox: Sandbox) -> None:
        """A sandbox that dies while it waits is replaced."""

        def gone(reason: str) -> None:
            if sandbox in self._ready:
                self._ready.remove(sandbox)
                self._wanted.set()

        sandbox.listen(log=lambda stream, data: None, exit=gone)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        while self._ready:
            await self._ready.popleft().close()
