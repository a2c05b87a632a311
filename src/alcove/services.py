"""The parts behind all faces, put together: state, functions, events, triggers over the tiers that there are.

``open_services`` makes them, ``Services.start`` sets them going; between the two the daemon recovers what an earlier
one left. The daemon and the tests compose the same way.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from alcove.audit.log import AuditLog
from alcove.buckets.destination import BucketSink
from alcove.buckets.hooks import HookService
from alcove.buckets.model import Limits
from alcove.buckets.outbox import Outbox
from alcove.buckets.relation import BucketSource
from alcove.buckets.service import BucketService
from alcove.events.delivery import Delivery
from alcove.events.invoke_configs import InvokeConfigs
from alcove.events.queue import EventQueue
from alcove.events.target import Destinations
from alcove.functions.aliases import AliasService
from alcove.functions.concurrency import ConcurrencyService
from alcove.functions.dispatcher import Dispatcher
from alcove.functions.isolation import IsolationPolicy, trust_all
from alcove.functions.keys import FunctionKeys
from alcove.functions.layers import LayerService
from alcove.functions.logs import LogStore
from alcove.functions.observed import ObservedDispatcher, Observer
from alcove.functions.permissions import PermissionService
from alcove.functions.preparing import Preparer
from alcove.functions.provisioning import Provisioner
from alcove.functions.records import Settings as ServiceSettings
from alcove.functions.scheduler import Bounds
from alcove.functions.service import FunctionService
from alcove.images.code import CodeStore
from alcove.images.kernels import KernelStore
from alcove.metering.bill import Tariff
from alcove.metering.meter import Meter
from alcove.policy.rules import Checks
from alcove.policy.rules_file import load_rules
from alcove.policy.scans import Checker, JailedChecker, Scans
from alcove.queues.destination import QueueSink
from alcove.queues.service import QueueService
from alcove.removal import TenantRemoval
from alcove.sandbox.protocol import Isolation, Runtime, Tier
from alcove.settings import Settings
from alcove.sources.address import AddressRule
from alcove.sources.kinds import source_maker
from alcove.sources.mappings import MappingService
from alcove.sources.poller import Parts
from alcove.store.database import Database
from alcove.store.functions import function_ids
from alcove.telemetry import gauges
from alcove.telemetry.metrics import Metrics
from alcove.tenants.directory import TenantDirectory
from alcove.tenants.quotas import Quotas
from alcove.triggers import cron_source, http_source
from alcove.triggers.cron_source import CronSource
from alcove.triggers.http_source import HttpSource
from alcove.triggers.relations import RelationService
from alcove.triggers.routes import RouteService
from alcove.triggers.runs import TimerRuns
from alcove.triggers.timers import TimerService
from alcove.triggers.urls import UrlService
from alcove.triggers.webhook import CdnSource, WebhookSource

log = logging.getLogger(__name__)

TRIM_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class Services:
    """See the module's docstring."""

    database: Database
    tenants: TenantDirectory
    keys: FunctionKeys
    code: CodeStore
    logs: LogStore
    dispatcher: Dispatcher
    functions: FunctionService
    concurrency: ConcurrencyService
    aliases: AliasService
    permissions: PermissionService
    layers: LayerService
    events: EventQueue
    delivery: Delivery
    destinations: Destinations
    invoke_configs: InvokeConfigs
    queues: QueueService
    mappings: MappingService
    runs: TimerRuns
    timers: TimerService
    urls: UrlService
    routes: RouteService
    relations: RelationService
    http_relations: HttpSource
    stream_limit: int  # bytes of one streamed answer
    removal: TenantRemoval
    meter: Meter
    tariff: Tariff
    metrics: Metrics
    audit: AuditLog
    kernels: KernelStore
    buckets: BucketService
    outbox: Outbox
    hooks: HookService
    scans: Scans | None = None

    async def start(self, stack: AsyncExitStack) -> None:
        """Set going what works by itself; ``stack`` stops it again."""
        await self.removal.resume()
        stack.push_async_callback(self.dispatcher.close)
        self.dispatcher.start()
        stack.push_async_callback(self.concurrency.close)
        await self.concurrency.start()
        self.queues.start()
        self.meter.start()
        if self.scans is not None:
            stack.push_async_callback(self.scans.close)
            self.scans.start()
        stack.push_async_callback(stop, asyncio.create_task(self._keep_to_limits()))
        stack.push_async_callback(self.delivery.close)
        self.delivery.start()
        stack.push_async_callback(self.mappings.close)
        await self.mappings.start()
        stack.push_async_callback(self.runs.close)
        await self.runs.start()
        await self.relations.start()
        stack.push_async_callback(self.outbox.close)
        self.outbox.start()

    async def _keep_to_limits(self) -> None:
        while True:
            await asyncio.sleep(TRIM_EVERY_S)
            try:
                await self.logs.trim()
            except OSError as error:
                log.warning("the logs cannot be trimmed: %s", error)


