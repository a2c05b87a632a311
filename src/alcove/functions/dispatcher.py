"""From an invocation to a sandbox and back: figure 4 of the paper.

An idle instance of the version serves at once. Where there is none, one is made by the fastest way there is: from the
version's snapshot, from the pool (its code mounted into a sandbox that runs already), or by a start of its own. Every
answer says which way it was and why. One request is in a sandbox at a time; an instance that has idled too long is
released; a retired one (its function changed) is released after the request that it serves.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import time
import uuid
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from alcove.errors import (
    HostError,
    ProtocolError,
    SandboxGone,
    ThrottledError,
)
from alcove.functions.instance import Instance
from alcove.functions.logs import TAIL_BYTES, LogStore
from alcove.functions.model import FunctionVersion, InvokeResult
from alcove.functions.pool import Pool
from alcove.functions.snapshots import SnapshotKeeper
from alcove.host.resources import require_memory
from alcove.sandbox.protocol import (
    AnswerSink,
    Delivery,
    InitError,
    Invocation,
    Isolation,
    Outcome,
    Runtime,
    Sandbox,
    Tier,
)

log = logging.getLogger(__name__)

REAP_EVERY_S = 1.0
# Lambda gives init code ten seconds before it is held against the function's own time-out.
INIT_TIMEOUT_S = 10.0
# What a sandbox takes before its function has asked for any.
START_MIB = 96


class Dispatcher:
    """See the module's docstring. ``tiers`` are those that work here and that the operator allows."""

    def __init__(
        self,
        tiers: Mapping[Isolation, Tier],
        logs: LogStore,
        *,
        pool_sizes: Mapping[tuple[Isolation, Runtime], int],
        pool_ceiling: int = 8,
        idle_timeout_s: float = 300.0,
        max_sandboxes: int = 100,
        memory_reserve_mib: int = 0,
    ) -> None:
        self._tiers = dict(tiers)
        self._logs = logs
        self._idle_timeout_s = idle_timeout_s
        self._max_sandboxes = max_sandboxes
        self._memory_reserve_mib = memory_reserve_mib
        self._idle: dict[str, deque[Instance]] = defaultdict(deque)
        self._all: set[Instance] = set()
        self._starting = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._pools = {
            key: Pool(self._tiers[key[0]], key[1], floor=size, ceiling=max(size, pool_ceiling))
            for key, size in pool_sizes.items()
            if key[0] in self._tiers
        }
        self._reaper: asyncio.Task[None] | None = None
        self.snapshots = SnapshotKeeper(self._tiers)

    # Life

    def start(self) -> None:
        for pool in self._pools.values():
            if pool.floor:
                pool.start()
        self._reaper = asyncio.create_task(self._reap_idle())

    async def pools_filled(self) -> None:
        """Wait until every pool holds what it should."""
        await asyncio.gather(*(pool.filled() for pool in self._pools.values() if pool.floor))

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

    @property
    def capacity(self) -> int:
        """The most sandboxes at once."""
        return self._max_sandboxes

    def instances(self) -> list[dict[str, Any]]:
        return [instance.describe() for instance in self._all]

    def adopt(self, function: FunctionVersion, sandbox: Sandbox) -> None:
        """Take over a loaded sandbox that an earlier daemon started."""
        instance = self._register(function, sandbox)
        self._park(instance)

    async def close(self) -> None:
        """Stop the pools and let go of the instances; their tiers end them or keep them for the next daemon."""
        if self._reaper is not None:
            self._reaper.cancel()
            await asyncio.gather(self._reaper, return_exceptions=True)
        await self.snapshots.close()
        # They release sandboxes: cut short, they would leave halves.
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(pool.close() for pool in self._pools.values()))

    def idle_sandboxes(self) -> set[str]:
        """Return the ids of sandboxes that are loaded and idle: those that another daemon could adopt."""
        return {instance.sandbox.id for instance in self._all if not instance.busy and instance.gone is None}

    # Invocation

    async def invoke(
        self,
        function: FunctionVersion,
        event: bytes,
        *,
        trace_id: str = "",
        client_context: str = "",
        want_log: bool = False,
        request_id: str = "",
        sink: AnswerSink | None = None,
    ) -> InvokeResult:
        """Run one invocation. Raises ``ThrottledError``, ``CapacityError``, ``HostError``; what the function
        does wrong is an answer.
        """
        request_id = request_id or str(uuid.uuid4())
        phases: dict[str, float] = {}
        began = time.perf_counter()
        instance = self._take_idle(function.revision)
        if instance is not None:
            start, why = "warm", "an instance was idle"
        else:
            try:
                instance, start, why = await self._start(function, phases)
            except InitError as error:
                return self._init_failed(function, request_id, error, phases, began)
            except TimeoutError:
                document = _error("Sandbox.Timedout", f"Init timed out after {INIT_TIMEOUT_S:.2f} seconds")
                return self._init_failed(function, request_id, InitError(document), phases, began)
        called = time.perf_counter()
        deadline_ms = int(time.time() * 1000 + function.timeout_s * 1000)
        invocation = Invocation(request_id, event, deadline_ms, function.invoked_arn, trace_id, client_context, sink)
        instance.log.expect(request_id)
        outcome = await self._call(instance, invocation)
        duration_ms = (time.perf_counter() - called) * 1000
        phases["invoke"] = duration_ms
        instance.served += 1
        tail = await self._finish(instance, request_id, duration_ms, want_log)
        failed: Literal["Unhandled"] | None = None if outcome.error is None else "Unhandled"
        return InvokeResult(
            payload=outcome.payload if outcome.error is None else outcome.error,
            error=failed,
            request_id=request_id,
            start=start,
            why=why,
            phases_ms=phases,
            billed_ms=_billed(duration_ms),
            log_tail=tail,
            executed_version=function.version,
            sandbox_id=instance.sandbox.id,
            content_type=outcome.content_type,
        )

    async def _call(self, instance: Instance, invocation: Invocation) -> Outcome:
        """Return the outcome; ``instance.gone`` says where the sandbox is lost by it."""
        function = instance.function
        try:
            async with asyncio.timeout(function.timeout_s):
                return await instance.sandbox.invoke(invocation)
        except TimeoutError:
            instance.gone = "timeout"
            stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
            message = f"{stamp} {invocation.request_id} Task timed out after {function.timeout_s:.2f} seconds"
            return Outcome(b"", _error("Sandbox.Timedout", message))
        except SandboxGone as gone:
            instance.gone = gone.reason
            return Outcome(b"", _ended_document(invocation.request_id, gone.reason))
        except ProtocolError:
            instance.gone = "protocol"
            message = f"RequestId: {invocation.request_id} Error: Runtime broke its protocol"
            return Outcome(b"", _error("Runtime.ProtocolError", message))

    async def _finish(self, instance: Instance, request_id: str, duration_ms: float, want_log: bool) -> bytes:
        """Park or release the instance and have its log written; return the log's tail where it is wanted."""
        written: list[bytes] = []
        if instance.gone is not None:
            instance.log.flush()
            self._release(instance)
        elif want_log:
            await instance.log.settle(request_id)
        instance.log.report(
            request_id,
            lambda output: written.append(self._write_log(instance.function, request_id, duration_ms, output)),
        )
        if instance.gone is None:
            self._park(instance)
        return written[0][-TAIL_BYTES:] if written else b""

    def _write_log(self, function: FunctionVersion, request_id: str, duration_ms: float, output: bytes) -> bytes:
        head = f"START RequestId: {request_id} Version: {function.version}\n"
        report = (
            f"END RequestId: {request_id}\nREPORT RequestId: {request_id}\tDuration: {duration_ms:.2f} ms\t"
            f"Billed Duration: {_billed(duration_ms)} ms\tMemory Size: {function.memory_mib} MB\n"
        )
        if output and not output.endswith(b"\n"):
            output += b"\n"
        text = head.encode() + output + report.encode()
        try:
            self._logs.of(function.function_id).append(request_id, text.decode(errors="replace").splitlines())
        except OSError as error:
            log.warning("the log of %s cannot be written: %s", function.name, error)
        return text

    def _init_failed(
        self, function: FunctionVersion, request_id: str, error: InitError, phases: dict[str, float], began: float
    ) -> InvokeResult:
        text = f"INIT_REPORT RequestId: {request_id} Status: error {error.document.decode(errors='replace')}"
        with contextlib.suppress(OSError):
            self._logs.of(function.function_id).append(request_id, [text])
        return InvokeResult(
            payload=error.document,
            error="Unhandled",
            request_id=request_id,
            start="failed",
            why="the init code failed",
            phases_ms=phases,
            billed_ms=max(1, round((time.perf_counter() - began) * 1000)),
            log_tail=text.encode()[-TAIL_BYTES:],
            executed_version=function.version,
            sandbox_id="",
        )

    # Instances

    def _take_idle(self, revision: str) -> Instance | None:
        idle = self._idle.get(revision)
        while idle:
            instance = idle.pop()
            if instance.gone is None and not instance.retired:
                instance.busy = True
                return instance
        return None

    def _register(self, function: FunctionVersion, sandbox: Sandbox) -> Instance:
        instance = Instance(function, sandbox)
        sandbox.listen(log=instance.log.write, exit=lambda reason: self._sandbox_ended(instance, reason))
        self._all.add(instance)
        return instance

    def _sandbox_ended(self, instance: Instance, reason: str) -> None:
        """A sandbox ended unasked; one that serves a request is released by its caller."""
        if instance.gone is None:
            instance.gone = reason
        if not instance.busy:
            self._release(instance)

    def _park(self, instance: Instance) -> None:
        if instance.retired or instance.gone is not None:
            self._release(instance)
            return
        instance.busy = False
        instance.idle_since = time.monotonic()
        self._idle[instance.function.revision].append(instance)

    def _release(self, instance: Instance) -> None:
        if instance in self._all:
            self._all.discard(instance)
            instance.log.flush()
            self._later(instance.sandbox.close())

    def _later(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a background task failed", exc_info=task.exception())

    async def _reap_idle(self) -> None:
        while True:
            await asyncio.sleep(REAP_EVERY_S)
            horizon = time.monotonic() - self._idle_timeout_s
            for revision, idle in list(self._idle.items()):
                while idle and idle[0].idle_since < horizon:
                    self._release(idle.popleft())
                if not idle:
                    del self._idle[revision]

    # Starts

    async def _start(self, function: FunctionVersion, phases: dict[str, float]) -> tuple[Instance, str, str]:
        """Make an instance the fastest way there is; return it with its start mode and the reason."""
        tier = self._tiers.get(function.isolation)
        if tier is None:
            raise HostError(
                f"isolation {function.isolation} does not work on this machine",
                hint="run: alcove doctor",
            )
        await self._make_room()
        require_memory(START_MIB, self._memory_reserve_mib)
        self._starting += 1
        try:
            clock = time.perf_counter()
            sandbox, start, why, loaded = await self._obtain(tier, function)
            phases["obtain"] = (time.perf_counter() - clock) * 1000
            instance = self._register(function, sandbox)
            try:
                if not loaded:
                    before = dict(sandbox.phases_ms)
                    limit = max(INIT_TIMEOUT_S, float(function.timeout_s))
                    async with asyncio.timeout(limit):
                        await sandbox.load(function.workload(), Delivery.MOUNTED)
                    for phase, cost in sandbox.phases_ms.items():
                        spent = cost - before.get(phase, 0.0)
                        if spent:
                            phases[phase] = spent
            except BaseException:
                self._release(instance)
                raise
            if instance.gone is not None:
                self._release(instance)
                raise InitError(_ended_document("", instance.gone))
            return instance, start, why
        except SandboxGone as gone:
            raise InitError(_ended_document("", gone.reason)) from gone
        except ProtocolError as error:
            raise InitError(_error("Runtime.ProtocolError", "the runtime broke its protocol")) from error
        finally:
            self._starting -= 1

    async def _obtain(self, tier: Tier, function: FunctionVersion) -> tuple[Sandbox, str, str, bool]:
        """Return a sandbox, how it started, why, and whether the code is in it already."""
        restored = await self.snapshots.start(function)
        if restored is not None:
            return restored, "restored", "no idle instance; the version has a snapshot", True
        pool = self._pools.get((function.isolation, function.runtime))
        if pool is not None:
            sandbox = pool.claim()
            if sandbox is not None:
                return sandbox, "mounted", "no idle instance; a pre-started sandbox took the code", False
        sandbox = await tier.start(function.runtime)
        empty = "the pool was empty" if pool is not None and pool.target else "no pool is kept"
        start = "booted" if str(sandbox.start) == "booted" else "restored"
        return sandbox, start, f"no idle instance; {empty}", False

    async def _make_room(self) -> None:
        """Keep to the limit of sandboxes: release the longest idle instance, else refuse."""
        while len(self._all) + self._starting >= self._max_sandboxes:
            oldest = min(
                (idle[0] for idle in self._idle.values() if idle),
                key=lambda instance: instance.idle_since,
                default=None,
            )
            if oldest is None:
                raise ThrottledError(
                    f"all {self._max_sandboxes} sandboxes are busy",
                    hint="try again later, or raise --max-sandboxes",
                )
            self._idle[oldest.function.revision].remove(oldest)
            self._release(oldest)

    # Control plane

    async def forget(self, function_arn: str, version: str | None) -> None:
        for instance in list(self._all):
            function = instance.function
            if function.function_arn == function_arn and version in (None, function.version):
                instance.retired = True
                if not instance.busy:
                    with contextlib.suppress(ValueError, KeyError):
                        self._idle[function.revision].remove(instance)
                    self._release(instance)

    async def snapshot(self, function: FunctionVersion) -> None:
        await self.snapshots.take(function)

    async def drop_snapshots(self, functions: Iterable[FunctionVersion]) -> None:
        await self.snapshots.drop(functions)


def _billed(duration_ms: float) -> int:
    """Return whole milliseconds, rounded up, at least one."""
    return max(1, math.ceil(duration_ms))


def _error(kind: str, message: str) -> bytes:
    return json.dumps({"errorType": kind, "errorMessage": message}).encode()


def _ended_document(request_id: str, reason: str) -> bytes:
    """Return the document that AWS shows when the runtime's process ends."""
    prefix = f"RequestId: {request_id} Error: " if request_id else ""
    match reason:
        case "out_of_memory":
            return _error("Runtime.OutOfMemory", f"{prefix}Runtime exited with error: signal: killed (out of memory)")
        case "signal" | "killed":
            return _error("Runtime.ExitError", f"{prefix}Runtime exited with error: signal: killed")
        case _:
            return _error("Runtime.ExitError", f"{prefix}Runtime exited without providing a reason")
