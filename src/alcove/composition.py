"""Puts the services together, step by step; the daemon, the benchmarks and the tests compose the same way."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path

from alcove.audit.log import AuditLog
from alcove.buckets.destination import BucketSink
from alcove.buckets.expiry import UploadExpiry
from alcove.buckets.granting import grant_earlier
from alcove.buckets.hooks import HookService
from alcove.buckets.model import Limits
from alcove.buckets.outbox import Outbox
from alcove.buckets.relation import BucketSource
from alcove.buckets.service import BucketService
from alcove.events.delivery import Delivery
from alcove.events.invoke_configs import InvokeConfigs
from alcove.events.queue import EventQueue
from alcove.events.target import Destinations
from alcove.flows.service import FlowService
from alcove.functions.aliases import AliasService
from alcove.functions.concurrency import ConcurrencyService
from alcove.functions.groups import GroupService
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
from alcove.host.files import instance_tag
from alcove.images.code import CodeStore
from alcove.images.kernels import KernelStore
from alcove.instances.runtime import Runtime as ContainerRuntime
from alcove.instances.runtime import private, read_mirrors
from alcove.instances.service import InstanceService
from alcove.instances.service import Rules as InstanceRules
from alcove.instances.tier import PodTier
from alcove.metering.bill import Tariff
from alcove.metering.meter import Meter
from alcove.pods.model import Defaults as PodDefaults
from alcove.policy.rules_file import load_rules
from alcove.policy.scans import Checker, JailedChecker, Scans
from alcove.queues.destination import QueueSink
from alcove.queues.service import QueueService
from alcove.removal import TenantRemoval
from alcove.sandbox.protocol import Isolation, Runtime, Tier
from alcove.services import Services
from alcove.settings import Settings
from alcove.sources.address import AddressRule
from alcove.sources.kinds import source_maker
from alcove.sources.mappings import MappingService
from alcove.sources.outside import Outside
from alcove.sources.poller import Parts
from alcove.sources.tls import Trust
from alcove.store.database import Database
from alcove.store.functions import function_ids
from alcove.store.relations import delete_orphaned_timers
from alcove.telemetry import gauges, instance_gauges
from alcove.telemetry.metrics import Metrics, Source
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
    composition = _Composition(stack, settings, tiers, region)
    await composition.open_state()
    await composition.open_sight()
    composition.open_dispatcher(pool_sizes or {})
    await composition.open_functions(unavailable or {}, checker)
    await composition.open_queues()
    composition.open_delivery()
    await composition.open_flows()
    await composition.open_instances()
    await composition.open_triggers()
    return composition.services()


class _Composition:
    """Each step makes what the next ones need."""

    def __init__(self, stack: AsyncExitStack, settings: Settings, tiers: Mapping[Isolation, Tier], region: str) -> None:
        self.stack = stack
        self.settings = settings
        self.tiers = tiers
        self.region = region

    async def open_state(self) -> None:
        settings, state, stack = self.settings, self.settings.state, self.stack
        self.rules = load_rules(Path(settings.isolation_rules) if settings.isolation_rules else None)
        self.database = await Database.open(state / "alcove.db")
        stack.push_async_callback(self.database.close)
        self.tenants = await TenantDirectory.open(self.database, _default_quotas(settings))
        self.code = CodeStore(state / "images" / "code")
        stack.callback(self.code.close)
        self.kernels = KernelStore(state / "kernels")
        self.kernels.recover()
        self.keys = await FunctionKeys.open(self.database, self.region)

    async def open_sight(self) -> None:
        """What is written down of what happens: logs, metering, metrics, audit."""
        settings, state, stack = self.settings, self.settings.state, self.stack
        self.logs = await asyncio.to_thread(LogStore, state / "logs", settings.log_mib << 20)
        await asyncio.to_thread(self.logs.retain, await self.database.read(function_ids))
        stack.callback(self.logs.close)
        self.meter = await Meter.open(state)
        stack.push_async_callback(self.meter.close)
        self.metrics = Metrics()
        self.audit = await asyncio.to_thread(AuditLog, state / "audit")
        stack.callback(self.audit.close)
        self.audit.on_line = lambda line: self.metrics.audited(line.outcome)

    def open_dispatcher(self, pool_sizes: Mapping[tuple[Isolation, Runtime], int]) -> None:
        settings = self.settings
        self.dispatcher = ObservedDispatcher(
            self.tiers,
            self.logs,
            pool_sizes=pool_sizes,
            bounds=_bounds(settings),
            limit_of=lambda tenant: self.tenants.quotas(tenant).concurrency,
            memory_reserve_mib=settings.memory_reserve_mib,
        )
        self.dispatcher.observers = (self.meter, self.metrics, *_tracers(self.stack, settings))
        self.dispatcher.sample = settings.otlp_sample if settings.otlp_endpoint else 0.0

    async def open_functions(self, unavailable: Mapping[Isolation, str], checker: Checker | None) -> None:
        self.scans = self._open_scans(checker)
        policy = IsolationPolicy(
            self.rules,
            Isolation(self.settings.isolation_floor),
            frozenset(self.tiers),
            unavailable,
            self.scans.verdict if self.scans else trust_all,
            self.kernels,
        )
        preparer = Preparer(self.tiers)
        self.stack.push_async_callback(preparer.close)
        self.functions = FunctionService(
            self.database,
            self.code,
            self.dispatcher,
            ServiceSettings(self.region, frozenset(self.tiers), policy, self.keys.environment),
            quotas=self.tenants.quotas,
            preparer=preparer,
        )
        self.functions.on_deleted = self.logs.remove
        if self.scans is not None:
            self.scans.decided = lambda package: self.functions.moves.reconsider(package_sha256=package)
            self.functions.code_changed = self.scans.wake
        self.layers = LayerService(self.database, self.functions)
        self.aliases = AliasService(self.database, self.functions)
        self.permissions = PermissionService(self.database, self.functions)
        self.concurrency = self._concurrency()
        self.groups = GroupService(self.database)

    def _open_scans(self, checker: Checker | None) -> Scans | None:
        checks = self.rules.checks
        if checks is None:
            return None
        chosen = checker or JailedChecker(self.settings.state / "checks", checks)
        return Scans(self.database, chosen, checks, self.code.package_path)

    def _concurrency(self) -> ConcurrencyService:
        admission, scheduler = self.dispatcher.admission, self.dispatcher.scheduler
        provisioner = Provisioner(self.database, self.functions, admission, scheduler)
        minimum = self.settings.unreserved_concurrency
        return ConcurrencyService(self.database, self.functions, admission, provisioner, minimum=minimum)

    async def open_queues(self) -> None:
        """What keeps events, messages and objects."""
        settings, state, stack = self.settings, self.settings.state, self.stack
        self.events = await EventQueue.open(state / "events.db", lambda tenant: self.tenants.quotas(tenant).events)
        stack.push_async_callback(self.events.close)
        self.queues = await QueueService.open(state / "queues.db", self.region)
        stack.push_async_callback(self.queues.close)
        limits = Limits(
            settings.bucket_quota_mib << 20, settings.bucket_objects, settings.bucket_upload_hours * 3_600_000
        )
        self.buckets = await BucketService.open(state, limits, self.region)
        stack.push_async_callback(self.buckets.close)
        await grant_earlier(self.buckets.database, self.permissions)
        self.outbox = Outbox(self.buckets.database, self.events, self.permissions.may)
        self.buckets.changed = self.outbox.look
        self.hooks = HookService(self.buckets.database, self.events, self.functions)

    def open_delivery(self) -> None:
        """Who takes events and messages to functions, and outcomes on from there."""
        self.destinations = Destinations(
            self.functions, {"sqs": QueueSink(self.queues), "s3": BucketSink(self.buckets)}
        )
        self.configs = InvokeConfigs(self.database, self.functions, self.destinations)
        self.aliases.on_deleted = self.configs.forget
        self.delivery = Delivery(
            self.events, self.functions, self.dispatcher, configs=self.configs, destinations=self.destinations
        )
        rule = AddressRule(self.settings.source_networks, (self.settings.network_subnet,))
        parts = Parts(self.functions, self.dispatcher, self.events)
        maker = source_maker(self.queues, Outside(self.database, rule, Trust.load(self.settings.source_ca)))
        self.mappings = MappingService(self.database, parts, self.queues, self.destinations, maker)

    async def open_flows(self) -> None:
        retention_s = self.settings.flow_retention_days * 86_400
        path = self.settings.state / "flows.db"
        self.flows = await FlowService.open(
            path, self.functions, self.dispatcher, retention_s=retention_s, quotas=self.tenants.quotas
        )
        self.stack.push_async_callback(self.flows.close)

    async def open_instances(self) -> None:
        """Nothing is started here; containerd is when an instance is made, or one is there already."""
        settings = self.settings
        spec = private(
            settings.state,
            settings.run,
            subnet=settings.instance_subnet,
            mirrors=read_mirrors(settings.registry_mirrors),
        )
        runtime = ContainerRuntime(
            spec,
            socket=Path(settings.containerd) if settings.containerd else None,
            auth_file=Path(settings.registry_auth) if settings.registry_auth else None,
            stall_s=settings.image_stall_s,
        )
        # Where machines are offered, so are Kata's, if it is installed.
        also = ("kata",) if "vm" in settings.isolation_allowed else ()
        rules = InstanceRules(
            allowed=frozenset(map(PodTier, (*settings.isolation_allowed, *also))),
            floor=PodTier(settings.isolation_floor),
            default=PodTier(settings.instance_isolation),
        )
        self.instances = await InstanceService.open(
            settings.state,
            runtime,
            instance_tag(settings.state),
            rules,
            dns=tuple(map(str, settings.dns)),
            defaults=PodDefaults(settings.pod_cpus, settings.pod_memory_mib, settings.pod_disk_mib),
            limit=lambda tenant: self.tenants.quotas(tenant).instances,
        )
        self.stack.push_async_callback(self.instances.close)

    async def open_triggers(self) -> None:
        self.runs = TimerRuns(
            self.database,
            self.events,
            region=self.region,
            window_ms=int(self.settings.timer_window_s * 1000),
            observe=lambda timer, instant_ms: self.metrics.timer_handed_in(instant_ms),
        )
        self.timers = TimerService(
            self.database, self.functions, self.runs, limit=lambda tenant: self.tenants.quotas(tenant).timers
        )
        self.urls = UrlService(self.database, self.functions)
        self.routes = await RouteService.open(self.database, self.functions, self.settings.route_domains)
        self.http_relations = HttpSource()
        self.relations = RelationService(
            self.database,
            self.functions,
            {
                cron_source.NAME: CronSource(self.timers),
                http_source.NAME: self.http_relations,
                "bos": BucketSource(self.buckets),
                "dueros": WebhookSource(),
                "duedge": WebhookSource(),
                "cdn": CdnSource(),
            },
        )
        await self.database.write(delete_orphaned_timers)
        self.functions.on_gone = self.relations.function_gone

    def services(self) -> Services:
        self.metrics.sources = self._gauges()
        return Services(
            database=self.database,
            tenants=self.tenants,
            keys=self.keys,
            code=self.code,
            logs=self.logs,
            dispatcher=self.dispatcher,
            functions=self.functions,
            concurrency=self.concurrency,
            groups=self.groups,
            flows=self.flows,
            aliases=self.aliases,
            permissions=self.permissions,
            layers=self.layers,
            events=self.events,
            delivery=self.delivery,
            destinations=self.destinations,
            invoke_configs=self.configs,
            queues=self.queues,
            mappings=self.mappings,
            runs=self.runs,
            timers=self.timers,
            urls=self.urls,
            routes=self.routes,
            relations=self.relations,
            http_relations=self.http_relations,
            stream_limit=self.settings.stream_limit_mib << 20,
            removal=self._removal(),
            meter=self.meter,
            tariff=_tariff(self.settings),
            metrics=self.metrics,
            audit=self.audit,
            kernels=self.kernels,
            buckets=self.buckets,
            outbox=self.outbox,
            upload_expiry=UploadExpiry(self.buckets),
            hooks=self.hooks,
            instances=self.instances,
            scans=self.scans,
        )

    def _removal(self) -> TenantRemoval:
        """What calls functions goes before them, and they before what they fill."""
        return TenantRemoval(
            self.tenants,
            (
                self.mappings.delete_every,
                self.relations.delete_every,
                self.timers.delete_every,
                self.routes.release_every,
                self.flows.delete_every,
                self.instances.delete_every,
                self.functions.delete_every,
                self.layers.delete_every,
                self.groups.delete_every,
                self.events.delete_every,
                self.queues.delete_every,
                self.buckets.delete_every,
            ),
        )

    def _gauges(self) -> tuple[Source, ...]:
        return (
            gauges.pools(self.dispatcher),
            gauges.sandboxes(self.dispatcher),
            gauges.waiting(self.dispatcher),
            gauges.events(self.events),
            gauges.queues(self.queues),
            gauges.mappings(self.mappings),
            gauges.timers(self.runs),
            gauges.flows(self.flows),
            gauges.metering(self.meter),
            instance_gauges.instances(self.instances),
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
        flows=settings.tenant_flows,
        executions=settings.tenant_executions,
        instances=settings.tenant_instances,
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
    return Tariff(
        settings.free_calls,
        settings.free_gb_s,
        settings.price_of_a_million_calls,
        settings.price_of_a_gb_s,
        settings.price_of_a_vcpu_s,
        settings.price_of_an_instance_gb_s,
        settings.price_of_a_disk_gb_s,
        settings.price_of_a_traffic_gb,
    )
