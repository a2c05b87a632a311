"""Alcove's own queues as event sources, with events as SQS's ("Using Lambda with Amazon SQS")."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from alcove.errors import RequestError
from alcove.queues.directory import Queue
from alcove.queues.message import digest_of_body
from alcove.queues.service import RECEIVE_LIMIT, QueueService, fifo_attributes, handle_of
from alcove.sandbox.protocol import TenantId
from alcove.sources.source import EVENT_BYTES, Item, SourceUnavailable
from alcove.sources.waiting import Window
from alcove.store.queues import MessageRow

# Ten messages of the largest size, escaped in JSON at their worst, go into an event together with what is there.
_ENOUGH_BYTES = EVENT_BYTES // 2


class QueueSource:
    """A failed message comes again by the queue's own rules: after its visibility time-out, until its redrive policy
    gives it up. What was not tried is given back, uncounted.
    """

    def __init__(self, queues: QueueService, tenant: TenantId, arn: str) -> None:
        self._queues = queues
        self._tenant = tenant
        self._arn = arn
        self._region = arn.split(":")[3]

    async def open(self) -> None:
        self._queue()

    async def fetch(self, limit: int, *, wait_s: float, window_s: float = 0) -> list[Item]:
        window = Window(wait_s, window_s)
        found: list[Item] = []
        while len(found) < limit and sum(item.size for item in found) < _ENOUGH_BYTES:
            more = min(RECEIVE_LIMIT, limit - len(found))
            received = await self._queues.receive(self._queue(), more, wait_s=window.left_s(found))
            found += [self._item(message) for message in received]
            if not window.left_s(found) and len(received) < more:
                break
        return found

    def event(self, items: Sequence[Item]) -> bytes:
        return json.dumps({"Records": [item.record for item in items]}).encode()

    async def done(self, items: Sequence[Item]) -> None:
        await self._queues.delete(self._queue(), [item.token for item in items])

    async def again(self, items: Sequence[Item], delay_s: float, *, counted: bool) -> None:
        if not counted:
            await self._queues.set_visibility(self._queue(), [(item.token, delay_s, False) for item in items])

    async def forget(self) -> None:
        return None

    async def close(self) -> None:
        return None

    def _queue(self) -> Queue:
        try:
            return self._queues.directory.by_arn(self._tenant, self._arn)
        except RequestError as error:
            raise SourceUnavailable(f"{self._arn}: {error}") from error

    def _item(self, message: MessageRow) -> Item:
        handle = handle_of(message)
        record = {
            "messageId": message.message_id,
            "receiptHandle": handle,
            "body": message.body,
            "attributes": {
                "ApproximateReceiveCount": str(message.received),
                "SentTimestamp": str(message.sent_ms),
                "SenderId": self._tenant,
                "ApproximateFirstReceiveTimestamp": str(message.first_ms),
                **({"DeadLetterQueueSourceArn": message.dead_letter_of} if message.dead_letter_of else {}),
                **fifo_attributes(message),
            },
            "messageAttributes": {name: _attribute(one) for name, one in json.loads(message.attributes).items()},
            "md5OfBody": digest_of_body(message.body),
            "eventSource": "aws:sqs",
            "eventSourceARN": self._arn,
            "awsRegion": self._region,
        }
        return Item(message.message_id, record, handle, attempts=message.received - 1)


def _attribute(one: dict[str, str]) -> dict[str, Any]:
    values = {name[0].lower() + name[1:]: value for name, value in one.items()}
    return {**values, "stringListValues": [], "binaryListValues": []}
