"""Bodies that are never held: what a client sends waits for the handler, what it is sent waits for the client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from alcove.gateway.message import Request, Response
from alcove.gateway.streaming import HELD_BYTES, BodyBroken, StreamRequest, StreamResponse, StreamServer

Handler = Callable[[Request], Awaitable[Response]]
MIB = 1 << 20


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter, StreamServer]]:
    server = StreamServer(handler)
    port = await server.listen_tcp("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer, server
    finally:
        writer.close()
        await server.close(0.5)


async def answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return int(head[0].split()[1]), headers, body


async def count(request: Request) -> Response:
    assert isinstance(request, StreamRequest)
    size = 0
    async for piece in request.content:
        size += len(piece)
    return Response(200, {}, str(size).encode())


async def test_a_body_waits_for_its_handler() -> None:
    go, held = asyncio.Event(), []

    async def handler(request: Request) -> Response:
        assert isinstance(request, StreamRequest)
        await go.wait()
        held.append(request.content.held)
        return await count(request)

    async with serving(handler) as (reader, writer, _):
        writer.write(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (32 * MIB))
        sending = asyncio.ensure_future(_send(writer, 32 * MIB))
        await asyncio.sleep(0.3)
        assert not sending.done(), "all of it was taken in"
        go.set()
        assert (await answer(reader))[2] == str(32 * MIB).encode()
        await sending
    assert 0 < held[0] <= HELD_BYTES + (256 << 10)


async def _send(writer: asyncio.StreamWriter, size: int) -> None:
    for _ in range(size // MIB):
        writer.write(b"x" * MIB)
        await writer.drain()


async def test_an_answer_waits_for_its_client() -> None:
    made = 0
    closed = asyncio.Event()

    async def content() -> AsyncIterator[bytes]:
        nonlocal made
        for _ in range(64):
            made += 1
            yield b"y" * MIB

    async def close() -> None:
        closed.set()

    async def handler(request: Request) -> Response:
        return StreamResponse(200, {}, length=64 * MIB, content=content(), close=close)

    async with serving(handler) as (reader, writer, _):
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await asyncio.sleep(0.3)
        assert made < 32
        assert len((await answer(reader))[2]) == 64 * MIB
        await closed.wait()


async def test_what_keeps_an_answer_is_let_go_when_the_client_leaves() -> None:
    closed = asyncio.Event()

    async def content() -> AsyncIterator[bytes]:
        while True:
            yield b"y" * MIB

    async def close() -> None:
        closed.set()

    async def handler(request: Request) -> Response:
        return StreamResponse(200, {}, length=1 << 40, content=content(), close=close)

    async with serving(handler) as (_, writer, _server):
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await asyncio.sleep(0.1)
        writer.transport.abort()
        await asyncio.wait_for(closed.wait(), 10)


async def test_a_client_that_leaves_breaks_its_body() -> None:
    broken = asyncio.Event()

    async def handler(request: Request) -> Response:
        try:
            return await count(request)
        except BodyBroken:
            broken.set()
            raise

    async with serving(handler) as (_, writer, _server):
        writer.write(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
        await asyncio.sleep(0.1)
        writer.transport.abort()
        await asyncio.wait_for(broken.wait(), 10)


async def test_a_client_is_told_to_continue_when_the_body_is_wanted() -> None:
    async def refuse(request: Request) -> Response:
        return Response(403, {}, b"no")

    head = b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    async with serving(count) as (reader, writer, _):
        writer.write(head)
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"abc")
        assert (await answer(reader))[2] == b"3"
    async with serving(refuse) as (reader, writer, _):
        writer.write(head)
        status, headers, _ = await answer(reader)
        assert (status, headers["connection"]) == (403, "close")


async def test_what_a_handler_leaves_is_thrown_away_and_the_connection_goes_on() -> None:
    async def handler(request: Request) -> Response:
        return Response(404, {}, b"none") if request.path == "/none" else await count(request)

    async with serving(handler) as (reader, writer, _):
        for _ in range(2):
            writer.write(b"PUT /none HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n" + b"x" * 300_000)
            assert (await answer(reader))[0] == 404
        writer.write(b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n")
        assert (await answer(reader))[2] == b"2"


async def test_requests_in_one_piece_are_answered_in_order() -> None:
    async with serving(count) as (reader, writer, _):
        writer.write(
            b"".join(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % n + b"x" * n for n in range(9))
        )
        assert [int((await answer(reader))[2]) for _ in range(9)] == list(range(9))


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"rubbish\r\n\r\n", 400),
        (b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (6 << 30), 413),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 200_000 + b"\r\n\r\n", 431),
    ],
)
async def test_what_is_no_request_is_refused(sent: bytes, status: int) -> None:
    async with serving(count) as (reader, writer, _):
        writer.write(sent)
        assert (await answer(reader))[0] == status
        assert await reader.read() == b""
