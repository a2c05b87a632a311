"""Queues as destinations of events: an ``events.target.DestinationSink``."""

from __future__ import annotations

from collections.abc import Mapping

from alcove.errors import InvalidRequest
from alcove.queues.message import MESSAGE_LIMIT, Draft
from alcove.queues.service import QueueService
from alcove.sandbox.protocol import TenantId


class QueueSink:
    """Standard queues alone: "FIFO queues cannot be used" (``DestinationConfig`` of AWS::Lambda::EventInvokeConfig)."""

    def __init__(self, queues: QueueService) -> None:
        self._queues = queues

    async def check(self, tenant: TenantId, arn: str) -> None:
        queue = self._queues.directory.by_arn(tenant, arn)
        if queue.attributes.fifo:
            raise InvalidRequest("A FIFO queue cannot be a destination.", hint="name a standard queue")

    async def put(
        self, tenant: TenantId, arn: str, record: bytes, *, record_id: str, attributes: Mapping[str, str | int]
    ) -> None:
        queue = self._queues.directory.by_arn(tenant, arn)
        typed = {
            name: {"DataType": "Number" if isinstance(value, int) else "String", "StringValue": str(value)}
            for name, value in attributes.items()
            if value != ""
        }
        body = record.decode(errors="replace")
        # An event of the largest size has attributes beside it.
        draft = Draft(body, typed, message_id=record_id)
        await self._queues.send(queue, [draft], max_bytes=2 * MESSAGE_LIMIT)
