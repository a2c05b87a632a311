"""Where a port of an instance is looked for: on its loopback first, from inside its network; then at its address."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from alcove.instances import ports
from alcove.instances.cri import Cri
from alcove.instances.ports import PortBroken
from alcove.pods.stream import Reader, Refused, Writer

INSIDE, OUTSIDE = "127.0.0.1", "127.0.0.2"


class FakeCri(Cri):
    def __init__(self, namespace: str) -> None:
        self.namespace = namespace

    async def sandbox(self, sandbox: str) -> tuple[dict[str, Any], str]:
        return {"network": {"ip": OUTSIDE}}, self.namespace


class Asker:
    """Says ``words`` and their end; keeps what comes."""

    def __init__(self, words: bytes = b"hello") -> None:
        self.words, self.heard, self.ended = words, b"", False

    async def read(self, n: int, /) -> bytes:
        data, self.words = self.words[:n], self.words[n:]
        return data

    def write(self, data: bytes, /) -> None:
        self.heard += data

    async def drain(self) -> None:
        pass

    def write_eof(self) -> None:
        self.ended = True


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(await reader.read(-1))
    await writer.drain()
    writer.close()


async def cut_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    writer.transport.abort()


@contextmanager
def entered(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The pod's namespace is ours; yield the paths that were opened."""
    opened: list[str] = []

    def open_namespace(path: str) -> int:
        opened.append(path)
        return socket.socket().detach()

    def within(fd: int, work: Callable[[], socket.socket]) -> socket.socket:
        return work()

    with monkeypatch.context() as patch:
        patch.setattr(ports, "open_namespace", open_namespace)
        patch.setattr(ports, "within", within)
        yield opened


@pytest.mark.parametrize("address", [INSIDE, OUTSIDE])
async def test_it_is_found_on_the_loopback_and_at_the_address(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    asker = Asker()
    async with await asyncio.start_server(echo, address, 0) as server:
        port = server.sockets[0].getsockname()[1]
        with entered(monkeypatch) as opened:
            await ports.carry(FakeCri("/run/netns/x"), ports.nobodys, "s", port, asker)
    assert (asker.heard, asker.ended, opened) == (b"hello", True, ["/run/netns/x"])


async def test_a_runtime_that_tells_no_namespace_is_asked_for_the_address_alone() -> None:
    asker = Asker()
    async with await asyncio.start_server(echo, OUTSIDE, 0) as server:
        await ports.carry(FakeCri(""), ports.nobodys, "s", server.sockets[0].getsockname()[1], asker)
    assert asker.heard == b"hello"


async def test_what_is_wrong_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with ExitStack() as stack:
        stack.enter_context(entered(monkeypatch))
        bound = stack.enter_context(socket.socket())
        bound.bind((INSIDE, 0))
        with pytest.raises(PortBroken, match=r"^Connection refused$"):
            await ports.carry(FakeCri("/run/netns/x"), ports.nobodys, "s", bound.getsockname()[1], Asker())
        async with await asyncio.start_server(cut_off, INSIDE, 0) as server:
            with pytest.raises(PortBroken, match=r"^Connection reset by peer$"):
                port = server.sockets[0].getsockname()[1]
                await ports.carry(FakeCri("/run/netns/x"), ports.nobodys, "s", port, Asker())


async def test_a_machine_of_ours_is_asked_itself() -> None:
    asked: list[tuple[str, int]] = []

    async def machines(sandbox: str, port: int, reader: Reader, writer: Writer) -> bool:
        asked.append((sandbox, port))
        if port == 81:
            raise Refused("Connection refused")
        return True

    await ports.carry(FakeCri(""), machines, "s", 80, Asker())
    with pytest.raises(PortBroken, match=r"^Connection refused$"):
        await ports.carry(FakeCri(""), machines, "s", 81, Asker())
    assert asked == [("s", 80), ("s", 81)]
