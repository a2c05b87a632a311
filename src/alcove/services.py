"""The parts behind all faces, and how they are set going: state, functions, events, triggers over the tiers.

``composition`` makes them; between that and ``Services.start`` the daemon recovers what an earlier one left.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from dataclasses import dataclass

from alcove.audit.log import AuditLog
from alcove.buckets.expiry import UploadExpiry
from alcove.buckets.hooks import HookService
from alcove.buckets.outbox import Outbox
from alcove.buckets.service import BucketService
from alcove.events.delivery import Delivery
from alcove.events.invoke_configs import InvokeConfigs
from alcove.events.queue import EventQueue
from alcove.events.target import Destinations
from alcove.flows.service import FlowService
from alcove.functions.aliases import AliasService
from alcove.functions.concurrency import ConcurrencyService
from alcove.functions.dispatcher import Dispatcher
from alcove.functions.groups import GroupService
from alcove.functions.keys import FunctionKeys
from alcove.functions.layers import LayerService
from alcove.functions.logs import LogStore
from alcove.functions.permissions import PermissionService
from alcove.functions.service import FunctionService
from alcove.images.code import CodeStore
from alcove.images.kernels import KernelStore
from alcove.instances.service import InstanceService
from alcove.metering.bill import Tariff
from alcove.metering.meter import Meter
from alcove.policy.scans import Scans
from alcove.queues.service import QueueService
from alcove.removal import TenantRemoval
from alcove.sources.mappings import MappingService
from alcove.store.database import Database
from alcove.telemetry.metrics import Metrics
from alcove.tenants.directory import TenantDirectory
from alcove.triggers.http_source import HttpSource
from alcove.triggers.relations import RelationService
from alcove.triggers.routes import RouteService
from alcove.triggers.runs import TimerRuns
from alcove.triggers.timers import TimerService
from alcove.triggers.urls import UrlService

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
    groups: GroupService
    flows: FlowService
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
    upload_expiry: UploadExpiry
    hooks: HookService
    instances: InstanceService
    scans: Scans | None = None

    async def start(self, stack: AsyncExitStack) -> None:
        """Set going what works by itself; ``stack`` stops it again."""
        await self.removal.resume()
        stack.push_async_callback(self.dispatcher.close)
        self.dispatcher.start()
        stack.push_async_callback(self.concurrency.close)
        await self.concurrency.start()
        await self.functions.prepare()
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
        stack.push_async_callback(self.flows.pause)
        await self.flows.start()
        stack.push_async_callback(self.runs.close)
        await self.runs.start()
        await self.relations.start()
        await self.instances.start()
        stack.push_async_callback(self.outbox.close)
        self.outbox.start()
        stack.push_async_callback(self.upload_expiry.close)
        self.upload_expiry.start()

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
