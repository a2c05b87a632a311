"""``alcove bench startup``: the paper's table 1 on this machine.

For each tier and function it measures, interleaved, the time from the decision to start until the first answer:

* booted: started when needed (a container created, a VM booted cold)
* restored: a VM restored from its template when needed (a QEMU waits for the state), code mounted, init code run
* snapshot: a VM restored from the version's own snapshot when needed
* copied: started ahead; the code copied in, init code run
* mounted: started ahead; the code mounted, init code run
* warm: one more call to a loaded sandbox

The hello function with 200 MB beside it is mounted only, which shows what a package's size costs.

All functions have 1,769 MB, one full processor, in every tier; networks are attached in all.
"""

from __future__ import annotations

import asyncio
import io
import random
import time
import uuid
import zipfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from alcove.bench.figures import Figures, Ratio
from alcove.images.code import CodeStore
from alcove.sandbox.engine import open_engine
from alcove.sandbox.protocol import (
    CodeImage,
    Delivery,
    Invocation,
    Isolation,
    Runtime,
    Sandbox,
    Start,
    TenantId,
    Tier,
    Workload,
)
from alcove.sandbox.vm_tier import VmTier

HELLO = "def handler(event, context):\n    return {'hello': event.get('name', 'world')}\n"
PANDAS = (
    "import pandas\n\n\ndef handler(event, context):\n"
    "    return {'sum': int(pandas.Series(event.get('values', [1, 2, 3])).sum())}\n"
)
MEMORY_MIB = 1769
LARGE_MB = 200
LARGE = f"hello, {LARGE_MB} MB"
WARM_CALLS = 10


