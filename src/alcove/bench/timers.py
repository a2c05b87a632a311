"""``alcove bench timers``: how late runs are, with the real wheel, queue and delivery, and no machines.

Two loads: ``spread``, timers by rate whose instants are all over the minute, and ``at once``, timers by cron that are
all due as the minute begins. Each run is looked at three times: when it is handed in, when the queue has it on the
disk, and when it reaches its function. Lateness is from the due instant.
"""

from __future__ import annotations

import asyncio
import io
import shutil
import time
import uuid
import zipfile
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from alcove.bench.echo import EchoTier
from alcove.bench.figures import Figures, Ratio, percentile
from alcove.composition import open_services
from alcove.functions.model import FunctionChange
from alcove.sandbox.protocol import Invocation, Isolation, TenantId
from alcove.services import Services
from alcove.settings import Settings
from alcove.store import timers as rows
from alcove.triggers.runs import TimerRuns
from alcove.triggers.timer import Timer, TimerId
from alcove.triggers.timers import TimerSpec

FUNCTIONS = 100
PERIOD_MS = 60_000
LIMIT_MS = 100.0
SCHEDULES = {"spread": "rate(1 minute)", "at once": "cron(* * * * ? *)"}
STAGES = ("handed in", "accepted", "started")
# Room between the loads: what is due while the timers are being made does not count.
LEAD_MS = 5_000
SETTLE_S = 5.0


@dataclass(slots=True)
class _Watch:
    """Notes how late each run is, by the request id of the run."""

    load: str
    figures: Figures
    timers: dict[TimerId, Timer]
    due: dict[str, int] = field(default_factory=dict)

    def handed_in(self, timer_id: TimerId, instant_ms: int) -> None:
        self.due[self.timers[timer_id].request_id(instant_ms)] = instant_ms
        self._note("handed in", instant_ms)

    def accepted(self, request_id: str) -> None:
        self._note("accepted", self.due[request_id])

    def started(self, invocation: Invocation) -> None:
        self._note("started", self.due[invocation.request_id])

    def _note(self, stage: str, instant_ms: int) -> None:
        self.figures.add(stage, self.load, "timer", time.time() * 1000 - instant_ms)


@dataclass(frozen=True, slots=True)
class _Sink:
    """The queue, watched."""

    services: Services
    watch: _Watch

    async def submit(self, tenant: TenantId, function: str, event: bytes, **options: Any) -> str:
        request_id = await self.services.events.submit(tenant, function, event, **options)
        self.watch.accepted(request_id)
        return request_id


async def measure(state: Path, *, timers: int, progress: Callable[[str], None]) -> Figures:
    figures = Figures()
    for load, schedule in SCHEDULES.items():
        shutil.rmtree(state, ignore_errors=True)
        progress(f"{timers} timers, {load}")
        await _one_period(state, timers, load, schedule, figures)
    return figures


def ratios(figures: Figures) -> list[Ratio]:
    """The limit is on timers all over the minute; all at once is for comparison."""
    late = {stage: percentile(figures.samples[stage, "spread", "timer"], 0.99) for stage in STAGES}
    return [Ratio(f"timers all over the minute: {stage} late, p99, ms", late[stage], LIMIT_MS) for stage in STAGES]


async def _one_period(state: Path, timers: int, load: str, schedule: str, figures: Figures) -> None:
    tier = EchoTier()
    async with AsyncExitStack() as stack:
        settings = Settings(state=state, max_sandboxes=2 * FUNCTIONS, memory_reserve_mib=0)
        services = await open_services(stack, settings, {Isolation.VM: tier})
        await services.start(stack)
        tenant = services.tenants.default.id
        await _deploy(services, tenant)
        first_ms = (int(time.time() * 1000) + LEAD_MS) // PERIOD_MS * PERIOD_MS + PERIOD_MS
        made = await _make(services, tenant, timers, schedule, first_ms)
        watch = _Watch(load, figures, {timer.id: timer for timer in made})
        tier.observe = watch.started
        sink = _Sink(services, watch)
        runs = TimerRuns(services.database, sink, region="us-east-1", window_ms=0, observe=watch.handed_in)
        stack.push_async_callback(runs.close)
        for timer in made:
            runs.put(timer)
        runs.wheel.start()
        await asyncio.sleep((first_ms + PERIOD_MS - 1000) / 1000 - time.time())
        for timer in made:
            runs.drop(timer.id)
        await asyncio.sleep(SETTLE_S)


async def _deploy(services: Services, tenant: TenantId) -> None:
    package = io.BytesIO()
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr("app.py", "def handler(event, context):\n    return event\n")
    change = FunctionChange(runtime="python3.11", handler="app.handler")
    for number in range(FUNCTIONS):
        await services.functions.create(tenant, f"f-{number}", package.getvalue(), change)


async def _make(services: Services, tenant: TenantId, timers: int, schedule: str, first_ms: int) -> list[Timer]:
    """Write the timers at once, each with the first instant, and the place in the minute, that it is to have."""
    model = (await services.timers.create(tenant, "model", TimerSpec("f-0", schedule, enabled=False))).row
    made = [
        replace(
            model,
            id=uuid.uuid4().hex,
            name=f"t-{number}",
            function=f"f-{number % FUNCTIONS}",
            enabled=1,
            anchor_ms=first_ms - PERIOD_MS + number * PERIOD_MS // timers,
            handled_ms=first_ms - 1,
        )
        for number in range(timers)
    ]

    def insert(connection: Any) -> None:
        for row in made:
            rows.insert_timer(connection, row)

    await services.database.write(insert)
    return [Timer(row) for row in made]
