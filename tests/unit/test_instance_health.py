"""gRPC's health protocol against grpclib's own service of it, and against servers that are none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError
from grpclib.server import Server
from h2.config import H2Configuration
from h2.connection import H2Connection

from alcove.instances import health
from alcove.instances.cri import _Tables

LIMIT = health.ANSWER_LIMIT


class Health:
    async def check(self, stream: Any) -> None:
        request = await stream.recv_message()
        if request["service"] == "unknown":
            raise GRPCError(Status.NOT_FOUND)
        await stream.send_message({"status": 1 if request["service"] in ("", "web") else 2})

    def __mapping__(self) -> dict[str, Handler]:
        tables = (health._REQUEST, health._ANSWER)
        return {health._CHECK: Handler(self.check, Cardinality.UNARY_UNARY, *tables)}


@pytest.fixture
async def port(unused_tcp_port: int) -> AsyncIterator[int]:
    server = Server([Health()], codec=_Tables())
    await server.start("127.0.0.1", unused_tcp_port)
    yield unused_tcp_port
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize(("service", "good"), [("", True), ("web", True), ("ill", False), ("unknown", False)])
async def test_a_service_says_how_it_is(port: int, service: str, good: bool) -> None:
    assert await health.serves("127.0.0.1", port, service) is good


async def asked(answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> bool:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answer(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        return await health.serves("127.0.0.1", server.sockets[0].getsockname()[1], "")
    finally:
        server.close()


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\n\r\n", b"\xff" * 100])
async def test_what_is_no_grpc_does_not_serve(said: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(said)

    assert not await asked(answer)


async def test_a_flood_is_read_to_a_limit() -> None:
    """Without one this would not end: the server never ends its answer."""
    sent = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        connection = H2Connection(H2Configuration(client_side=False))
        connection.initiate_connection()
        connection.receive_data(await reader.read(1 << 16))
        while True:
            connection.ping(b"01234567")
            data = connection.data_to_send()
            writer.write(data * 100)
            sent += len(data)
            await writer.drain()

    async with asyncio.timeout(20):
        assert not await asked(answer)
    assert sent