def zip_of(files: dict[str, str | bytes]) -> bytes:
    """Return a deterministic zip of the files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(files.items()):
            info = zipfile.ZipInfo(name, (2024, 1, 1, 0, 0, 0))
            info.external_attr = 0o100644 << 16
            archive.writestr(info, content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def zip_of_folder(folder: Path, extra: dict[str, str]) -> bytes:
    files: dict[str, str | bytes] = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts and "tests" not in path.parts
    }
    return zip_of({**files, **extra})


def large_package() -> bytes:
    """Return the hello function with 200 MB beside it: files that differ, and that a zip makes small."""
    noise = random.Random(0).randbytes(16 * 1024)
    files: dict[str, str | bytes] = {"app.py": HELLO}
    for number in range(LARGE_MB):
        blocks = (number.to_bytes(4, "big") + part.to_bytes(4, "big") + noise for part in range(10**6 // len(noise)))
        files[f"data/{number:03}.bin"] = b"".join(blocks).ljust(10**6, b"\0")
    return zip_of(files)


async def workload(code: CodeStore, name: str, package: bytes, version: str = "1") -> Workload:
    built = await code.build(package, python=True)
    return Workload(
        tenant=TenantId("bench"),
        function_name=name,
        version=version,
        arn=f"arn:bench:{name}:{version}",
        runtime=Runtime.PYTHON,
        handler="app.handler",
        code=CodeImage(built.digest, built.path),
        memory_mib=MEMORY_MIB,
        timeout_s=60.0,
    )


def invocation() -> Invocation:
    return Invocation(str(uuid.uuid4()), b'{"name":"bench"}', int(time.time() * 1000) + 60_000)


class Bench:
    """One run: ``rounds`` of every (tier, mode, function), in turn."""

    def __init__(
        self, tiers: dict[Isolation, Tier], workloads: list[Workload], progress: Callable[[str], None]
    ) -> None:
        self.tiers = tiers
        self.workloads = workloads
        self.figures = Figures()
        self.progress = progress
        self.phases: dict[tuple[str, str, str], dict[str, float]] = {}

    async def run(self, rounds: int, booted_vm_rounds: int) -> None:
        for number in range(rounds + 1):
            for isolation, tier in self.tiers.items():
                for load in self.workloads:
                    self.progress(f"round {number}/{rounds}: {isolation} {load.function_name}")
                    # The first round warms caches and is not counted.
                    await self._round(isolation, tier, load, number, booted_vm_rounds)

    async def _round(self, isolation: Isolation, tier: Tier, load: Workload, number: int, booted: int) -> None:
        count = number > 0
        if load.function_name == LARGE:
            await self._start_ahead(isolation, tier, load, Delivery.MOUNTED, count)
            return
        if isolation is not Isolation.VM or (count and number <= booted):
            await self._measure(count, isolation, "booted", load, lambda: self._cold(tier, load, Start.BOOTED))
        if isinstance(tier, VmTier):
            await self._settle()
            await self._measure(count, isolation, "restored", load, lambda: self._cold(tier, load, Start.RESTORED))
            await tier.snapshot(load)
            await self._settle()
            await self._measure(count, isolation, "snapshot", load, lambda: self._snapshot(tier, load))
        for delivery in (Delivery.COPIED, Delivery.MOUNTED):
            await self._start_ahead(isolation, tier, load, delivery, count)

    async def _start_ahead(
        self, isolation: Isolation, tier: Tier, load: Workload, delivery: Delivery, count: bool
    ) -> None:
        sandbox = await tier.start(load.runtime)
        try:
            await sandbox.rehearse()
            await sandbox.rehearse()
            await self._settle()
            # What it took to get ready is not part of the start.
            sandbox.phases_ms.clear()
            await self._measure(count, isolation, str(delivery), load, partial(self._ahead, sandbox, load, delivery))
            self.phases[(str(isolation), str(delivery), load.function_name)] = dict(sandbox.phases_ms)
            if delivery is Delivery.MOUNTED and count:
                await self._warm(isolation, sandbox, load)
        finally:
            await sandbox.close()

    async def _settle(self) -> None:
        """Let what was launched ahead come to rest, as it would between real cold starts."""
        await asyncio.sleep(0.7)

    async def _measure(
        self, count: bool, isolation: Isolation, mode: str, load: Workload, act: Callable[[], Awaitable[Sandbox | None]]
    ) -> None:
        began = time.perf_counter()
        sandbox = await act()
        elapsed = (time.perf_counter() - began) * 1000
        if count:
            self.figures.add(str(isolation), mode, load.function_name, elapsed)
        if sandbox is not None:
            self.phases[(str(isolation), mode, load.function_name)] = dict(sandbox.phases_ms)
            await sandbox.close()

    async def _cold(self, tier: Tier, load: Workload, how: Start) -> Sandbox:
        sandbox = await tier.start(load.runtime, how)
        await sandbox.load(load)
        await self._answer(sandbox)
        return sandbox

    async def _snapshot(self, tier: VmTier, load: Workload) -> Sandbox:
        sandbox = await tier.start_snapshot(load)
        await self._answer(sandbox)
        return sandbox

    async def _ahead(self, sandbox: Sandbox, load: Workload, delivery: Delivery) -> None:
        await sandbox.load(load, delivery)
        await self._answer(sandbox)

    async def _warm(self, isolation: Isolation, sandbox: Sandbox, load: Workload) -> None:
        for _ in range(WARM_CALLS):
            began = time.perf_counter()
            await self._answer(sandbox)
            self.figures.add(str(isolation), "warm", load.function_name, (time.perf_counter() - began) * 1000)

    async def _answer(self, sandbox: Sandbox) -> None:
        outcome = await sandbox.invoke(invocation())
        if outcome.error is not None:
            raise RuntimeError(f"the benchmark's function failed: {outcome.error!r}")


def ratios(figures: Figures) -> list[Ratio]:
    """Return the figures of the specification that this benchmark shows."""
    runc_hello = figures.p50("process", "booted", "hello")
    runc_pandas = figures.p50("process", "booted", "pandas")
    restored = figures.p50("vm", "restored", "hello")
    snapshot = figures.p50("vm", "snapshot", "pandas")
    mounted = figures.p50("vm", "mounted", "hello")
    found = [
        Ratio("vm restored hello / runc booted hello", restored / runc_hello, 1.5),
        Ratio("vm snapshot pandas / runc booted pandas", snapshot / runc_pandas, 0.5),
        Ratio("vm snapshot pandas / vm restored hello", snapshot / restored, 1.3),
        Ratio("vm mounted hello / runc booted hello", mounted / runc_hello, 0.19),
        Ratio("vm mounted hello, ms", mounted, 20.0),
        Ratio(f"vm mounted {LARGE_MB} MB / mounted 1 KB", figures.p50("vm", "mounted", LARGE) / mounted, 1.5),
    ]
    return [ratio for ratio in found if ratio.reached == ratio.reached]


async def measure(
    state: Path,
    *,
    rounds: int,
    booted_vm_rounds: int,
    pandas: Path | None,
    isolations: frozenset[Isolation],
    progress: Callable[[str], None],
) -> Bench:
    """Run the benchmark. ``pandas`` is a folder with the package unpacked; None leaves that function out."""
    async with AsyncExitStack() as stack:
        tiers, _ = await open_engine(stack, state=state, isolations=isolations, progress=progress)
        code = CodeStore(state / "images" / "code")
        stack.callback(code.close)
        loads = [await workload(code, "hello", zip_of({"app.py": HELLO}))]
        if Isolation.VM in tiers:
            progress("packing 200 MB")
            loads.append(await workload(code, LARGE, await asyncio.to_thread(large_package)))
        if pandas is not None:
            loads.append(await workload(code, "pandas", zip_of_folder(pandas, {"app.py": PANDAS})))
        for tier in tiers.values():
            stack.push_async_callback(tier.close)
            await tier.recover()
            await tier.prepare(Runtime.PYTHON, progress)
            if isinstance(tier, VmTier):
                await tier.keep_waiting(Runtime.PYTHON, 1)
        bench = Bench(tiers, loads, progress)
        await bench.run(rounds, booted_vm_rounds)
        return bench
