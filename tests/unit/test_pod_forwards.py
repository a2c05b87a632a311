"""Forwarded ports of a pod: both ends of the channel, with a guest that is ours and with one that is hostile."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from alcove.guest.forwards import Forwards as GuestForwards
from alcove.guest.port import Port
from alcove.pods import forwards, loopback
from alcove.wire.frame import Decoder, Frame, Kind, encode
from alcove.wire.streams import CHUNK, MOST, WINDOW

pytestmark = pytest.mark.timeout(10)

SENT = os.urandom(1 << 20)


class Loop:
    """The agent's loop, on that of the test; what watches for a host that is away is not told of it."""

    def watch(self, fd: int, mask: int, handler: Callable[[int], None]) -> None:
        self.unwatch(fd)
        loop = asyncio.get_running_loop()
        if mask & select.EPOLLET:
            return
        if mask & select.EPOLLIN:
            loop.add_reader(fd, handler, select.EPOLLIN)
        if mask & select.EPOLLOUT:
            loop.add_writer(fd, handler, select.EPOLLOUT)

    def unwatch(self, fd: int) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(fd)
        loop.remove_writer(fd)


class Bench:
    """A pod's forwards, whose namespace is the test's: ``port`` is what every connection means."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.port = 0
        self.path = folder / "streams.sock"
        self.channels = socket.socket(socket.AF_UNIX)
        self.channels.bind(str(self.path))
        self.channels.listen()
        self.channels.setblocking(False)
        self.guest: GuestForwards | None = None
        self.listener = socket.create_server(("127.0.0.1", 0))
        monkeypatch.setattr(loopback, "listen", lambda path: self.listener)
        monkeypatch.setattr(loopback, "meant_port", lambda connection: self.port)
        self.forwards = forwards.Forwards("pod", "/run/netns/any", ("127.0.0.2/8", "fd00::1/64"), self.path)

    async def start_guest(self) -> None:
        """Be the agent of the first channel, once there is one."""
        channel = (await asyncio.get_running_loop().sock_accept(self.channels))[0]
        channel.setblocking(False)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "open", lambda *arguments: channel.detach())
            port = Port("any")
        self.guest = GuestForwards(Loop(), port)

    async def dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*self.listener.getsockname())

    async def ask(self, words: bytes) -> bytes:
        reader, writer = await self.dial()
        try:
            answer = asyncio.ensure_future(reader.read(-1))
            writer.write(words)
            writer.write_eof()
            return await answer
        finally:
            writer.close()


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path, monkeypatch)
    bench.forwards.start()
    async with asyncio.timeout(60):
        yield bench
        await bench.forwards.close()
    bench.channels.close()


@contextlib.asynccontextmanager
async def served(
    bench: Bench, answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any], address: str = "127.0.0.1"
) -> AsyncIterator[None]:
    """Have a server of the pod's at the port that is meant, and the guest's agent."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answer(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, address, 0)
    bench.port = server.sockets[0].getsockname()[1]
    agent = asyncio.create_task(bench.start_guest())
    try:
        yield
    finally:
        server.close()
        await agent


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()


async def gone(bench: Bench) -> None:
    """Wait until neither end has a connection."""
    while bench.forwards._streams or bench.guest is None or bench.guest._connections:
        await asyncio.sleep(0.01)


async def test_both_ways_to_their_ends(bench: Bench) -> None:
    async with served(bench, echo):
        assert await asyncio.gather(*(bench.ask(SENT) for _ in range(4))) == [SENT] * 4
        await gone(bench)


async def test_a_server_at_the_pods_address_alone(bench: Bench) -> None:
    async with served(bench, echo, "127.0.0.2"):
        assert await bench.ask(b"hello") == b"hello"


async def test_a_port_without_a_server_resets(bench: Bench) -> None:
    async with served(bench, echo):
        assert await bench.ask(b"hello") == b"hello"
        bench.port = 1
        with pytest.raises(ConnectionResetError):
            await bench.ask(b"hello")
        await gone(bench)


