"""Making an instance, the fastest way there is: from the version's snapshot, from the pool (its code mounted into a
sandbox that runs already), or by a start of its own.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass

from alcove.errors import HostError, ProtocolError, SandboxGone, SandboxLost
from alcove.functions import answers
from alcove.functions.instance import Instance
from alcove.functions.model import FunctionVersion
from alcove.functions.pool import Pool
from alcove.functions.snapshots import SnapshotKeeper
from alcove.host.resources import require_memory
from alcove.sandbox.protocol import Delivery, InitError, Isolation, KernelTier, Runtime, Sandbox, Tier

log = logging.getLogger(__name__)

# Lambda gives init code ten seconds before it is held against the function's own time-out.
INIT_TIMEOUT_S = 10.0
# What a sandbox takes before its function has asked for any.
START_MIB = 96


@dataclass(frozen=True, slots=True)
class _Obtained:
    """A sandbox, how it started and why; ``loaded`` says that the code is in it already."""

    sandbox: Sandbox
    start: str
    why: str
    loaded: bool = False


class Starter:
    """``tiers`` are those that work here and that the operator allows."""

    def __init__(
        self,
        tiers: Mapping[Isolation, Tier],
        snapshots: SnapshotKeeper,
        pools: Mapping[tuple[Isolation, Runtime], Pool],
        *,
        memory_reserve_mib: int = 0,
    ) -> None:
        self._tiers = tiers
        self._snapshots = snapshots
        self._pools = pools
        self._memory_reserve_mib = memory_reserve_mib

    def tier_of(self, function: FunctionVersion) -> Tier:
        """Return the tier that the function asks for, never another. Raises ``HostError``."""
        tier = self._tiers.get(function.isolation)
        if tier is None:
            raise HostError(
                f"isolation {function.isolation} does not work on this machine",
                hint="run: alcove doctor",
            )
        return tier

    async def start(self, function: FunctionVersion) -> Instance:
        """Return a new instance, loaded. Raises ``InitError`` for what the function does wrong, ``HostError``,
        ``CapacityError``; nothing is left then.
        """
        tier = self.tier_of(function)
        require_memory(START_MIB, self._memory_reserve_mib)
        try:
            try:
                return await self._start(tier, function)
            except SandboxLost as lost:
                log.warning("a sandbox of %s was lost while it started, another is started: %s", function.arn, lost)
                return await self._start(tier, function)
        except SandboxGone as gone:
            raise InitError(answers.ended("", gone.reason)) from gone
        except ProtocolError as error:
            raise InitError(answers.protocol_broken("")) from error
        except TimeoutError as error:
            raise InitError(answers.init_timed_out(INIT_TIMEOUT_S)) from error

    async def _start(self, tier: Tier, function: FunctionVersion) -> Instance:
        clock = time.perf_counter()
        found = await self._obtain(tier, function)
        tier_why = f"; {function.isolation}, for {function.reason}" if function.reason else ""
        instance = Instance(function, found.sandbox, found.start, found.why + tier_why)
        instance.phases_ms["obtain"] = (time.perf_counter() - clock) * 1000
        await self._load(instance, found.loaded)
        return instance

    async def _load(self, instance: Instance, loaded: bool) -> None:
        """Bring the code in and run its init; the sandbox is closed where that fails."""
        sandbox, function = instance.sandbox, instance.function
        sandbox.listen(log=instance.log.write, exit=lambda reason: setattr(instance, "gone", reason))
        try:
            if not loaded:
                before = dict(sandbox.phases_ms)
                limit_s = max(INIT_TIMEOUT_S, float(function.timeout_s))
                try:
                    async with asyncio.timeout(limit_s):
                        await sandbox.load(function.workload(), Delivery.MOUNTED)
                except TimeoutError as error:
                    raise InitError(answers.init_timed_out(limit_s)) from error
                for phase, cost in sandbox.phases_ms.items():
                    spent = cost - before.get(phase, 0.0)
                    if spent:
                        instance.phases_ms[phase] = spent
            if instance.gone is not None:
                raise InitError(answers.ended("", instance.gone))
        except BaseException:
            await asyncio.shield(sandbox.close())
            raise

    async def _obtain(self, tier: Tier, function: FunctionVersion) -> _Obtained:
        restored = await self._snapshots.start(function)
        if restored is not None:
            return _Obtained(restored, "restored", "the version has a snapshot", loaded=True)
        if function.kernel:
            return await self._obtain_kernel(tier, function)
        pool = self._pools.get((function.isolation, function.runtime))
        if pool is not None:
            sandbox = pool.claim()
            if sandbox is not None:
                return _Obtained(sandbox, "mounted", "a pre-started sandbox took the code")
        sandbox = await tier.start(function.runtime)
        empty = "the pool was empty" if pool is not None and pool.target else "no pool is kept"
        return _Obtained(sandbox, "booted" if str(sandbox.start) == "booted" else "restored", empty)

    async def _obtain_kernel(self, tier: Tier, function: FunctionVersion) -> _Obtained:
        """Those of the pool run the guest image's kernel."""
        if not isinstance(tier, KernelTier):
            raise HostError("this tier runs no other kernels", hint="only the tier vm does")
        sandbox = await tier.start_kernel(function.runtime, function.kernel)
        start = "booted" if str(sandbox.start) == "booted" else "restored"
        return _Obtained(sandbox, start, "no pool is kept for its kernel")
