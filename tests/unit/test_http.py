"""The HTTP server over real sockets: order, limits, malformed input, shutting down."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alcove.errors import HostError
from alcove.gateway import link, reader
from alcove.gateway.http import Server
from alcove.gateway.message import Request, Response


async def echo(request: Request) -> Response:
    if request.path == "/slow":
        await asyncio.sleep(0.2)
    if request.path == "/fail":
        raise RuntimeError("secret detail")
    peer = "operator" if request.peer.is_operator else request.peer.address
    text = f"{request.method} {request.path} {request.raw_query} {len(request.body)} {peer}"
    return Response(200, {"X-Bad": "a\r\nb"}, text.encode())


OPEN: list[Client] = []


@pytest.fixture(autouse=True)
async def closed_clients() -> AsyncIterator[None]:
    yield
    for client in OPEN:
        client.writer.close()
        with contextlib.suppress(OSError):
            await client.writer.wait_closed()
    OPEN.clear()


class Client:
    """A raw connection."""

    def __init__(self, streams: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        self.reader, self.writer = streams
        OPEN.append(self)

    def send(self, data: bytes | str) -> None:
        self.writer.write(data if isinstance(data, bytes) else data.encode())

    async def response(self) -> tuple[int, dict[str, str], bytes]:
        async with asyncio.timeout(20):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
            status, *lines = head.strip().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines)
            body = await self.reader.readexactly(int(headers.get("content-length", 0)))
            return int(status.split()[1]), headers, body

    async def closed(self) -> bool:
        async with asyncio.timeout(20):
            try:
                return await self.reader.read() == b""
            except ConnectionError:
                return True


class Running:
    def __init__(self, server: Server, port: int) -> None:
        self.server, self.port = server, port

    async def connect(self) -> Client:
        return Client(await asyncio.open_connection("127.0.0.1", self.port))


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    limit = lambda head: 10_000_000 if head.raw_path == "/big" else 1000  # noqa: E731
    server = Server(echo, body_limit=limit)
    yield Running(server, await server.listen_tcp("127.0.0.1", 0))
    await server.close(grace_s=1)
    assert server.budget.held == 0


async def test_keep_alive_and_pipelining_in_order(running: Running) -> None:
    client = await running.connect()
    client.send("".join(f"GET /{'slow' if n == 0 else n} HTTP/1.1\r\nHost: h\r\n\r\n" for n in range(50)))
    for number in range(50):
        status, headers, body = await client.response()
        assert status == 200
        assert body.split()[1] == (b"/slow" if number == 0 else f"/{number}".encode())
        assert headers["x-bad"] == "a  b"
        assert "date" in headers
    client.send("POST /a%20b?x=1&y HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello")
    assert (await client.response())[2] == b"POST /a b x=1&y 5 127.0.0.1"


async def test_chunked_and_byte_by_byte(running: Running) -> None:
    client = await running.connect()
    message = "POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
    for character in message:
        client.send(character)
        await client.writer.drain()
    assert (await client.response())[2].split()[2] == b"11"


async def test_expect_continue(running: Running) -> None:
    client = await running.connect()
    client.send("PUT /e HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
    assert (await client.response())[0] == 100
    client.send("abc")
    assert (await client.response())[0] == 200
    client.send(
        "GET /slow HTTP/1.1\r\nHost: h\r\n\r\n"
        "PUT /e HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    )
    assert [(await client.response())[0] for _ in range(2)] == [200, 100]
    client.send("abc")
    assert (await client.response())[0] == 200


async def test_too_large_is_told_to_a_client_that_only_sends(running: Running) -> None:
    for head in ("Content-Length: 5000000", "Transfer-Encoding: chunked"):
        client = await running.connect()
        client.send(f"PUT /e HTTP/1.1\r\nHost: h\r\n{head}\r\n\r\n")
        if "chunked" in head:
            client.send(b"4C4B40\r\n" + bytes(5_000_000) + b"\r\n0\r\n\r\n")
        else:
            client.send(bytes(5_000_000))
        assert (await client.response())[0] == 413
        client.send("GET /next HTTP/1.1\r\nHost: h\r\n\r\n")
        assert (await client.response())[0] == 200


async def test_too_large_with_expect_is_told_before_the_body(running: Running) -> None:
    client = await running.connect()
    client.send("PUT /e HTTP/1.1\r\nHost: h\r\nContent-Length: 5000\r\nExpect: 100-continue\r\n\r\n")
    status, headers, _ = await client.response()
    assert (status, headers["connection"]) == (413, "close")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET http://other/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\nx", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\nx", 400),
        (
            (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            400,
        ),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n", 400),
        (b"GET /\xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"x" * 200_000, 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: 1\r\n" * 300 + b"\r\n", 431),
    ],
)
async def test_malformed(running: Running, data: bytes, status: int) -> None:
    client = await running.connect()
    client.send(data)
    answer = await client.response()
    assert answer[0] == status
    assert b"Traceback" not in answer[2]
    assert await client.closed()


async def test_failures_are_500_without_detail(running: Running) -> None:
    client = await running.connect()
    client.send("GET /fail HTTP/1.1\r\nHost: h\r\n\r\n")
    status, _, body = await client.response()
    assert status == 500
    assert b"secret" not in body


async def test_http_1_0_head_and_upgrade(running: Running) -> None:
    client = await running.connect()
    client.send("GET / HTTP/1.0\r\n\r\n")
    assert (await client.response())[0] == 200
    assert await client.closed()
    client = await running.connect()
    client.send("HEAD / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    assert (await client.reader.read())[-4:] == b"\r\n\r\n"
    client = await running.connect()
    client.send("GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\nPRI")
    assert (await client.response())[0] == 200


async def test_slow_and_idle_clients_are_ended(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "HEAD_TIMEOUT_S", 0.3)
    monkeypatch.setattr(reader, "BODY_TIMEOUT_S", 0.3)
    monkeypatch.setattr(link, "IDLE_TIMEOUT_S", 0.3)
    slow_head, slow_body, idle = [await running.connect() for _ in range(3)]
    slow_head.send("GET / HT")
    slow_body.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nx")
    idle.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert (await idle.response())[0] == 200
    assert (await slow_head.response())[0] == 408
    assert (await slow_body.response())[0] == 408
    assert await idle.closed()


async def test_a_client_that_reads_nothing_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "WRITE_TIMEOUT_S", 0.5)
    answered = 0

    async def large(request: Request) -> Response:
        nonlocal answered
        answered += 1
        return Response(200, {}, bytes(4_000_000))

    server = Server(large)
    port = await server.listen_tcp("127.0.0.1", 0)
    client = Client(await asyncio.open_connection("127.0.0.1", port, limit=1))
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n" * 100)
    await asyncio.sleep(2.2)
    assert answered < 10
    assert not server._connections
    client.writer.close()
    await server.close()


async def test_body_budget() -> None:
    server = Server(echo, body_limit=lambda head: 1 << 20, body_budget=1000)
    client = Running(server, await server.listen_tcp("127.0.0.1", 0))
    one = await client.connect()
    one.send(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 2000\r\n\r\n" + bytes(2000))
    assert (await one.response())[0] == 429
    one.send(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 500\r\n\r\n" + bytes(500))
    assert (await one.response())[0] == 200
    assert server.budget.held == 0
    await server.close()


async def test_draining_finishes_what_is_under_way() -> None:
    server = Server(echo)
    running = Running(server, await server.listen_tcp("127.0.0.1", 0))
    busy, idle = await running.connect(), await running.connect()
    idle.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    await idle.response()
    busy.send("GET /slow HTTP/1.1\r\nHost: h\r\n\r\n")
    await asyncio.sleep(0.05)
    await server.close(grace_s=5)
    status, headers, _ = await busy.response()
    assert (status, headers["connection"]) == (200, "close")
    assert await idle.closed()
    with pytest.raises(OSError):
        await running.connect()


async def test_unix_socket_is_the_operators(tmp_path: Path) -> None:
    path = tmp_path / "run" / "api.sock"
    server = Server(echo)
    await server.listen_unix(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    client = Client(await asyncio.open_unix_connection(str(path)))
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert (await client.response())[2].endswith(b"operator")
    with pytest.raises(HostError, match="another"):
        await Server(echo).listen_unix(path)
    await server.close()
    assert not path.exists()
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()
    again = Server(echo)
    await again.listen_unix(path)
    await again.close()


async def test_port_in_use_says_so(running: Running) -> None:
    with pytest.raises(HostError) as caught:
        await Server(echo).listen_tcp("127.0.0.1", running.port)
    assert str(running.port) in caught.value.hint


async def test_no_descriptor_is_left(running: Running) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        client = await running.connect()
        client.send("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        await client.reader.read()
        client.writer.close()
    await asyncio.sleep(0.1)
    assert len(os.listdir("/proc/self/fd")) <= before + 1


VALID = (
    b"POST /x?y=1 HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello"
    b"PUT /big HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
)


class _Sink:
    def __init__(self, budget: reader.Budget) -> None:
        self.budget = budget

    def request(self, request: Request, *, close: bool, refusal: reader.Refused | None) -> None:
        self.budget.held -= len(request.body)

    def expects_continue(self) -> None:
        pass


@settings(max_examples=500, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32), st.integers(0, 8))
def test_damaged_requests_are_refused_or_read(seed: int, changes: int) -> None:
    """Whatever comes, in whatever pieces: requests or ``Refused``, and no body is lost count of."""
    source = random.Random(seed)
    data = bytearray(VALID)
    for _ in range(changes):
        data[source.randrange(len(data))] = source.randrange(256)
    budget = reader.Budget(100)
    parsing = reader.RequestReader(_Sink(budget), budget, lambda method, path: 50)
    try:
        while data:
            size = source.randint(1, 40)
            parsing.feed(bytes(data[:size]))
            del data[:size]
    except reader.Refused:
        parsing.partial()
    parsing.drop_body()
    assert budget.held == 0
