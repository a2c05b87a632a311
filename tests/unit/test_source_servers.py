"""Servers that tenants name and that are none: their answers have no end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from ipaddress import ip_network
from pathlib import Path

import pytest
from redis.asyncio import Connection
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeout

from alcove.sources import rabbitmq as rabbitmq_module
from alcove.sources import redis_parser
from alcove.sources.address import AddressRule
from alcove.sources.outside import Outside
from alcove.sources.source import SourceUnavailable
from alcove.sources.spec import SourceKind, SourceSpec
from alcove.store.database import Database


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = await Database.open(tmp_path / "alcove.db")
    yield database
    await database.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"$999999999\r\n",
        b"*999999999\r\n" + b"$0\r\n\r\n" * 5000,
        b"*2000\r\n" + b"*2000\r\n" * 2000,
        b"$-5\r\n",
        b"x" * 100_000,
    ],
)
async def test_an_answer_without_end_ends_the_connection(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_parser, "ANSWER_BYTES", 100_000)

    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(answer)
        await ended.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    connection = Connection(
        host="127.0.0.1", port=port, parser_class=redis_parser.BoundedParser, protocol=2, socket_timeout=5
    )
    with pytest.raises((RedisError, ValueError, RecursionError)) as error:
        async with asyncio.timeout(4):
            await connection.connect()
            await connection.send_command("PING")
            await connection.read_response()
    assert not isinstance(error.value, RedisTimeout)
    ended.set()
    await connection.disconnect()
    server.close()
    await server.wait_closed()


async def test_a_frame_without_end_ends_the_connection(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rabbitmq_module, "TIMEOUT_S", 600)
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"\x01\x00\x00" + (500_000_000).to_bytes(4, "big"))
        await ended.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    endpoint = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    spec = SourceSpec(SourceKind.RABBITMQ, "q", endpoint, username="guest", password="guest")
    source = rabbitmq_module.RabbitSource("m", spec, Outside(database, AddressRule((ip_network("127.0.0.0/8"),))))
    with pytest.raises(SourceUnavailable):
        async with asyncio.timeout(5):
            await source.open()
    monkeypatch.setattr(rabbitmq_module, "TIMEOUT_S", 1)
    await source.close()
    ended.set()
    server.close()
    await server.wait_closed()
