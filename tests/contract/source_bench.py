"""Sources under test, with how to put something into them."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import aiormq
from redis.asyncio import Redis
from tests.brokers import Broker

from alcove.queues.message import Draft
from alcove.queues.service import QueueService
from alcove.sandbox.protocol import TenantId
from alcove.sources.address import AddressRule
from alcove.sources.outside import Outside
from alcove.sources.queue import QueueSource
from alcove.sources.rabbitmq import RabbitSource
from alcove.sources.redis import RedisSource
from alcove.sources.source import EventSource, Item
from alcove.sources.spec import SourceKind, SourceSpec
from alcove.store.database import Database

TENANT = TenantId("000000000001")
LOOPBACK = AddressRule((ip_network("127.0.0.0/8"),))
NUMBERS = itertools.count()


@dataclass
class Bench:
    """A source under test: how to put texts into it, read them from an event, make the source anew."""

    put: Callable[..., Awaitable[None]]
    make: Callable[[], EventSource]
    texts: Callable[[Any], list[str]]
    records: Callable[[Any], list[Any]]
    identifier: str
    spec: SourceSpec
    # A failed item comes again by the source's own rules, this much later.
    again_s: float = 0.0

    async def fetch(self, source: EventSource, limit: int, *, wait_s: float = 10, window_s: float = 0) -> list[Item]:
        async with asyncio.timeout(30):
            return await source.fetch(limit, wait_s=wait_s, window_s=window_s)

    async def fetch_all(self, source: EventSource, count: int) -> list[Item]:
        found: list[Item] = []
        while len(found) < count:
            found += await self.fetch(source, count - len(found))
        return found

    def read(self, source: EventSource, items: Sequence[Item]) -> list[str]:
        return self.texts(json.loads(source.event(items)))


async def queue_bench(folder: Path) -> AsyncIterator[Bench]:
    queues = await QueueService.open(folder / "queues.db", "r")
    queue = await queues.directory.create(TENANT, "q", {"VisibilityTimeout": "1"})

    async def put(*texts: str) -> None:
        await queues.send(queue, [Draft(text) for text in texts])

    yield Bench(
        put,
        lambda: QueueSource(queues, TENANT, queue.arn),
        lambda event: [record["body"] for record in event["Records"]],
        lambda event: event["Records"],
        "messageId",
        SourceSpec(SourceKind.QUEUE, queue.arn),
        again_s=1.0,
    )
    await queues.close()


async def redis_bench(broker: Broker, database: Database) -> AsyncIterator[Bench]:
    client = Redis(host="127.0.0.1", port=broker.port, password=broker.password)
    stream = f"stream-{next(NUMBERS)}"
    outside = Outside(database, LOOPBACK)
    spec = SourceSpec(
        SourceKind.REDIS, stream, broker.endpoint, password=broker.password, start="TRIM_HORIZON", batch_size=100
    )

    async def put(*texts: str) -> None:
        for text in texts:
            await client.xadd(stream, {"text": text})

    yield Bench(
        put,
        lambda: RedisSource(stream, spec, outside),
        lambda event: [record["fields"]["text"] for record in event["Records"]],
        lambda event: event["Records"],
        "id",
        spec,
    )
    await client.aclose()


async def rabbit_bench(broker: Broker, database: Database) -> AsyncIterator[Bench]:
    connection = aiormq.Connection(f"amqp://guest:guest@{broker.endpoint}/")
    await connection.connect()
    channel = await connection.channel()
    queue = f"queue-{next(NUMBERS)}"
    outside = Outside(database, LOOPBACK)
    await channel.queue_declare(queue, durable=True)
    spec = SourceSpec(SourceKind.RABBITMQ, queue, broker.endpoint, username="guest", password="guest", batch_size=100)

    async def put(*texts: str) -> None:
        for text in texts:
            await channel.basic_publish(text.encode(), routing_key=queue)

    def records(event: Any) -> list[Any]:
        return list(event["rmqMessagesByQueue"][f"{queue}::/"])

    yield Bench(
        put,
        lambda: RabbitSource(queue, spec, outside),
        lambda event: [base64.b64decode(record["data"]).decode() for record in records(event)],
        records,
        "itemIdentifier",
        spec,
    )
    await connection.close()
