"""``alcove port-forward``: a port of an instance as one of this host's loopback.

The pods' bridge is on this host, so bytes are only handed on from one connection to another.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import click

from alcove.cli import output, pod_client
from alcove.cli.client import Client
from alcove.cli.options import run_option
from alcove.errors import Conflict, HostError, InvalidRequest

_READ = 1 << 16


@click.command("port-forward")
@click.argument("name")
@click.argument("ports", metavar="[LOCAL:]PORT")
@click.option("--address", default="127.0.0.1", show_default=True, help="Where to listen.")
@run_option
def port_forward(name: str, ports: str, address: str, run: Path) -> None:
    """Hand connections to a port here on to a port of an instance, until Ctrl-C.

    \b
    Example:
      alcove port-forward web 8080:80
    """
    local, _, port = ports.rpartition(":")
    if not port.isdecimal() or (local and not local.isdecimal()):
        raise InvalidRequest(f"{ports!r}", hint="write PORT or LOCAL:PORT, such as 8080:80")
    target = Client(run).call("GET", pod_client.path(name))["status"].get("podIP")
    if not target:
        raise Conflict(f"{name} has no address now", hint=f"alcove inspect {name}")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(address, int(local or port), str(target), int(port)))


async def _serve(address: str, local: int, target: str, port: int) -> None:
    async def hand_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there_reader, there_writer = await asyncio.open_connection(target, port)
        except OSError as error:
            output.note(f"{target}:{port}: {error}")
            writer.close()
            return
        await asyncio.gather(_copy(reader, there_writer), _copy(there_reader, writer), return_exceptions=True)

    try:
        server = await asyncio.start_server(hand_on, address, local)
    except OSError as error:
        raise HostError(f"cannot listen on {address}:{local}: {error.strerror}", hint="choose another port") from error
    click.echo(f"{address}:{server.sockets[0].getsockname()[1]} -> {target}:{port}")
    async with server:
        await server.serve_forever()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(_READ):
            writer.write(data)
            await writer.drain()
    finally:
        with contextlib.suppress(OSError, RuntimeError):
            writer.write_eof() if writer.can_write_eof() else writer.close()
