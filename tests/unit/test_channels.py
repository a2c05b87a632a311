"""Frames and channels against a hostile peer."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alcove.errors import ProtocolError, SandboxGone
from alcove.sandbox.agent import AgentClient, AgentError
from alcove.sandbox.channel import InvocationChannel
from alcove.sandbox.protocol import Invocation
from alcove.wire.frame import HEADER, MAX_PAYLOAD, Decoder, Frame, FrameError, Kind, encode

FRAMES = st.lists(
    st.tuples(st.sampled_from(list(Kind)), st.integers(0, 2**32 - 1), st.binary(max_size=300)), max_size=8
)


@given(FRAMES, st.lists(st.integers(1, 50), min_size=1))
def test_frames_survive_any_chunking(frames: list[tuple[Kind, int, bytes]], sizes: list[int]) -> None:
    data = b"".join(encode(*frame) for frame in frames)
    decoder, found, position, turn = Decoder(), [], 0, 0
    while position < len(data):
        size = sizes[turn % len(sizes)]
        found += list(decoder.feed(data[position : position + size]))
        position, turn = position + size, turn + 1
    assert found == [Frame(*frame) for frame in frames]


@given(st.binary(max_size=4096))
def test_garbage_is_refused_or_waits_for_more(data: bytes) -> None:
    decoder = Decoder()
    try:
        for frame in decoder.feed(data):
            assert len(frame.payload) <= len(data)
    except FrameError:
        pass


def test_what_is_too_large_is_refused_before_it_is_held() -> None:
    with pytest.raises(FrameError):
        list(Decoder().feed(HEADER.pack(MAX_PAYLOAD + 1, Kind.LOG, 1)))
    with pytest.raises(FrameError):
        encode(Kind.DATA, 1, bytes(MAX_PAYLOAD + 1))


async def pair() -> tuple[InvocationChannel, socket.socket]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    return await InvocationChannel.connect(ours), theirs


def invocation() -> Invocation:
    return Invocation("r", b"{}", 0)


async def test_an_answer_is_matched_to_its_request() -> None:
    channel, peer = await pair()
    call = asyncio.ensure_future(channel.invoke(invocation()))
    loop = asyncio.get_running_loop()
    header = await loop.sock_recv(peer, HEADER.size)
    _, _, number = HEADER.unpack(header)
    await loop.sock_sendall(peer, encode(Kind.RESULT, number, b"42"))
    assert (await call).payload == b"42"
    channel.close()
    peer.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"\xff" * 64,
        encode(Kind.RESULT, 77, b"another's"),
        encode(Kind.PONG, 1, b"wrong kind"),
        encode(Kind.REPLY, 1, b"{}"),
        HEADER.pack(MAX_PAYLOAD + 1, Kind.RESULT, 1),
    ],
)
async def test_anything_else_ends_the_channel(answer: bytes) -> None:
    channel, peer = await pair()
    call = asyncio.ensure_future(channel.invoke(invocation()))
    await asyncio.sleep(0)
    await asyncio.get_running_loop().sock_sendall(peer, answer)
    with pytest.raises(ProtocolError):
        await call
    with pytest.raises(ProtocolError):
        await channel.invoke(invocation())
    peer.close()


async def test_an_answer_that_nobody_asked_for_ends_the_channel() -> None:
    channel, peer = await pair()
    await asyncio.get_running_loop().sock_sendall(peer, encode(Kind.RESULT, 1, b"1"))
    await asyncio.sleep(0.05)
    with pytest.raises(ProtocolError):
        await channel.invoke(invocation())
    peer.close()


async def test_a_closed_channel_is_gone() -> None:
    channel, peer = await pair()
    call = asyncio.ensure_future(channel.invoke(invocation()))
    await asyncio.sleep(0)
    peer.close()
    with pytest.raises(SandboxGone):
        await call


async def test_the_agent_client(tmp_path: Path) -> None:
    """Answers come by id, events and logs by callback, errors as ``AgentError``, garbage as ``ProtocolError``."""
    path = tmp_path / "agent.sock"
    writers: list[asyncio.StreamWriter] = []

    async def agent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        decoder = Decoder()
        while data := await reader.read(4096):
            for frame in decoder.feed(data):
                op = json.loads(frame.payload)["op"]
                if op == "fails":
                    writer.write(encode(Kind.ERROR, frame.id, b'{"code":"nope","message":"as asked"}'))
                elif op == "garbage":
                    writer.write(b"\xff" * 32)
                else:
                    writer.write(encode(Kind.LOG, 3, b"\x01printed"))
                    writer.write(encode(Kind.EVENT, 0, b'{"event":"exit"}'))
                    writer.write(encode(Kind.REPLY, frame.id, b'{"protocol":1}'))

    server = await asyncio.start_unix_server(agent, path)
    client = await AgentClient.connect(path)
    seen: list[object] = []
    client.on_log = lambda process, stream, data: seen.append((process, stream, data))
    client.on_event = lambda event: seen.append(event["event"])
    assert (await client.hello(5))["protocol"] == 1
    assert seen == [(3, 1, b"printed"), "exit"]
    with pytest.raises(AgentError, match="as asked"):
        await client.request("fails")
    with pytest.raises(ProtocolError):
        await client.request("garbage")
    client.close()
    for writer in writers:
        writer.close()
    server.close()
    await server.wait_closed()
