"""``alcove bench density``: how much memory an idle function VM takes, and whether all of them still answer."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from alcove.bench.figures import percentile
from alcove.bench.startup import HELLO, invocation, workload, zip_of
from alcove.images.code import CodeStore
from alcove.sandbox.engine import open_engine
from alcove.sandbox.protocol import Isolation, Runtime
from alcove.sandbox.vm import VmSandbox
from alcove.sandbox.vm_tier import VmTier

AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class Density:
    """``pss_mib`` is the proportional set size of each VM's process (proc(5), smaps_rollup)."""

    machines: int
    answered: int
    pss_mib: list[float]

    @property
    def mean_mib(self) -> float:
        return sum(self.pss_mib) / len(self.pss_mib)

    @property
    def p99_mib(self) -> float:
        return percentile(self.pss_mib, 0.99)


def pss_mib(pid: int) -> float:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


async def measure(state: Path, *, machines: int, progress: Callable[[str], None]) -> Density:
    """Hold ``machines`` loaded, idle VMs at once; weigh each; then call every one."""
    async with AsyncExitStack() as stack:
        tiers, _ = await open_engine(stack, state=state, isolations=frozenset({Isolation.VM}), progress=progress)
        tier = tiers[Isolation.VM]
        assert isinstance(tier, VmTier)
        stack.push_async_callback(tier.close)
        await tier.recover()
        await tier.prepare(Runtime.PYTHON, progress)
        code = CodeStore(state / "images" / "code")
        stack.callback(code.close)
        load = await workload(code, "hello", zip_of({"app.py": HELLO}))
        running: list[VmSandbox] = []
        gate = asyncio.Semaphore(AT_ONCE)

        async def start() -> None:
            async with gate:
                sandbox = await tier.start(Runtime.PYTHON)
                await sandbox.load(load)
                await sandbox.invoke(invocation())
                running.append(sandbox)
                progress(f"{len(running)}/{machines} machines run")

        await asyncio.gather(*(start() for _ in range(machines)))
        await asyncio.sleep(2)
        weights = [pss_mib(sandbox.machine.process.pid) for sandbox in running]
        answered = 0
        for sandbox in running:
            outcome = await sandbox.invoke(invocation())
            answered += outcome.error is None
            progress(f"{answered}/{machines} machines answered")
        return Density(machines, answered, weights)
