"""A tier without machines, for tests of what stands above the tiers. It passes the same contract suite as the
real ones.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable, Sequence
from typing import Any

from alcove.errors import HostError, SandboxError, SandboxGone, SandboxLost
from alcove.sandbox.collector import Collector
from alcove.sandbox.protocol import (
    Adopts,
    Delivery,
    ExitSink,
    InitError,
    Invocation,
    Isolation,
    LogSink,
    Outcome,
    Runtime,
    Sandbox,
    SandboxId,
    SnapshotUnfit,
    Start,
    Workload,
    adopt_none,
)

_numbers = itertools.count(1)


class FakeSandbox:
    """Runs ``behaviour`` (an event in, an answer out) for what the workload's handler names.

    Handlers: ``echo``, ``raise``, ``exit``, ``sleep`` (for the event's seconds), ``hang``, ``print``, ``initfail``,
    ``answer`` (what the event's ``body`` says), ``stream`` (an object: ``type``, ``parts``, ``times``, ``error``).
    """

    def __init__(self, tier: FakeTier, runtime: Runtime, start: Start) -> None:
        self.id = SandboxId(f"f-{next(_numbers)}")
        self.isolation = tier.isolation
        self.runtime = runtime
        self.start = start
        self.phases_ms: dict[str, float] = {"start": 0.1}
        self.workload: Workload | None = None
        self.ended = False
        self.inside = 0
        self.highest = 0
        self.peak_mib: int | None = None
        self._tier = tier
        self._log: LogSink = lambda stream, data: None
        self._exit: ExitSink = lambda reason: None

    def listen(self, *, log: LogSink, exit: ExitSink) -> None:
        self._log, self._exit = log, exit

    async def rehearse(self) -> None:
        await asyncio.sleep(0)

    async def load(self, workload: Workload, delivery: Delivery = Delivery.MOUNTED) -> None:
        if self.ended:
            raise SandboxGone("ended")
        if self._tier.lose:
            self._tier.lose -= 1
            raise SandboxLost("lost", reason="killed")
        await asyncio.sleep(self._tier.load_s)
        self.workload = workload
        self.phases_ms["init"] = 0.1
        if workload.handler == "initfail":
            raise InitError(b'{"errorType":"Boom","errorMessage":"init failed","stackTrace":[]}')

    async def invoke(self, invocation: Invocation) -> Outcome:
        if self.ended or self.workload is None:
            raise SandboxGone("ended")
        if self.inside and not invocation.shared:
            raise SandboxError("a request is in flight")
        self.inside += 1
        self.highest = max(self.highest, self.inside)
        try:
            return await self._answer(self.workload.handler, invocation)
        finally:
            self.inside -= 1

    async def _answer(self, handler: str, invocation: Invocation) -> Outcome:
        event = json.loads(invocation.event or b"null")
        outcome = Outcome(invocation.event)
        match handler:
            case "raise":
                outcome = Outcome(b"", b'{"errorType":"ValueError","errorMessage":"no","stackTrace":[]}')
            case "exit":
                self.die("exited")
                raise SandboxGone("the runtime ended: exited", reason="exited")
            case "sleep":
                await asyncio.sleep(float(event))
            case "hang":
                await asyncio.sleep(3600)
            case "stream":
                outcome = await self._stream(invocation, event)
            case "answer":
                outcome = Outcome(event["body"].encode())
            case "print":
                self._log(1, str(event).encode() + b"\n")
        self._log(2, f"\0alcove:end:{invocation.request_id}\0".encode())
        return outcome

    def memory_peak_mib(self) -> int | None:
        return self.peak_mib

    async def measure(self) -> None:
        self.peak_mib = 99

    async def _stream(self, invocation: Invocation, event: Any) -> Outcome:
        """Stream the parts as often as ``times`` says, waiting where the sink has no room; then end as told."""
        if "body" in event:
            event = json.loads(event["body"])
        collector = Collector()
        sink = invocation.sink or collector
        streamed = 0
        room = asyncio.Event()
        sink.on_room = room.set
        sink.begin(event["type"])
        for _ in range(event.get("times", 1)):
            for part in event["parts"]:
                room.clear()
                if not sink.write(part.encode()):
                    await room.wait()
                self._tier.streamed += len(part)
                streamed += len(part.encode())
                await asyncio.sleep(0)
        if event.get("error") == "exit":
            self.die("exited")
            raise SandboxGone("the runtime ended: exited", reason="exited")
        error = event["error"].encode() if "error" in event else sink.problem()
        whole = collector.payload() if sink is collector and error is None else b""
        return Outcome(whole, error, event["type"], streamed)

    def die(self, reason: str) -> None:
        self.ended = True
        self._exit(reason)

    async def close(self) -> None:
        self.ended = True
        self._tier.live.discard(self)


class FakeTier:
    """Counts what it makes; ``live`` are the sandboxes that are not closed; ``fail`` makes starts fail."""

    def __init__(self, isolation: Isolation = Isolation.VM, load_s: float = 0.0) -> None:
        self.isolation = isolation
        self.lose = 0  # how many of the next sandboxes are lost while they load
        self.load_s = load_s
        self.live: set[FakeSandbox] = set()
        self.started = 0
        self.streamed = 0  # bytes that sinks have taken
        self.fail = False
        self.images = set(Runtime)
        self.building = asyncio.Event()  # set: a build that was begun ends
        self.prepared: list[Runtime] = []

    async def prepare(self, runtime: Runtime, progress: Callable[[str], None] | None = None) -> None:
        self.prepared.append(runtime)
        if runtime not in self.images:
            await self.building.wait()
            if self.fail:
                raise HostError("the mirror does not answer")
            self.images.add(runtime)

    def has_image(self, runtime: Runtime) -> bool:
        return runtime in self.images

    async def start(self, runtime: Runtime, how: Start | None = None) -> FakeSandbox:
        await asyncio.sleep(0)
        if self.fail:
            raise HostError("no machine can be started")
        self.started += 1
        sandbox = FakeSandbox(self, runtime, how or Start.RESTORED)
        self.live.add(sandbox)
        return sandbox

    async def recover(self, adopt: Adopts = adopt_none) -> Sequence[Sandbox]:
        return []

    async def close(self) -> None:
        for sandbox in list(self.live):
            await sandbox.close()


class FakeKernelTier(FakeTier):
    """Runs other kernels too: ``kernels`` are those that it has templates of; a new one takes ``boot_s``, or fails
    for the reason of ``refused``.
    """

    def __init__(self, boot_s: float = 0.0) -> None:
        super().__init__()
        self.boot_s = boot_s
        self.kernels: set[tuple[Runtime, str]] = set()
        self.refused: dict[str, str] = {}
        self.boots = self.most_boots = 0  # at this moment, and at most

    async def prepare_kernel(
        self, runtime: Runtime, kernel: str, progress: Callable[[str], None] | None = None
    ) -> None:
        self.boots += 1
        self.most_boots = max(self.boots, self.most_boots)
        try:
            await asyncio.sleep(self.boot_s)
            if kernel in self.refused:
                raise SandboxError(self.refused[kernel])
            self.kernels.add((runtime, kernel))
        finally:
            self.boots -= 1

    def has_kernel(self, runtime: Runtime, kernel: str) -> bool:
        return (runtime, kernel) in self.kernels

    async def start_kernel(self, runtime: Runtime, kernel: str) -> FakeSandbox:
        if not self.has_kernel(runtime, kernel):
            await self.prepare_kernel(runtime, kernel)
        return await self.start(runtime)


class FakeSnapshotTier(FakeTier):
    """Saves versions too: ``saved`` are their revisions; ``unfit`` makes restores fail."""

    def __init__(self, load_s: float = 0.0) -> None:
        super().__init__(Isolation.VM, load_s)
        self.saved: set[str] = set()
        self.unfit = False
        self.taken = 0

    async def snapshot(self, workload: Workload) -> None:
        await asyncio.sleep(self.load_s)
        if self.fail:
            raise HostError("no snapshot can be taken")
        self.taken += 1
        self.saved.add(workload.revision)

    def has_snapshot(self, workload: Workload) -> bool:
        return workload.revision in self.saved

    async def start_snapshot(self, workload: Workload) -> Sandbox:
        if self.unfit or workload.revision not in self.saved:
            self.saved.discard(workload.revision)
            raise SnapshotUnfit("it does not fit")
        sandbox = await self.start(workload.runtime, Start.SNAPSHOT)
        await sandbox.load(workload)
        return sandbox

    async def drop_snapshot(self, workload: Workload) -> None:
        self.saved.discard(workload.revision)