@pytest.mark.parametrize("deaf", ["server", "client"])
async def test_one_that_is_not_read_holds_up_no_other(bench: Bench, deaf: str) -> None:
    over = asyncio.Event()
    first = True

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal first
        if not first:
            await echo(reader, writer)
        elif deaf == "server":
            first = False
            await over.wait()
        else:
            first = False
            with contextlib.suppress(ConnectionError):
                while True:
                    writer.write(SENT)
                    await writer.drain()

    async with served(bench, answer):
        _, writer = await bench.dial()
        writer.transport.pause_reading() if deaf == "client" else writer.write(SENT * 16)
        while first:
            await asyncio.sleep(0.01)
        stalled = next(iter(bench.forwards._streams.values()))
        while stalled._credit if deaf == "server" else stalled._waiting < WINDOW:
            await asyncio.sleep(0.01)
        assert await bench.ask(SENT) == SENT
        over.set()
        writer.transport.abort()
        await gone(bench)


async def test_a_client_that_is_cut_off_is_cut_off_in_the_guest(bench: Bench) -> None:
    cut = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"!")
        try:
            await reader.read(-1)
        except ConnectionResetError:
            cut.set()

    async with served(bench, answer):
        reader, writer = await bench.dial()
        assert await reader.read(1) == b"!"
        await bench.forwards.close()
        await cut.wait()
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        writer.close()


# A guest that is hostile


class Hostile:
    """Whoever has broken out of its containers, at the other end of the channel."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._decoder = Decoder()
        self._channel: socket.socket | None = None

    async def accept(self) -> None:
        self._channel = (await asyncio.get_running_loop().sock_accept(self._bench.channels))[0]

    async def receive(self) -> Frame:
        assert self._channel is not None
        data = b""
        while True:
            # What is behind the first frame stays in the decoder.
            for frame in self._decoder.feed(data):
                return frame
            data = await asyncio.get_running_loop().sock_recv(self._channel, 65536)
            assert data

    async def send(self, *frames: tuple[Kind, int, bytes]) -> None:
        assert self._channel is not None
        for frame in frames:
            await asyncio.get_running_loop().sock_sendall(self._channel, encode(*frame))

    def close(self) -> None:
        assert self._channel is not None
        self._channel.close()


@pytest.mark.parametrize("what", ["too much", "after its end"])
async def test_a_guest_that_sends_more_than_it_may(bench: Bench, what: str) -> None:
    guest = Hostile(bench)
    _, writer = await bench.dial()
    writer.transport.pause_reading()
    await guest.accept()
    id = (await guest.receive()).id
    payload = bytes(CHUNK) if what == "too much" else b""
    data = (Kind.DATA, id, payload)
    await guest.send((Kind.REPLY, id, b""), *[data] * (WINDOW // CHUNK * 100 if payload else 2))
    while (frame := await guest.receive()).kind is not Kind.ERROR:
        assert frame.kind is Kind.EVENT
    assert frame.id == id
    assert not bench.forwards._streams
    guest.close()
    writer.transport.abort()


async def test_a_guest_that_does_not_answer(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwards, "DIAL_S", 0.05)
    guests = [Hostile(bench), Hostile(bench)]
    for guest in guests:
        # Each time by another channel, where nothing is half sent.
        reader, writer = await bench.dial()
        await guest.accept()
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        writer.close()
    for guest in guests:
        guest.close()


async def test_a_guest_that_sends_garbage(bench: Bench) -> None:
    guest = Hostile(bench)
    reader, writer = await bench.dial()
    await guest.accept()
    id = (await guest.receive()).id
    await guest.send((Kind.INVOKE, id, b""))
    with pytest.raises(ConnectionResetError):
        await reader.read(1)
    assert bench.forwards._channel is None
    writer.close()
    guest.close()


async def test_connections_are_counted(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    # Those that are waited for count.
    monkeypatch.setattr(forwards, "DIAL_S", 1000)
    guest = Hostile(bench)
    dialled = [await bench.dial() for _ in range(MOST)]
    await guest.accept()
    for _ in range(MOST):
        await guest.receive()
    reader, writer = await bench.dial()
    with pytest.raises(ConnectionResetError):
        await reader.read(1)
    for _, other in (*dialled, (reader, writer)):
        other.transport.abort()
    guest.close()
