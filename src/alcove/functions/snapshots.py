"""The snapshots of published versions: taken when a version is published, and anew where one is lost; dropped with
their version.

A snapshot is lost when the template changes that it was taken from (a new guest image, another QEMU) or when its file
is damaged. The version then starts as if it were not published, and its snapshot is taken again beside that.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping

from alcove.errors import HostError, InvalidRequest, RetryLater, SandboxError
from alcove.functions.model import LATEST, FunctionVersion
from alcove.sandbox.protocol import InitError, Isolation, Sandbox, SnapshotTier, SnapshotUnfit, Tier

log = logging.getLogger(__name__)

# After a failure: what failed (init code, a full disk) may pass, but costs a start each time.
RETRY_AFTER_S = 300.0


class SnapshotKeeper:
    """One snapshot at a time is taken anew; what is published waits for nobody."""

    def __init__(self, tiers: Mapping[Isolation, Tier]) -> None:
        self._tiers = tiers
        self._tried: dict[str, float] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._turn = asyncio.Lock()

    def has(self, function: FunctionVersion) -> bool:
        """Whether the version starts from a snapshot."""
        tier = self._tier_of(function)
        return tier is not None and tier.has_snapshot(function.workload())

    async def start(self, function: FunctionVersion) -> Sandbox | None:
        """Return a sandbox restored from the version's snapshot, loaded; None where there is none that fits."""
        tier = self._tier_of(function)
        if tier is None:
            return None
        if self.has(function):
            try:
                return await tier.start_snapshot(function.workload())
            except SnapshotUnfit:
                pass
        self._take_again(function)
        return None

    async def take(self, function: FunctionVersion) -> None:
        """Save a published version after its init. What fails here fails only the speed: it is logged."""
        tier = self._tier_of(function)
        if tier is None:
            return
        try:
            await tier.snapshot(function.workload())
        except (SandboxError, RetryLater, HostError, InvalidRequest, InitError, TimeoutError) as error:
            log.warning("no snapshot of %s: %s", function.arn, error)

    def _take_again(self, function: FunctionVersion) -> None:
        """Have the snapshot of a version that lacks one taken in the background."""
        revision, now = function.revision, time.monotonic()
        if self._tier_of(function) is None or now - self._tried.get(revision, -RETRY_AFTER_S) < RETRY_AFTER_S:
            return
        self._tried[revision] = now

        async def work() -> None:
            try:
                async with self._turn:
                    await self.take(function)
            finally:
                self._tasks.pop(revision, None)

        self._tasks[revision] = asyncio.create_task(work())

    async def drop(self, functions: Iterable[FunctionVersion]) -> None:
        for function in functions:
            self._tried.pop(function.revision, None)
            tier = self._tier_of(function)
            if tier is not None:
                await tier.drop_snapshot(function.workload())

    async def close(self) -> None:
        for task in list(self._tasks.values()):
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _tier_of(self, function: FunctionVersion) -> SnapshotTier | None:
        """Return the tier that can save this version, None where it is not published or its tier cannot."""
        tier = self._tiers.get(function.isolation)
        return tier if function.version != LATEST and isinstance(tier, SnapshotTier) else None
