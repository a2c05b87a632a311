"""The parts behind all faces, put together: state, functions, events, triggers over the tiers that there are.

``open_services`` makes them, ``Services.start`` sets them going; between the two the daemon recovers what an earlier
one left. The daemon and the tests compose the same way.
"""

from __future__ import annotations

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
from alcove.functions.permissions import PermissionService
from alcove.functions.provisioning import Provisioner
from alcove.functions.records import Settings as ServiceSettings
from alcove.functions.scheduler import Bounds
from alcove.functions.service import FunctionService
from alcove.images.code import CodeStore
from alcove.sandbox.protocol import Isolation, Runtime, Tier
from alcove.settings import Settings
from alcove.store.database import Database
from alcove.tenants.directory import TenantDirectory
from alcove.triggers import cron_source, http_source
from alcove.triggers.cron_source import CronSource
from alcove.triggers.http_source import HttpSource
from alcove.triggers.relation import StoredSource
from alcove.triggers.relations import RelationService
from alcove.triggers.routes import RouteService
from alcove.triggers.runs import TimerRuns
from alcove.triggers.timers import TimerService
from alcove.triggers.urls import UrlService
from alcove.triggers.webhook import CdnSource, WebhookSource


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
    urls: UrlService
    routes: RouteService
    relations: RelationService
    http_relations: HttpSource
    stream_limit: int  # bytes of one streamed answer

    async def start(self, stack: AsyncExitStack) -> None:
        """Set going what works by itself; ``stack`` stops it again."""
        stack.push_async_callback(self.dispatcher.close)
        self.dispatcher.start()
        stack.push_async_callback(self.concurrency.close)
        await self.concurrency.start()
        stack.push_async_callback(self.delivery.close)
        self.delivery.start()
        stack.push_async_callback(self.runs.close)
        await self.runs.start()
        await self.relations.start()


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
    tenants = await TenantDirectory.open(database)
    code = CodeStore(state / "images" / "code")
    stack.callback(code.close)
    logs = LogStore(state / "logs")
    stack.callback(logs.close)
    dispatcher = Dispatcher(
        tiers,
        logs,
        pool_sizes=pool_sizes or {},
        bounds=_bounds(settings),
        limit_of=lambda tenant: settings.concurrency,
        memory_reserve_mib=settings.memory_reserve_mib,
    )
    functions = FunctionService(database, code, dispatcher, ServiceSettings(region, isolations=frozenset(tiers)))
    provisioner = Provisioner(database, functions, dispatcher.admission, dispatcher.scheduler)
    concurrency = ConcurrencyService(
        database, functions, dispatcher.admission, provisioner, minimum=settings.unreserved_concurrency
    )
    events = await EventQueue.open(state / "events.db")
    stack.push_async_callback(events.close)
    delivery = Delivery(events, functions, dispatcher)
    runs = TimerRuns(database, events, region=region, window_ms=int(settings.timer_window_s * 1000))
    timers = TimerService(database, functions, runs)
    urls = UrlService(database, functions)
    routes = await RouteService.open(database, functions, settings.route_domains)
    http_relations = HttpSource()
    relations = RelationService(
        database,
        functions,
        {
            cron_source.NAME: CronSource(timers),
            http_source.NAME: http_relations,
            "bos": StoredSource(),
            "dueros": WebhookSource(),
            "duedge": WebhookSource(),
            "cdn": CdnSource(),
        },
    )
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
        urls=urls,
        routes=routes,
        relations=relations,
        http_relations=http_relations,
        stream_limit=settings.stream_limit_mib << 20,
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
