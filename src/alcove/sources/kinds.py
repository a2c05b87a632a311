"""From what a mapping says to the source that reads it. Libraries of outside sources are imported when one is used."""

from __future__ import annotations

from alcove.queues.service import QueueService
from alcove.sandbox.protocol import TenantId
from alcove.sources.mappings import MakeSource
from alcove.sources.outside import Outside
from alcove.sources.queue import QueueSource
from alcove.sources.source import EventSource
from alcove.sources.spec import SourceKind, SourceSpec


def source_maker(queues: QueueService, outside: Outside) -> MakeSource:
    def make(mapping: str, tenant: TenantId, spec: SourceSpec) -> EventSource:
        if spec.kind is SourceKind.REDIS:
            from alcove.sources.redis import RedisSource

            return RedisSource(mapping, spec, outside)
        if spec.kind is SourceKind.RABBITMQ:
            from alcove.sources.rabbitmq import RabbitSource

            return RabbitSource(mapping, spec, outside)
        return QueueSource(queues, tenant, spec.name)

    return make
