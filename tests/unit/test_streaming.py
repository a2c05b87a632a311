"""Streamed answers on the host: the channel's rules, back-pressure, limits, event streams, chunked responses."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncGenerator

import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st

from alcove.errors import ProtocolError, SandboxGone
from alcove.functions.streaming import HIGH_WATER, AnswerStream, StreamedCall
from alcove.gateway.http import Server
from alcove.gateway.message import Request, Response
from alcove.sandbox.channel import InvocationChannel
from alcove.sandbox.collector import RESULT_LIMIT
from alcove.sandbox.protocol import Invocation
from alcove.wire.eventstream import Decoder as EventDecoder
from alcove.wire.eventstream import EventStreamError, encode_event
from alcove.wire.frame import MAX_CHUNK, Kind, encode


@given(st.lists(st.tuples(st.sampled_from(["PayloadChunk", "InvokeComplete"]), st.binary(max_size=300)), max_size=5))
def test_event_streams_as_botocore_reads_them(events: list[tuple[str, bytes]]) -> None:
    buffer = EventStreamBuffer()
    buffer.add_data(b"".join(encode_event(kind, payload, "a/b") for kind, payload in events))
    found = [(message.headers[":event-type"], message.payload) for message in buffer]
    assert found == events


@given(st.lists(st.binary(max_size=100), max_size=5), st.lists(st.integers(1, 50), min_size=1), st.binary(max_size=60))
def test_event_streams_come_back(payloads: list[bytes], sizes: list[int], garbage: bytes) -> None:
    """Whole messages, whatever their cut; what is none is refused or waits for more."""
    data = b"".join(encode_event("PayloadChunk", payload, "a/b") for payload in payloads)
    decoder, found, position = EventDecoder(), [], 0
    while position < len(data):
        size = sizes[position % len(sizes)]
        found += decoder.feed(data[position : position + size])
        position += size
    assert [message.payload for message in found] == payloads
    assert all(message.headers[":event-type"] == "PayloadChunk" for message in found)
    with contextlib.suppress(EventStreamError):
        assert list(decoder.feed(garbage)) == []


def test_a_damaged_message_is_noticed() -> None:
    message = bytearray(encode_event("PayloadChunk", b"payload", "a/b"))
    message[-8] ^= 1
    with pytest.raises(EventStreamError, match="damaged"):
        list(EventDecoder().feed(bytes(message)))


async def pair() -> tuple[InvocationChannel, socket.socket]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    return await InvocationChannel.connect(ours), theirs


async def send(peer: socket.socket, *frames: tuple[Kind, bytes], number: int = 1) -> None:
    data = b"".join(encode(kind, number, payload) for kind, payload in frames)
    await asyncio.get_running_loop().sock_sendall(peer, data)


async def test_without_a_sink_the_parts_are_put_together() -> None:
    channel, peer = await pair()
    call = asyncio.ensure_future(channel.invoke(Invocation("r", b"{}", 0)))
    await asyncio.sleep(0)
    await send(
        peer, (Kind.STREAM, b"text/css"), (Kind.CHUNK, b"a"), (Kind.CHUNK, b""), (Kind.CHUNK, b"b"), (Kind.END, b"")
    )
    outcome = await call
    assert (outcome.payload, outcome.error, outcome.content_type) == (b"ab", None, "text/css")
    assert outcome.streamed_bytes == 2
    call = asyncio.ensure_future(channel.invoke(Invocation("r", b"{}", 0)))
    await asyncio.sleep(0)
    await send(peer, (Kind.RESULT, b"1"), number=2)
    assert (await call).content_type == ""
    channel.close()
    peer.close()


async def test_a_whole_answer_has_its_limit() -> None:
    channel, peer = await pair()
    call = asyncio.ensure_future(channel.invoke(Invocation("r", b"{}", 0)))
    await asyncio.sleep(0)
    await send(peer, (Kind.STREAM, b"a/b"))
    for _ in range(RESULT_LIMIT // MAX_CHUNK + 1):
        await send(peer, (Kind.CHUNK, bytes(MAX_CHUNK)))
    await send(peer, (Kind.END, b""))
    error = (await call).error
    assert error is not None
    assert json.loads(error)["errorType"] == "Function.ResponseSizeTooLarge"
    channel.close()
    peer.close()


@pytest.mark.parametrize(
    "frames",
    [
        [(Kind.CHUNK, b"a")],
        [(Kind.END, b"")],
        [(Kind.STREAM, b"a/b"), (Kind.STREAM, b"a/b")],
        [(Kind.STREAM, b"a/b"), (Kind.RESULT, b"1")],
        [(Kind.STREAM, b"a/b"), (Kind.FAILURE, b"{}")],
        [(Kind.STREAM, b"a/b"), (Kind.DONE, b"")],
        [(Kind.STREAM, b"a/b"), (Kind.CHUNK, bytes(MAX_CHUNK + 1))],
        [(Kind.STREAM, b"a/b\r\nX: y")],
        [(Kind.STREAM, b"")],
        [(Kind.STREAM, b"a" * 1000)],
    ],
)
async def test_what_does_not_belong_ends_the_channel(frames: list[tuple[Kind, bytes]]) -> None:
    channel, peer = await pair()
    call = asyncio.ensure_future(channel.invoke(Invocation("r", b"{}", 0, sink=AnswerStream(100))))
    await asyncio.sleep(0)
    await send(peer, *frames)
    with pytest.raises(ProtocolError):
        await call
    peer.close()


async def test_a_client_that_does_not_read_stops_the_channel() -> None:
    """The channel reads no more than the stream holds; when the client reads, all of it arrives."""
    channel, peer = await pair()
    stream = AnswerStream(1 << 30)
    call = asyncio.ensure_future(channel.invoke(Invocation("r", b"{}", 0, sink=stream)))
    await asyncio.sleep(0)
    total = 0

    async def produce() -> None:
        nonlocal total
        await send(peer, (Kind.STREAM, b"a/b"))
        for _ in range(200):
            await send(peer, (Kind.CHUNK, bytes(MAX_CHUNK)))
            total += MAX_CHUNK
        await send(peer, (Kind.END, b""))

    producer = asyncio.ensure_future(produce())
    before = -1
    while before != total or not total:
        before = total
        await asyncio.sleep(0.1)
    # The stream, one read of the channel's, and what two sockets hold.
    assert total < HIGH_WATER + (2 << 20)
    read = 0
    while read < 200 * MAX_CHUNK:
        read += len(await stream.read())
    await producer
    assert (await call).error is None
    assert stream.size == read
    channel.close()
    peer.close()


async def test_a_client_that_goes_away_lets_the_function_go_on() -> None:
    channel, peer = await pair()
    stream = AnswerStream(1 << 30)
    call = asyncio.ensure_future(channel.invoke(Invocation("r", b"{}", 0, sink=stream)))
    await asyncio.sleep(0)
    await send(peer, (Kind.STREAM, b"a/b"), (Kind.CHUNK, b"a"))
    assert await stream.begun()
    assert await stream.read() == b"a"
    stream.abandon()
    for _ in range(100):
        await send(peer, (Kind.CHUNK, bytes(MAX_CHUNK)))
    await send(peer, (Kind.END, b""))
    assert (await call).error is None
    channel.close()
    peer.close()


async def test_a_stream_has_its_limit() -> None:
    channel, peer = await pair()
    stream = AnswerStream(10)
    call = asyncio.ensure_future(channel.invoke(Invocation("r", b"{}", 0, sink=stream)))
    await asyncio.sleep(0)
    await send(peer, (Kind.STREAM, b"a/b"), (Kind.CHUNK, b"12345678"), (Kind.CHUNK, b"90123"), (Kind.END, b""))
    error = (await call).error
    assert error is not None
    assert b"ResponseSizeTooLarge" in error
    assert await stream.read() == b"12345678"
    channel.close()
    peer.close()


async def test_a_call_that_fails_wakes_who_waits() -> None:
    async def work() -> object:
        await asyncio.sleep(0)
        raise SandboxGone("gone")

    call = StreamedCall(AnswerStream(10), work())  # type: ignore[arg-type]
    with pytest.raises(SandboxGone):
        await call.begun()
    assert [part async for part in call.parts()] == []


# Chunked responses


class Source:
    """Parts for a response; knows how far it came and whether it was closed."""

    def __init__(self, parts: list[bytes], *, fails: bool = False, endless: bool = False) -> None:
        self.parts, self.fails, self.endless = parts, fails, endless
        self.given = 0
        self.closed = asyncio.Event()

    async def generate(self) -> AsyncGenerator[bytes, None]:
        try:
            while True:
                for part in self.parts:
                    self.given += len(part)
                    yield part
                if not self.endless:
                    break
            if self.fails:
                raise RuntimeError("in the midst")
        finally:
            self.closed.set()


async def serve(source: Source) -> tuple[Server, int]:
    async def handler(request: Request) -> Response:
        return Response(200, {"Content-Type": "a/b"}, parts=source.generate())

    server = Server(handler)
    return server, await server.listen_tcp("127.0.0.1", 0)


async def ask(port: int, request: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request.encode())
    try:
        async with asyncio.timeout(20):
            return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


GET = "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    ("request_text", "body"),
    [
        (GET, b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"),
        ("GET / HTTP/1.0\r\n\r\n", b"abcde"),
        (GET.replace("GET", "HEAD", 1), b""),
    ],
)
async def test_an_answer_in_parts(request_text: str, body: bytes) -> None:
    source = Source([b"abc", b"", b"de"])
    server, port = await serve(source)
    head, _, found = (await ask(port, request_text)).partition(b"\r\n\r\n")
    assert found == body
    assert b"Content-Length" not in head
    assert (b"Transfer-Encoding: chunked" in head) is body.endswith(b"0\r\n\r\n")
    assert source.closed.is_set()
    await server.close(1)


async def test_the_connection_goes_on_after_an_answer_in_parts() -> None:
    source = Source([b"abc"])
    server, port = await serve(source)
    twice = "GET / HTTP/1.1\r\nHost: h\r\n\r\n" + GET
    assert (await ask(port, twice)).count(b"3\r\nabc\r\n0\r\n\r\n") == 2
    await server.close(1)


async def test_an_answer_that_fails_has_no_end() -> None:
    source = Source([b"abc"], fails=True)
    server, port = await serve(source)
    assert (await ask(port, GET.replace("Connection: close\r\n", ""))).endswith(b"3\r\nabc\r\n")
    await server.close(1)


async def test_a_client_that_reads_nothing_stops_the_source_and_one_that_leaves_closes_it() -> None:
    source = Source([bytes(65536)], endless=True)
    server, port = await serve(source)
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    writer.write(GET.encode())
    before = -1
    while before != source.given or not source.given:
        before = source.given
        await asyncio.sleep(0.1)
    assert source.given < 32 << 20
    assert not source.closed.is_set()
    writer.transport.abort()
    async with asyncio.timeout(20):
        await source.closed.wait()
    assert reader is not None
    await server.close(1)
