"""TLS to real servers: whom sources believe, and whom not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import aiormq
import pytest
from redis.asyncio import Redis
from tests.authority import authority
from tests.brokers import Broker

from alcove.sources.address import AddressRule
from alcove.sources.outside import Outside
from alcove.sources.rabbitmq import RabbitSource
from alcove.sources.redis import RedisSource
from alcove.sources.source import EventSource, SourceUnavailable
from alcove.sources.spec import SourceKind, SourceSpec
from alcove.sources.tls import Trust
from alcove.store.database import Database

LOOPBACK = AddressRule((ip_network("127.0.0.0/8"),))


@pytest.fixture(params=[SourceKind.REDIS, SourceKind.RABBITMQ])
def kind(request: pytest.FixtureRequest) -> SourceKind:
    return SourceKind(request.param)


@pytest.fixture
def broker(kind: SourceKind, request: pytest.FixtureRequest) -> Broker:
    found = request.getfixturevalue("redis_broker" if kind is SourceKind.REDIS else "rabbit_broker")
    assert isinstance(found, Broker)
    return found


@pytest.fixture
async def spec(kind: SourceKind, broker: Broker) -> SourceSpec:
    """A stream or queue with one message, ``hidden``."""
    name = "by-tls"
    if kind is SourceKind.REDIS:
        client = Redis(host="127.0.0.1", port=broker.port, password=broker.password)
        await client.delete(name)
        await client.xadd(name, {"text": "hidden"})
        await client.aclose()
    else:
        connection = aiormq.Connection(f"amqp://guest:guest@{broker.endpoint}/")
        await connection.connect()
        channel = await connection.channel()
        await channel.queue_delete(name)
        await channel.queue_declare(name, durable=True)
        await channel.basic_publish(b"hidden", routing_key=name)
        await connection.close()
    endpoint, user, password = broker.tls_endpoint, broker.username, broker.password
    return SourceSpec(
        kind, name, endpoint, username=user, password=password, start="TRIM_HORIZON", tls=True, ca=broker.ca
    ).check()


@asynccontextmanager
async def opened(spec: SourceSpec, folder: Path, trust: Trust | None = None) -> AsyncIterator[EventSource]:
    database = await Database.open(folder / "alcove.db")
    outside = Outside(database, LOOPBACK, trust or Trust())
    source: EventSource
    source = RedisSource("m", spec, outside) if spec.kind is SourceKind.REDIS else RabbitSource("m", spec, outside)
    try:
        async with asyncio.timeout(30):
            await source.open()
        yield source
    finally:
        await source.close()
        await database.close()


async def read(source: EventSource) -> int:
    items = await source.fetch(10, wait_s=10)
    await source.done(items)
    return len(items)


async def test_a_mapping_s_own_authority_is_believed(spec: SourceSpec, tmp_path: Path) -> None:
    async with opened(spec, tmp_path) as source:
        assert await read(source) == 1


async def test_the_operator_s_authority_is_believed(spec: SourceSpec, broker: Broker, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text(broker.ca)
    async with opened(replace(spec, ca=""), tmp_path, Trust.load(str(file))) as source:
        assert await read(source) == 1


async def test_an_authority_that_nobody_named_is_not(spec: SourceSpec, tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailable, match="certificate"):
        async with opened(replace(spec, ca=""), tmp_path):
            pass


async def test_the_mapping_s_authority_is_the_only_one(spec: SourceSpec, broker: Broker, tmp_path: Path) -> None:
    other = authority(tmp_path, "other").certificate.read_text()
    with pytest.raises(SourceUnavailable, match="certificate"):
        async with opened(replace(spec, ca=other), tmp_path, Trust(broker.ca)):
            pass


async def test_the_certificate_must_be_for_the_name(spec: SourceSpec, broker: Broker, tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailable, match="IP address mismatch"):
        async with opened(replace(spec, endpoint=f"127.0.0.1:{broker.tls_port}"), tmp_path):
            pass


async def test_a_server_without_tls_is_not_spoken_to(spec: SourceSpec, broker: Broker, tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailable):
        async with opened(replace(spec, endpoint=f"localhost:{broker.port}"), tmp_path):
            pass
