"""``alcove bench burst``: restored VMs a second, against bare QEMU restores of the same template.

The floor starts the same QEMU with the same arguments, restores the same state and makes the guest unlike any other,
without record, network, jail, cgroup, code or call. A second floor leaves out what the guest does for itself, and waits
for the agent's first answer alone. All run ``at_once`` starts side by side, in turn, in one run.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from alcove.bench.figures import percentile
from alcove.bench.startup import HELLO, invocation, workload, zip_of
from alcove.images.code import CodeStore
from alcove.sandbox.engine import open_engine
from alcove.sandbox.protocol import Isolation, Runtime, Start, Workload
from alcove.sandbox.vm_tier import VmTier


@dataclass(frozen=True, slots=True)
class Burst:
    """Starts a second, p50 over the rounds."""

    functions_per_s: float
    machines_per_s: float
    floor_per_s: float
    answers_per_s: float

    @property
    def ratio(self) -> float:
        return self.machines_per_s / self.floor_per_s


async def measure(state: Path, *, machines: int, at_once: int, rounds: int, progress: Callable[[str], None]) -> Burst:
    """Start ``machines`` VMs, ``at_once`` at a time, by the engine and bare, ``rounds`` times in turn."""
    async with AsyncExitStack() as stack:
        tiers, _ = await open_engine(
            stack, state=state, isolations=frozenset({Isolation.VM}), waiting=0, progress=progress
        )
        tier = tiers[Isolation.VM]
        assert isinstance(tier, VmTier)
        stack.push_async_callback(tier.close)
        await tier.recover()
        await tier.prepare(Runtime.PYTHON, progress)
        code = CodeStore(state / "images" / "code")
        stack.callback(code.close)
        load = await workload(code, "hello", zip_of({"app.py": HELLO}))
        acts: dict[str, Callable[[], Awaitable[None]]] = {
            "function": lambda: _function(tier, load),
            "machine": lambda: _machine(tier),
            "floor": lambda: _floor(tier),
            "answer": lambda: _answer(tier),
        }
        rates: dict[str, list[float]] = {name: [] for name in acts}
        for number in range(rounds):
            for name, act in acts.items():
                progress(f"round {number + 1}/{rounds}: {name}")
                rates[name].append(await _rate(act, machines, at_once))
        return Burst(*(percentile(rates[name], 0.5) for name in acts))


async def _rate(act: Callable[[], Awaitable[None]], count: int, at_once: int) -> float:
    gate = asyncio.Semaphore(at_once)

    async def one() -> None:
        async with gate:
            await act()

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(count)))
    return count / (time.perf_counter() - began)


async def _function(tier: VmTier, load: Workload) -> None:
    sandbox = await tier.start(Runtime.PYTHON, Start.RESTORED)
    await sandbox.load(load)
    await sandbox.invoke(invocation())
    await sandbox.close()


async def _machine(tier: VmTier) -> None:
    sandbox = await tier.start(Runtime.PYTHON, Start.RESTORED)
    await sandbox.resume()
    await sandbox.close()


async def _floor(tier: VmTier) -> None:
    async with tier.bare_restore(Runtime.PYTHON) as agent:
        await agent.batch(tier.templates.sample_personality())


async def _answer(tier: VmTier) -> None:
    async with tier.bare_restore(Runtime.PYTHON) as agent:
        await agent.hello(60)
