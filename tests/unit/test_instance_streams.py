"""What comes back from the runtime, byte by byte: logs, the ends of programs, SPDY; and WebSocket from clients."""

from __future__ import annotations

import asyncio
import json
import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage

from alcove.api.websocket import MESSAGE_LIMIT, WebSocket
from alcove.cli.pod_client import Demultiplexer
from alcove.gateway.channel import Channel
from alcove.instances import pause
from alcove.instances.containerd_config import ContainerdSpec, hosts, network, render, runtime_classes
from alcove.instances.registry import registry_of
from alcove.instances.runtime import credentials, read_mirrors
from alcove.instances.session import exit_code
from alcove.instances.spdy import Streams, StreamsBroken


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ({"status": "Success"}, 0),
        ({"status": "Failure", "details": {"causes": [{"reason": "ExitCode", "message": "7"}]}}, 7),
    ],
)
def test_how_a_program_ended(status: object, code: int) -> None:
    assert exit_code(json.dumps(status).encode()) == code


_DOCUMENTS = st.recursive(st.none() | st.text(max_size=5), st.lists).map(lambda value: json.dumps(value).encode())


# Hypothesis tries what our own sources say too.
@given((st.binary(max_size=40) | _DOCUMENTS).filter(lambda status: b"Success" not in status))
def test_an_end_that_is_not_known_is_said_so(status: bytes) -> None:
    with pytest.raises(StreamsBroken):
        exit_code(status)


async def test_streams_are_opened_fed_ended_and_read() -> None:
    seen = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        frames = []
        for _ in range(3):
            first, second = struct.unpack(">II", await reader.readexactly(8))
            frames.append((first, second >> 24, await reader.readexactly(second & 0xFFFFFF)))
        seen.set_result((head, frames))
        writer.write(struct.pack(">HHI", 0x8003, 6, 4) + b"\0\0\0\2")  # a ping
        writer.write(struct.pack(">II", 1, 3) + b"out" + struct.pack(">II", 1, 1 << 24))
        assert await reader.readexactly(12) == struct.pack(">HHI", 0x8003, 6, 4) + b"\0\0\0\2"
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        streams = await Streams.connect(f"http://127.0.0.1:{port}/exec/token")
        number = await streams.open({"streamType": "stdin"})
        await streams.send(number, b"in")
        await streams.end(number)
        head, frames = await seen
        assert head.startswith(b"POST /exec/token HTTP/1.1\r\n")
        assert [frame[:2] for frame in frames] == [(0x80030001, 0), (1, 0), (1, 1)]
        assert frames[1][2] == b"in"
        assert [one async for one in streams.frames()] == [(1, b"out", False), (1, b"", True)]
        await streams.close()


