"""RabbitMQ's queues as event sources, with events as Lambda's of Amazon MQ ("Using Lambda with Amazon MQ").

Messages are pushed by the broker, a bounded number ahead, and acknowledged one by one after their function succeeded;
what is not acknowledged the broker gives out again. One field is added to Amazon MQ's: ``itemIdentifier``, for partial
failures. The number of a message's failures is kept here, and found again by what the message is.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import secrets
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, cast
from urllib.parse import quote

import aiormq
from aiormq import spec as amqp
from aiormq.abc import DeliveredMessage

from alcove.sources.address import parse_endpoint
from alcove.sources.attempts import Attempts
from alcove.sources.outside import Outside
from alcove.sources.rabbitmq_transport import BoundedTransport, bound_content
from alcove.sources.retries import Retries
from alcove.sources.source import Item, SourceUnavailable
from alcove.sources.spec import SourceSpec
from alcove.sources.waiting import Window

TIMEOUT_S = 10.0
# Given out ahead by the broker, hence the largest batch too.
PREFETCH_LIMIT = 100
# Headers in which quorum queues count.
_COUNTED = ("x-delivery-count", "x-acquired-count")


class RabbitSource:
    def __init__(self, mapping: str, spec: SourceSpec, outside: Outside) -> None:
        self._spec = spec
        self._outside = outside
        self._attempts = Attempts(outside.database, mapping, _name)
        self._connection: aiormq.Connection | None = None
        self._channel: Any = None
        self._arrived: asyncio.Queue[Item] = asyncio.Queue()
        self._retries = Retries()
        self._life = ""

    async def open(self) -> None:
        address = await self._outside.rule.resolve(self._spec.endpoint)
        tls = await self._outside.trust.context(self._spec.ca) if self._spec.tls else None
        transport = BoundedTransport(*address, tls=tls, name=parse_endpoint(self._spec.endpoint)[0])
        user = f"{quote(self._spec.username, safe='')}:{quote(self._spec.password, safe='')}"
        url = f"amqp://{user}@{self._spec.endpoint}/{quote(self._spec.virtual_host, safe='')}?heartbeat=30"
        self._arrived, self._retries, self._life = asyncio.Queue(), Retries(), secrets.token_hex(8)
        await self._attempts.load()
        with self._translated():
            async with asyncio.timeout(TIMEOUT_S):
                self._connection = aiormq.Connection(url, transport_factory=transport)
                await self._connection.connect()
                self._channel = await self._connection.channel(publisher_confirms=False)
                bound_content(self._channel)
                await self._channel.basic_qos(prefetch_count=self._prefetch())
                await self._channel.basic_consume(self._spec.name, self._take)

    async def fetch(self, limit: int, *, wait_s: float, window_s: float = 0) -> list[Item]:
        window = Window(wait_s, window_s)
        limit = min(limit, PREFETCH_LIMIT)
        found: list[Item] = []
        while len(found) < limit:
            found += self._retries.due(limit - len(found))
            while len(found) < limit and not self._arrived.empty():
                found.append(self._arrived.get_nowait())
            left_s = window.left_s(found)
            if len(found) >= limit or not left_s:
                break
            found += await self._next(left_s)
        return found

    def event(self, items: Sequence[Item]) -> bytes:
        messages = [item.record for item in items]
        document = {
            "eventSource": "aws:rmq",
            "eventSourceArn": f"arn:alcove:rabbitmq:::{self._spec.endpoint}",
            "rmqMessagesByQueue": {f"{self._spec.name}::{self._spec.virtual_host}": messages},
        }
        return json.dumps(document).encode()

    async def done(self, items: Sequence[Item]) -> None:
        for item in items:
            with self._translated():
                self._check()
                async with asyncio.timeout(TIMEOUT_S):
                    await self._channel.basic_ack(item.token, wait=True)
        await self._attempts.forget(items)

    async def again(self, items: Sequence[Item], delay_s: float, *, counted: bool) -> None:
        if counted:
            await self._attempts.count(items)
        self._retries.put(items, delay_s)

    async def forget(self) -> None:
        return None

    async def close(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(TIMEOUT_S):
                    await connection.close()

    def _prefetch(self) -> int:
        return min(PREFETCH_LIMIT, self._spec.batch_size * self._spec.concurrency)

    async def _next(self, wait_s: float) -> list[Item]:
        """Wait for a message, something to be tried again, or the end of the connection."""
        self._check()
        self._retries.changed.clear()
        next_s = self._retries.next_s()
        waits = [asyncio.ensure_future(self._arrived.get()), asyncio.ensure_future(self._retries.changed.wait())]
        timeout = min(wait_s, 1.0) if next_s is None else min(wait_s, next_s, 1.0)
        try:
            await asyncio.wait(waits, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
        arrived = waits[0]
        if arrived.done() and not arrived.cancelled():
            item = arrived.result()
            assert isinstance(item, Item)
            return [item]
        return []

    def _check(self) -> None:
        if self._channel is None or self._channel.is_closed or self._connection is None or self._connection.is_closed:
            raise SourceUnavailable(f"RabbitMQ at {self._spec.endpoint}: the connection is closed")

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Stop what aiormq and the network raise."""
        try:
            yield
        except SourceUnavailable:
            raise
        except (aiormq.exceptions.AMQPError, OSError, TimeoutError, ValueError, RuntimeError) as error:
            text = str(error)[:200] or type(error).__name__
            raise SourceUnavailable(f"RabbitMQ at {self._spec.endpoint}: {text}") from error

    async def _take(self, message: DeliveredMessage) -> None:
        delivery = cast("amqp.Basic.Deliver", message.delivery)
        tag = delivery.delivery_tag or 0
        if getattr(message.header, "too_large", False):
            # The broker's own dead-letter exchange takes it, where there is one.
            await message.channel.basic_reject(tag, requeue=False)
            return
        # Tags begin again with each connection, so they name nothing outside of it.
        item_id = f"{self._life}-{tag}"
        item = Item(item_id, _record(message, item_id), tag)
        if item.record["redelivered"]:
            self._attempts.claim(item)
        self._arrived.put_nowait(item)


