"""The control channel's host side against an agent that says what it should not."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from alcove.errors import ProtocolError, SandboxError, SandboxGone
from alcove.sandbox.agent import AgentClient
from alcove.wire.frame import HEADER, MAX_PAYLOAD, Decoder, Frame, Kind, encode

Answer = Callable[[Frame], bytes]
CHUNK = 256 * 1024


@contextlib.asynccontextmanager
async def talking(path: Path, answer: Answer) -> AsyncIterator[AgentClient]:
    """A client of an agent that answers each frame with the bytes of ``answer``; empty closes."""
    writers: list[asyncio.StreamWriter] = []

    async def agent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        decoder = Decoder()
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                for frame in decoder.feed(data):
                    said = answer(frame)
                    if not said:
                        return writer.close()
                    writer.write(said)
        return None

    server = await asyncio.start_unix_server(agent, path / "agent.sock")
    client = await AgentClient.connect(path / "agent.sock")
    try:
        yield client
    finally:
        client.close()
        server.close()
        for writer in writers:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        await server.wait_closed()


BAD: dict[str, Answer] = {
    "noise": lambda frame: b"\xff" * 64,
    "oversize": lambda frame: HEADER.pack(MAX_PAYLOAD + 1, Kind.REPLY, frame.id),
    "a kind of the other channel": lambda frame: encode(Kind.RESULT, frame.id, b"1"),
    "a request": lambda frame: encode(Kind.REQUEST, frame.id, b"{}"),
    "no JSON": lambda frame: encode(Kind.REPLY, frame.id, b"{"),
    "no UTF-8": lambda frame: encode(Kind.REPLY, frame.id, b'"\xff"'),
    "a reply that is a list": lambda frame: encode(Kind.REPLY, frame.id, b"[]"),
    "an error that is a list": lambda frame: encode(Kind.ERROR, frame.id, b"[]"),
    "an error that is a number": lambda frame: encode(Kind.ERROR, frame.id, b"1"),
    "an event that is null": lambda frame: encode(Kind.EVENT, 0, b"null"),
    "deep nesting": lambda frame: encode(Kind.REPLY, frame.id, b"[" * 1_000_000),
}


@pytest.mark.parametrize("bad", BAD)
async def test_anything_else_ends_the_channel(tmp_path: Path, bad: str) -> None:
    async with talking(tmp_path, BAD[bad]) as client:
        for _ in range(2):
            with pytest.raises(ProtocolError):
                await client.request("hello", timeout_s=5)
        with pytest.raises(ProtocolError):
            await client.send_data(1, b"x")


async def test_a_reply_to_nobody_is_dropped(tmp_path: Path) -> None:
    stray = encode(Kind.REPLY, 999, b"{}")

    def answer(frame: Frame) -> bytes:
        return stray + encode(Kind.REPLY, frame.id, b'{"n": 1}') + encode(Kind.REPLY, frame.id, b'{"n": 2}')

    async with talking(tmp_path, answer) as client:
        assert await client.request("hello", timeout_s=5) == {"n": 1}
        assert await client.request("hello", timeout_s=5) == {"n": 1}
        assert client._pending == {}


async def test_replies_find_their_requests_in_any_order(tmp_path: Path) -> None:
    held: list[Frame] = []

    def answer(frame: Frame) -> bytes:
        held.append(frame)
        if len(held) < 3:
            return encode(Kind.LOG, 1, b"\1waiting")
        replies = ((one.id, json.loads(one.payload)["op"]) for one in reversed(held))
        return b"".join(encode(Kind.REPLY, id, json.dumps({"op": op}).encode()) for id, op in replies)

    async with talking(tmp_path, answer) as client:
        found = await asyncio.gather(*(client.request(op, timeout_s=5) for op in ("a", "b", "c")))
        assert [one["op"] for one in found] == ["a", "b", "c"]


async def test_a_request_in_time_or_not_at_all(tmp_path: Path) -> None:
    async with talking(tmp_path, lambda frame: encode(Kind.LOG, 1, b"\1busy")) as client:
        with pytest.raises(TimeoutError):
            await client.request("hello", timeout_s=0.05)
        assert client._pending == {}


async def test_half_a_frame_is_held_and_no_more(tmp_path: Path) -> None:
    half = HEADER.pack(MAX_PAYLOAD, Kind.REPLY, 1) + b"x" * 1000
    async with talking(tmp_path, lambda frame: half) as client:
        with pytest.raises(TimeoutError):
            await client.request("hello", timeout_s=0.1)
        assert len(client._decoder._buffer) <= 1000


async def test_a_flood_of_logs_is_passed_on_not_kept(tmp_path: Path) -> None:
    chunk = encode(Kind.LOG, 1, b"\1" + b"x" * 65536)
    count = 0

    def take(process: int, stream: int, data: bytes) -> None:
        nonlocal count
        count += len(data)

    async with talking(tmp_path, lambda frame: chunk * 200 + encode(Kind.REPLY, frame.id, b"{}")) as client:
        client.on_log = take
        await client.request("hello", timeout_s=10)
        assert count == 200 * 65536
        assert len(client._decoder._buffer) < 1 << 20


async def test_an_agent_that_goes_away(tmp_path: Path) -> None:
    async with talking(tmp_path, lambda frame: b"") as client:
        with pytest.raises(SandboxGone):
            await client.request("hello", timeout_s=5)
        with pytest.raises(SandboxError):
            await client.request("hello", timeout_s=5)


async def test_another_protocol_is_refused(tmp_path: Path) -> None:
    async with talking(tmp_path, lambda frame: encode(Kind.REPLY, frame.id, b'{"protocol": 99}')) as client:
        with pytest.raises(ProtocolError, match="99"):
            await client.hello(5)


@contextlib.asynccontextmanager
async def silent(path: Path) -> AsyncIterator[tuple[AgentClient, socket.socket]]:
    """A client, and the other end of its channel, which reads nothing by itself."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path / "agent.sock"))
        listener.listen()
        listener.setblocking(False)
        client = await AgentClient.connect(path / "agent.sock")
        end, _ = await asyncio.get_running_loop().sock_accept(listener)
    with end:
        end.setblocking(False)
        yield client, end
        client.close()


async def test_what_is_sent_waits_for_a_guest_that_reads_slowly(tmp_path: Path) -> None:
    """However much is to be copied, little of it is held here."""
    sent = 0

    async def copy(client: AgentClient) -> None:
        nonlocal sent
        for _ in range(256):
            await client.send_data(1, bytes(CHUNK))
            sent += CHUNK

    async with silent(tmp_path) as (client, end):
        copying = asyncio.create_task(copy(client))
        await asyncio.sleep(0.1)
        assert sent <= 2 << 20
        received = 0
        while received < 64 << 20:
            received += len(await asyncio.get_running_loop().sock_recv(end, 1 << 20))
        await copying
        assert sent == 64 << 20


async def test_who_waits_to_send_is_told_that_the_guest_is_gone(tmp_path: Path) -> None:
    async with silent(tmp_path) as (client, end):
        with pytest.raises(SandboxGone):
            async with asyncio.timeout(10):
                while True:
                    asyncio.get_running_loop().call_later(0.05, end.close)
                    await client.send_data(1, bytes(CHUNK))
