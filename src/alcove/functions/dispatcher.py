"""From an invocation to a sandbox and back: figure 4 of the paper.

``admission`` counts: a call over a cap is refused at once. The ``scheduler`` finds an instance: an idle one serves at
once; else the call waits for the first that becomes free or is started (``starts``). ``calls`` sends the request and
writes its log. Every answer says which way it was and why. An instance that has idled too long is released; one whose
function has changed is released after the requests that it serves.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, Unpack

import msgspec

from alcove.functions import answers
from alcove.functions.admission import Admission
from alcove.functions.calls import Caller
from alcove.functions.instance import Instance
from alcove.functions.logs import LogStore
from alcove.functions.model import LATEST, FunctionVersion, InvokeOptions, InvokeResult
from alcove.functions.pool import Pool
from alcove.functions.scheduler import Bounds, Scheduler
from alcove.functions.snapshots import SnapshotKeeper
from alcove.functions.starts import Starter
from alcove.sandbox.protocol import InitError, Invocation, Isolation, Runtime, Sandbox, TenantId, Tier
from alcove.wire.request_id import new_request_id

CONCURRENCY = 1000
SWEEP_EVERY_S = 60.0


class Dispatcher:
    """See the module's docstring. ``tiers`` are those that work here and that the operator allows; ``limit_of`` says
    how many calls a tenant may have running at once.
    """

    def __init__(
        self,
        tiers: Mapping[Isolation, Tier],
        logs: LogStore,
        *,
        pool_sizes: Mapping[tuple[Isolation, Runtime], int],
        pool_ceiling: int = 8,
        bounds: Bounds | None = None,
        memory_reserve_mib: int = 0,
        limit_of: Callable[[TenantId], int] = lambda tenant: CONCURRENCY,
    ) -> None:
        self._pools = {
            key: Pool(tiers[key[0]], key[1], floor=size, ceiling=max(size, pool_ceiling))
            for key, size in pool_sizes.items()
            if key[0] in tiers
        }
        self.snapshots = SnapshotKeeper(tiers)
        starter = Starter(tiers, self.snapshots, self._pools, memory_reserve_mib=memory_reserve_mib)
        self.admission = Admission(limit_of)
        self.scheduler = Scheduler(starter, bounds or Bounds(), on_reap=self._sweep)
        self._swept = time.monotonic()
        self._caller = Caller(logs)

    # Life

    def start(self) -> None:
        for pool in self._pools.values():
            if pool.floor:
                pool.start()
        self.scheduler.start()

    async def pools_filled(self) -> None:
        """Wait until every pool holds what it should."""
        await asyncio.gather(*(pool.filled() for pool in self._pools.values() if pool.floor))

    async def close(self) -> None:
        """Stop the pools and let go of the instances; their tiers end them or keep them for the next daemon."""
        await self.snapshots.close()
        await self.scheduler.close()
        await asyncio.gather(*(pool.close() for pool in self._pools.values()))

    def adopt(self, function: FunctionVersion, sandbox: Sandbox) -> None:
        """Take over a loaded sandbox that an earlier daemon started."""
        instance = Instance(function, sandbox)
        # What it has served already is not known.
        instance.served = 1
        self.scheduler.join(function, instance)

    def _sweep(self) -> None:
        if time.monotonic() - self._swept > SWEEP_EVERY_S:
            self._swept = time.monotonic()
            self.admission.sweep()

    # What there is

    def pools(self) -> list[dict[str, Any]]:
        return [
            {
                "isolation": str(isolation),
                "runtime": str(runtime),
                "ready": len(pool),
                "target": pool.target,
            }
            for (isolation, runtime), pool in self._pools.items()
        ]

    def instances(self) -> list[dict[str, Any]]:
        return [instance.describe() for instance in self.scheduler.instances()]

    def queues(self) -> list[dict[str, Any]]:
        """Return what waits for an instance, for each version that has any."""
        return self.scheduler.queues()

    def idle_sandboxes(self) -> set[str]:
        """Return the ids of sandboxes that are loaded and idle: those that another daemon could adopt."""
        found = self.scheduler.instances()
        return {instance.sandbox.id for instance in found if not instance.active and instance.gone is None}

    # Invocation

    async def invoke(self, function: FunctionVersion, event: bytes, **options: Unpack[InvokeOptions]) -> InvokeResult:
        """Run one invocation. Raises ``ThrottledError``, ``CapacityError``, ``HostError``; what the function
        does wrong is an answer.
        """
        request_id = options.get("request_id") or new_request_id()
        trace = options.get("trace")
        self.admission.enter(function)
        try:
            began = time.perf_counter()
            try:
                instance = self.scheduler.take(function)
                if instance is None:
                    instance, start, why, phases = await self._wait(function, began)
                elif function.fresh_vm:
                    start, phases = instance.start, {}
                    why = f"a new sandbox for every request, started ahead; {instance.why}"
                else:
                    start, why, phases = "warm", "an instance was idle", {}
            except InitError as error:
                spent_ms = (time.perf_counter() - began) * 1000
                return msgspec.structs.replace(
                    self._caller.init_failed(function, request_id, error, spent_ms), trace=trace
                )
            deadline_ms = int(time.time() * 1000 + function.timeout_s * 1000)
            invocation = Invocation(
                request_id,
                event,
                deadline_ms,
                function.invoked_arn,
                options.get("trace_id", ""),
                options.get("client_context", ""),
                options.get("sink"),
                shared=instance.capacity > 1,
            )
            try:
                outcome, duration_ms = await self._caller.call(instance, invocation)
                phases["invoke"] = duration_ms
                tail = await self._caller.report(instance, request_id, duration_ms, options.get("want_log", False))
            finally:
                self.scheduler.give_back(instance)
        finally:
            self.admission.leave(function)
        failed: Literal["Unhandled"] | None = None if outcome.error is None else "Unhandled"
        return InvokeResult(
            payload=outcome.payload if outcome.error is None else outcome.error,
            error=failed,
            request_id=request_id,
            start=start,
            why=why,
            phases_ms=phases,
            billed_ms=answers.billed(duration_ms),
            log_tail=tail,
            executed_version=function.version,
            sandbox_id=instance.sandbox.id,
            trace=trace,
            content_type=outcome.content_type,
            streamed_bytes=outcome.streamed_bytes,
        )

    async def _wait(self, function: FunctionVersion, began: float) -> tuple[Instance, str, str, dict[str, float]]:
        """Wait for an instance; return it, how it started and why, and what that cost by phase."""
        instance = await self.scheduler.wait(function)
        waited_ms = (time.perf_counter() - began) * 1000
        if instance.served or instance.active > 1:
            return instance, "warm", "an instance became free while the call waited", {"queue": waited_ms}
        phases = dict(instance.phases_ms)
        phases["queue"] = max(0.0, waited_ms - sum(phases.values()))
        reason = "a new sandbox for every request" if function.fresh_vm else "no idle instance"
        return instance, instance.start, f"{reason}; {instance.why}", phases

    # Control plane

    async def forget(self, function_arn: str, version: str | None) -> None:
        self.scheduler.retire(lambda one: one.function_arn == function_arn and version in (None, one.version))

    async def snapshot(self, function: FunctionVersion) -> None:
        await self.snapshots.take(function)

    async def remove(self, functions: Iterable[FunctionVersion]) -> None:
        """These versions are no more: their snapshots and what concurrency they had set aside."""
        functions = list(functions)
        for function in functions:
            self.admission.provision(function.tenant, function.function_id, function.version, 0)
            if function.version == LATEST:
                self.admission.remove(function.tenant, function.function_id)
        await self.snapshots.drop(functions)

    async def drop_snapshots(self, functions: Iterable[FunctionVersion]) -> None:
        await self.snapshots.drop(functions)
