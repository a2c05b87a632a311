"""``alcove port-forward``: a port of an instance as one of this host's loopback.

Each connection goes to the server over a WebSocket of its own, and from there into the instance.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from pathlib import Path

import click
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping

from alcove.cli import output, pod_client
from alcove.cli.client import Client
from alcove.cli.naming import instance_names
from alcove.cli.options import run_option
from alcove.cli.terminal import CLOSE, connect
from alcove.errors import AlcoveError, Conflict, HostError, InvalidRequest

DATA, ERROR = 0, 1
_READ = 32 << 10
_HIGHEST = 65_535


@click.command("port-forward")
@click.argument("name", shell_complete=instance_names)
@click.argument("ports", metavar="[LOCAL:]PORT...", nargs=-1, required=True)
@click.option("--address", default="127.0.0.1", show_default=True, help="Where to listen.")
@run_option
def port_forward(name: str, ports: tuple[str, ...], address: str, run: Path) -> None:
    """Hand connections to ports here on to ports of an instance, until Ctrl-C.

    What listens on the instance's own 127.0.0.1 is reached too.

    \b
    Examples:
      alcove port-forward web 8080:80
      alcove port-forward db 5432 :9187      # the latter by any free port here
    """
    pairs = [_pair(text) for text in ports]
    if Client(run).call("GET", pod_client.path(name))["status"]["phase"] != "Running":
        raise Conflict(f"{name} does not run now", hint=f"alcove inspect {name}")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(run, name, address, pairs))


def _pair(text: str) -> tuple[int, int]:
    """Return the port here, 0 for any, and the instance's."""
    local, colon, port = text.rpartition(":")
    numbers = [local or "0", port] if colon else [port, port]
    if not all(one.isascii() and one.isdecimal() and int(one) <= _HIGHEST for one in numbers) or not int(port):
        raise InvalidRequest(f"{text!r} names no ports", hint="write PORT, LOCAL:PORT or :PORT, such as 8080:80")
    return int(numbers[0]), int(port)


async def _serve(run: Path, name: str, address: str, pairs: list[tuple[int, int]]) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for local, port in pairs:
            try:
                server = await asyncio.start_server(_Forward(run, name, port).hand_on, address, local)
            except OSError as error:
                raise HostError(
                    f"cannot listen on {address}:{local}: {error.strerror}", hint="choose another port"
                ) from error
            await stack.enter_async_context(server)
            click.echo(f"{address}:{server.sockets[0].getsockname()[1]} -> {name}:{port}")
        await asyncio.Event().wait()


class _Forward:
    """One port; each connection is on its own, and what is wrong with one is said and ends that one alone."""

    def __init__(self, run: Path, name: str, port: int) -> None:
        self._run = run
        self._name = name
        self._port = port

    async def hand_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            path = pod_client.path(self._name, "portforward", ports=self._port)
            tenant = os.environ.get("ALCOVE_TENANT", "")
            there, rest = await asyncio.to_thread(connect, self._run, path, tenant)
            await _Wire(*await asyncio.open_connection(sock=there), rest).carry(reader, writer)
            writer.close()
        except (AlcoveError, OSError) as error:
            output.note(f"{self._name}:{self._port}: {error}")
            _reset(writer)


class _Wire:
    """The WebSocket of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rest: bytes) -> None:
        self._reader = reader
        self._writer = writer
        self._frames = Connection(ConnectionType.CLIENT)
        self._rest = rest
        self._partial = b""
        self._heard_ports: set[int] = set()
        self._said_all = self._heard_all = False

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry both ways to their ends. Raises ``AlcoveError`` where that cannot be, ``OSError``."""
        sending = asyncio.create_task(self._send(reader))
        try:
            await self._receive(writer)
            if not (self._heard_all and self._said_all):
                raise AlcoveError("the connection was cut off")
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            self._writer.close()

    async def _send(self, reader: asyncio.StreamReader) -> None:
        try:
            while data := await reader.read(_READ):
                await self._message(bytes((DATA,)) + data)
            self._said_all = True
            await self._message(bytes((CLOSE, DATA)))
        except OSError:
            # Whoever has dialled is gone, or the server is: either way it is over.
            self._writer.transport.abort()

    async def _message(self, data: bytes) -> None:
        self._writer.write(self._frames.send(BytesMessage(data=data)))
        await self._writer.drain()

    async def _receive(self, writer: asyncio.StreamWriter) -> None:
        data = self._rest
        while True:
            self._frames.receive_data(data) if data else None
            for event in self._frames.events():
                if isinstance(event, BytesMessage):
                    await self._take(event, writer)
                elif isinstance(event, Ping):
                    self._writer.write(self._frames.send(event.response()))
                elif isinstance(event, CloseConnection):
                    self._writer.write(self._frames.send(event.response()))
                    return
            if not (data := await self._reader.read(_READ)):
                return

    async def _take(self, event: BytesMessage, writer: asyncio.StreamWriter) -> None:
        self._partial += bytes(event.data)
        if not event.message_finished:
            return
        message, self._partial = self._partial, b""
        if message == bytes((CLOSE, DATA)):
            self._heard_all = True
            writer.write_eof()
        elif message[0] not in self._heard_ports:
            # The first on each channel is the port.
            self._heard_ports.add(message[0])
        elif message[0] == ERROR:
            raise AlcoveError(message[1:].decode(errors="replace"))
        else:
            writer.write(message[1:])
            await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection so that its other end sees that it was cut off."""
    with contextlib.suppress(OSError):
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()