def _record(message: DeliveredMessage, item_id: str) -> dict[str, Any]:
    properties = message.header.properties
    stamp = properties.timestamp
    return {
        "basicProperties": {
            "contentType": properties.content_type,
            "contentEncoding": properties.content_encoding,
            "headers": {str(name): _header(value) for name, value in (properties.headers or {}).items()},
            "deliveryMode": properties.delivery_mode,
            "priority": properties.priority,
            "correlationId": properties.correlation_id,
            "replyTo": properties.reply_to,
            "expiration": properties.expiration,
            "messageId": properties.message_id,
            "timestamp": f"{stamp:%b %d, %Y, %I:%M:%S %p}" if isinstance(stamp, datetime) else None,
            "type": properties.message_type,
            "userId": properties.user_id,
            "appId": properties.app_id,
            "clusterId": None,
            "bodySize": len(message.body),
        },
        "redelivered": bool(cast("amqp.Basic.Deliver", message.delivery).redelivered),
        "data": base64.b64encode(message.body).decode(),
        "itemIdentifier": item_id,
    }


def _name(item: Item) -> str:
    """Return what is the same each time that the broker gives out a message: tags are not, and it counts in headers."""
    properties = item.record["basicProperties"]
    headers = {name: value for name, value in properties["headers"].items() if name not in _COUNTED}
    text = json.dumps([{**properties, "headers": headers}, item.record["data"]], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _header(value: Any) -> Any:
    """Amazon MQ's events write text and bytes as lists of bytes."""
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes | bytearray):
        return {"bytes": list(value)}
    return value if isinstance(value, bool | int | float) or value is None else str(value)
