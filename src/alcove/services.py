"""The parts behind all faces, put together: state, functions, events, triggers over the tiers that there are.

``open_services`` makes them, ``Services.start`` sets them going; between the two the daemon recovers what an earlier
one left. The daemon and the tests compose the same way.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

from alcove.events.delivery import Delivery
from alcove.events.queue import EventQueue
from alcove.functions.aliases import AliasService
from alcove.functions.concurrency import ConcurrencyService
from alcove.functions.dispatcher import Dispatcher
from alcove.functions.logs import LogStore
from alcove.functions.observed import ObservedDispatcher, Observer
from alcove.functions.permissions import PermissionService
from alcove.functions.provisioning import Provisioner
from alcove.functions.records import Settings as ServiceSettings
from alcove.functions.scheduler import Bounds
from alcove.functions.service import FunctionService
from alcove.images.code import CodeStore
from alcove.metering.bill import Tariff
from alcove.metering.meter import Meter
from alcove.removal import TenantRemoval
from alcove.sandbox.protocol import Isolation, Runtime, Tier
from alcove.settings import Settings
from alcove.store.database import Database
from alcove.telemetry import gauges
from alcove.telemetry.metrics import Metrics
from alcove.tenants.directory import TenantDirectory
from alcove.tenants.quotas import Quotas
from alcove.triggers.runs import TimerRuns
from alcove.triggers.timers import TimerService


@dataclass(frozen=True, slots=True)
class Services:
    """See the module's docstring."""

    database: Database
    tenants: TenantDirectory
    code: CodeStore
    logs: LogStore
    dispatcher: Dispatcher
    functions: FunctionService
    concurrency: ConcurrencyService
    aliases: AliasService
    permissions: PermissionService
    events: EventQueue
    delivery: Delivery
    runs: TimerRuns
    timers: TimerService
    removal: TenantRemoval
    meter: Meter
    tariff: Tariff
    metrics: Metrics

    async def start(self, stack: AsyncExitStack) -> None:
        """Set going what works by itself; ``stack`` stops it again."""
        await self.removal.resume()
        stack.push_async_callback(self.dispatcher.close)
        self.dispatcher.start()
        stack.push_async_callback(self.concurrency.close)
        await self.concurrency.start()
        self.meter.start()
        stack.push_async_callback(self.delivery.close)
        self.delivery.start()
        stack.push_async_callback(self.runs.close)
        await self.runs.start()


async def open_services(
    stack: AsyncExitStack,
    settings: Settings,
    tiers: Mapping[Isolation, Tier],
    *,
    region: str = "us-east-1",
    pool_sizes: Mapping[tuple[Isolation, Runtime], int] | None = None,
) -> Services:
    """Open the state in ``settings.state`` and put everything together; ``stack`` closes it again."""
    state = settings.state
    database = await Database.open(state / "alcove.db")
    stack.push_async_callback(database.close)
    tenants = await TenantDirectory.open(database, _default_quotas(settings))
    code = CodeStore(state / "images" / "code")
    stack.callback(code.close)
    logs = LogStore(state / "logs")
    dispatcher = ObservedDispatcher(
        tiers,
        logs,
        pool_sizes=pool_sizes or {},
        bounds=_bounds(settings),
        limit_of=lambda tenant: tenants.quotas(tenant).concurrency,
        memory_reserve_mib=settings.memory_reserve_mib,
    )
    meter = await Meter.open(state)
    stack.push_async_callback(meter.close)
    metrics = Metrics()
    dispatcher.observers = (meter, metrics, *_tracers(stack, settings))
    dispatcher.sample = settings.otlp_sample if settings.otlp_endpoint else 0.0
    functions = FunctionService(
        database, code, dispatcher, ServiceSettings(region, isolations=frozenset(tiers)), quotas=tenants.quotas
    )
    functions.on_deleted = logs.remove
    provisioner = Provisioner(database, functions, dispatcher.admission, dispatcher.scheduler)
    concurrency = ConcurrencyService(
        database, functions, dispatcher.admission, provisioner, minimum=settings.unreserved_concurrency
    )
    events = await EventQueue.open(state / "events.db", lambda tenant: tenants.quotas(tenant).events)
    stack.push_async_callback(events.close)
    delivery = Delivery(events, functions, dispatcher)
    runs = TimerRuns(
        database,
        events,
        region=region,
        window_ms=int(settings.timer_window_s * 1000),
        observe=lambda timer, instant_ms: metrics.timer_handed_in(instant_ms),
    )
    metrics.sources = (
        gauges.pools(dispatcher),
        gauges.sandboxes(dispatcher),
        gauges.waiting(dispatcher),
        gauges.events(events),
        gauges.timers(runs),
        gauges.metering(meter),
    )
    timers = TimerService(database, functions, runs, limit=lambda tenant: tenants.quotas(tenant).timers)
    removal = TenantRemoval(tenants, (timers.delete_every, functions.delete_every, events.delete_every))
    return Services(
        database=database,
        tenants=tenants,
        code=code,
        logs=logs,
        dispatcher=dispatcher,
        functions=functions,
        concurrency=concurrency,
        aliases=AliasService(database, functions),
        permissions=PermissionService(database, functions),
        events=events,
        delivery=delivery,
        runs=runs,
        timers=timers,
        removal=removal,
        meter=meter,
        tariff=_tariff(settings),
        metrics=metrics,
    )


def _bounds(settings: Settings) -> Bounds:
    return Bounds(
        max_sandboxes=settings.max_sandboxes,
        starts_at_once=settings.starts_at_once or max(4, 2 * (os.cpu_count() or 1)),
        queue_wait_s=settings.queue_wait_s,
        queue_length=settings.queue_length,
        idle_timeout_s=settings.idle_timeout_s,
        prewarm=settings.prewarm,
    )


def _default_quotas(settings: Settings) -> Quotas:
    return Quotas(
        functions=settings.tenant_functions,
        code_bytes=settings.tenant_code_mib << 20,
        concurrency=settings.concurrency,
        timers=settings.tenant_timers,
        events=settings.tenant_events,
    )


def _tracers(stack: AsyncExitStack, settings: Settings) -> list[Observer]:
    """OpenTelemetry is imported where it is asked for: that takes time and memory."""
    if not settings.otlp_endpoint:
        return []
    from alcove.telemetry.tracing import Tracer

    tracer = Tracer(settings.otlp_endpoint)
    stack.push_async_callback(asyncio.to_thread, tracer.close)
    tracer.start()
    return [tracer]


def _tariff(settings: Settings) -> Tariff:
    return Tariff(settings.free_calls, settings.free_gb_s, settings.price_of_a_million_calls, settings.price_of_a_gb_s)