async def stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def open_services(
    stack: AsyncExitStack,
    settings: Settings,
    tiers: Mapping[Isolation, Tier],
    *,
    region: str = "us-east-1",
    pool_sizes: Mapping[tuple[Isolation, Runtime], int] | None = None,
    unavailable: Mapping[Isolation, str] | None = None,
    checker: Checker | None = None,
) -> Services:
    """Open the state in ``settings.state`` and put everything together; ``stack`` closes it again."""
    state = settings.state
    rules = load_rules(Path(settings.isolation_rules) if settings.isolation_rules else None)
    database = await Database.open(state / "alcove.db")
    stack.push_async_callback(database.close)
    tenants = await TenantDirectory.open(database, _default_quotas(settings))
    code = CodeStore(state / "images" / "code")
    stack.callback(code.close)
    logs = await asyncio.to_thread(LogStore, state / "logs", settings.log_mib << 20)
    await asyncio.to_thread(logs.retain, await database.read(function_ids))
    stack.callback(logs.close)
    dispatcher = ObservedDispatcher(
        tiers,
        logs,
        pool_sizes=pool_sizes or {},
        bounds=_bounds(settings),
        limit_of=lambda tenant: tenants.quotas(tenant).concurrency,
        memory_reserve_mib=settings.memory_reserve_mib,
    )
    floor = Isolation(settings.isolation_floor)
    scans = None if rules.checks is None else _open_scans(database, code, state, rules.checks, checker)
    kernels = KernelStore(state / "kernels")
    kernels.recover()
    verdict = scans.verdict if scans else trust_all
    policy = IsolationPolicy(rules, floor, frozenset(tiers), unavailable or {}, verdict, kernels)
    meter = await Meter.open(state)
    stack.push_async_callback(meter.close)
    metrics = Metrics()
    audit = await asyncio.to_thread(AuditLog, state / "audit")
    stack.callback(audit.close)
    audit.on_line = lambda line: metrics.audited(line.outcome)
    dispatcher.observers = (meter, metrics, *_tracers(stack, settings))
    dispatcher.sample = settings.otlp_sample if settings.otlp_endpoint else 0.0
    preparer = Preparer(tiers)
    stack.push_async_callback(preparer.close)
    keys = await FunctionKeys.open(database, region)
    functions = FunctionService(
        database,
        code,
        dispatcher,
        ServiceSettings(region, frozenset(tiers), policy, keys.environment),
        quotas=tenants.quotas,
        preparer=preparer,
    )
    functions.on_deleted = logs.remove
    if scans is not None:
        scans.decided = lambda package: functions.moves.reconsider(package_sha256=package)
        functions.code_changed = scans.wake
    provisioner = Provisioner(database, functions, dispatcher.admission, dispatcher.scheduler)
    concurrency = ConcurrencyService(
        database, functions, dispatcher.admission, provisioner, minimum=settings.unreserved_concurrency
    )
    events = await EventQueue.open(state / "events.db", lambda tenant: tenants.quotas(tenant).events)
    stack.push_async_callback(events.close)
    queues = await QueueService.open(state / "queues.db", region)
    stack.push_async_callback(queues.close)
    limits = Limits(settings.bucket_quota_mib << 20, settings.bucket_objects)
    buckets = await BucketService.open(state, limits, region)
    stack.push_async_callback(buckets.close)
    destinations = Destinations(functions, {"sqs": QueueSink(queues), "s3": BucketSink(buckets)})
    configs = InvokeConfigs(database, functions, destinations)
    delivery = Delivery(events, functions, dispatcher, configs=configs, destinations=destinations)
    rule = AddressRule(settings.source_networks, (settings.network_subnet,))
    parts = Parts(functions, dispatcher, events)
    mappings = MappingService(database, parts, queues, destinations, source_maker(queues, rule))
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
        gauges.queues(queues),
        gauges.mappings(mappings),
        gauges.timers(runs),
        gauges.metering(meter),
    )
    timers = TimerService(database, functions, runs, limit=lambda tenant: tenants.quotas(tenant).timers)
    urls = UrlService(database, functions)
    routes = await RouteService.open(database, functions, settings.route_domains)
    http_relations = HttpSource()
    relations = RelationService(
        database,
        functions,
        {
            cron_source.NAME: CronSource(timers),
            http_source.NAME: http_relations,
            "bos": BucketSource(buckets),
            "dueros": WebhookSource(),
            "duedge": WebhookSource(),
            "cdn": CdnSource(),
        },
    )
    layers = LayerService(database, functions)
    outbox = Outbox(buckets.database, events)
    buckets.changed = outbox.look
    hooks = HookService(buckets.database, events, functions)
    removal = TenantRemoval(
        tenants,
        (
            mappings.delete_every,
            relations.delete_every,
            timers.delete_every,
            routes.release_every,
            functions.delete_every,
            layers.delete_every,
            events.delete_every,
            queues.delete_every,
            buckets.delete_every,
        ),
    )
    return Services(
        database=database,
        tenants=tenants,
        keys=keys,
        code=code,
        logs=logs,
        dispatcher=dispatcher,
        functions=functions,
        concurrency=concurrency,
        aliases=AliasService(database, functions),
        permissions=PermissionService(database, functions),
        layers=layers,
        events=events,
        delivery=delivery,
        destinations=destinations,
        invoke_configs=configs,
        queues=queues,
        mappings=mappings,
        runs=runs,
        timers=timers,
        urls=urls,
        routes=routes,
        relations=relations,
        http_relations=http_relations,
        stream_limit=settings.stream_limit_mib << 20,
        removal=removal,
        meter=meter,
        tariff=_tariff(settings),
        metrics=metrics,
        audit=audit,
        scans=scans,
        kernels=kernels,
        buckets=buckets,
        outbox=outbox,
        hooks=hooks,
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


def _open_scans(database: Database, code: CodeStore, state: Path, checks: Checks, checker: Checker | None) -> Scans:
    return Scans(database, checker or JailedChecker(state / "checks", checks), checks, code.package_path)