async def test_a_runtime_that_refuses_streams() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        with pytest.raises(StreamsBroken, match="404"):
            await Streams.connect(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/x")


class _Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = bytearray()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += data

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


def _socket() -> tuple[WebSocket, Channel, _Wire]:
    channel, wire = Channel(), _Wire()
    channel.attach(wire, lambda: None)
    return WebSocket(channel), channel, wire


async def test_messages_come_whole_and_pings_are_answered() -> None:
    socket, channel, wire = _socket()
    client = Connection(ConnectionType.CLIENT)
    sent = client.send(BytesMessage(b"a", message_finished=False)) + client.send(Ping(b"p"))
    sent += client.send(BytesMessage(b"b")) + client.send(TextMessage("t")) + client.send(CloseConnection(1000))
    for at in range(len(sent)):
        channel.feed(sent[at : at + 1], wire)
    assert [message async for message in socket.messages()] == [b"ab", b"t"]
    client.receive_data(bytes(wire.sent))
    assert [type(event).__name__ for event in client.events()] == ["Pong", "CloseConnection"]


async def test_a_message_has_a_limit() -> None:
    socket, channel, wire = _socket()
    client = Connection(ConnectionType.CLIENT)
    for _ in range(2):
        channel.feed(client.send(BytesMessage(bytes(MESSAGE_LIMIT // 2 + 1), message_finished=False)), wire)
    channel.end()
    assert [message async for message in socket.messages()] == []
    client.receive_data(bytes(wire.sent))
    assert [event.code for event in client.events() if isinstance(event, CloseConnection)] == [1009]


@given(st.binary(max_size=100))
def test_any_bytes_end_a_web_socket_at_most(data: bytes) -> None:
    async def talk() -> None:
        socket, channel, wire = _socket()
        channel.feed(data, wire)
        channel.end()
        assert all([isinstance(message, bytes) async for message in socket.messages()])

    asyncio.run(talk())


def test_framed_logs_are_put_to_their_streams(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    take = Demultiplexer()
    data = b"".join(struct.pack(">B3xI", stream, 3) + text for stream, text in ((1, b"out"), (2, b"err")))
    for at in range(len(data)):
        take(data[at : at + 1])
    assert capfdbinary.readouterr() == (b"out", b"err")


def test_the_program_of_the_first_container_sleeps_until_it_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "pause"
    path.write_bytes(pause.program())
    path.chmod(0o755)
    child = os.posix_spawn(path, ["pause"], {})
    try:
        while "S (sleeping)" not in (status := Path(f"/proc/{child}/status").read_text()):
            assert "Z (zombie)" not in status
        # SIGCHLD is ignored: bit 16 of SigIgn.
        ignored = next(line for line in status.splitlines() if line.startswith("SigIgn"))
        assert int(ignored.split()[1], 16) >> 16 & 1
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert pause.archive() == pause.archive()


def _spec(tmp: Path) -> ContainerdSpec:
    from ipaddress import IPv4Network

    return ContainerdSpec(root=tmp / 'ro"ot', run=tmp / "run", subnet=IPv4Network("10.9.0.0/24"), bridge="alc0p")


def test_the_configuration_is_toml_whatever_the_paths(tmp_path: Path) -> None:
    import tomllib

    spec = _spec(tmp_path)
    made = tomllib.loads(render(spec))
    assert made["root"] == str(spec.root / "root")
    cri = made["plugins"]["io.containerd.grpc.v1.cri"]
    assert set(cri["containerd"]["runtimes"]) == {"alcove", "runc", "runsc"}
    assert json.loads(network(spec))["plugins"][0]["ipam"]["ranges"] == [[{"subnet": "10.9.0.0/24"}]]
    assert tomllib.loads(hosts("docker.io", ("http://a:1",)))["host"] == {
        "http://a:1": {"capabilities": ["pull", "resolve"]}
    }
    assert "handler: alcove" in runtime_classes()


def test_registries_mirrors_and_credentials() -> None:
    assert [registry_of(name) for name in ("busybox", "me/busybox", "quay.io/x", "localhost/x", "h:5/x")] == [
        *("docker.io", "docker.io", "quay.io", "localhost", "h:5")
    ]
    assert read_mirrors(("*=http://a", "q.io=https://b", "*=http://c")) == {
        "_default": ("http://a", "http://c"),
        "q.io": ("https://b",),
    }
    file = {"auths": {"q.io": {"auth": "dTpwOnc="}, "https://index.docker.io/v1/": {"identitytoken": "t"}}}
    assert credentials(file, "q.io") == {"username": "u", "password": "p:w"}
    assert credentials(file, "docker.io") == {"identity_token": "t"}
    assert credentials(file, "other.io") is None


@pytest.mark.parametrize("row", ["x", "=http://a", "../x=http://a", "..=http://a", "q.io=ftp://a"])
def test_mirrors_that_are_none(row: str) -> None:
    from alcove.errors import InvalidRequest

    with pytest.raises(InvalidRequest):
        read_mirrors((row,))


def test_a_runtime_that_is_starting_is_asked_again() -> None:
    """containerd listens before it has looked at the pods of an earlier one."""
    from grpclib.const import Status

    from alcove.instances.cri import CriError, Unavailable, _error

    assert isinstance(_error("Version", Status.UNKNOWN, "server is not initialized yet"), Unavailable)
    assert isinstance(_error("Version", Status.UNKNOWN, "something else"), CriError)
