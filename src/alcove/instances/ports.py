"""A port of an instance from outside, as ``kubectl port-forward`` has it: who dials is in the pod itself.

What listens on the pod's loopback alone is reached, and what listens at its address. The node service connects into
machines of ours; other tiers' servers are in the pod's network namespace, or (gVisor) behind its address only.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Protocol

from alcove.errors import AlcoveError
from alcove.host.netns import open_namespace, within
from alcove.host.threads import finish
from alcove.instances.cri import Cri
from alcove.pods.stream import Reader, Refused, Writer, reset

# Tells whether the sandbox is a machine of ours, once both ways have come to their ends.
Machines = Callable[[str, int, Reader, Writer], Awaitable[bool]]

DIAL_S = 10.0
_LOOPBACK = ("127.0.0.1", "::1")
_READ = 32 << 10


class PortBroken(AlcoveError):
    """Nobody listens there, or the connection was cut off."""


class Near(Reader, Writer, Protocol):
    """The end of who asked."""


async def nobodys(sandbox: str, port: int, reader: Reader, writer: Writer) -> bool:
    """Where there are no machines of ours."""
    return False


async def carry(cri: Cri, machines: Machines, sandbox: str, port: int, near: Near) -> None:
    """Connect to a port of a sandbox, and carry both ways to their ends. Raises ``PortBroken`` and other errors."""
    try:
        if not await machines(sandbox, port, near, near):
            await _carry(*await _dialled(cri, sandbox, port), near)
    except OSError as error:
        raise PortBroken(_words(error)) from error
    except Refused as error:
        raise PortBroken(str(error)) from error


async def _dialled(cri: Cri, sandbox: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    status, namespace = await cri.sandbox(sandbox)
    return await _connect(namespace, str((status["network"] or {}).get("ip", "")), port)


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, near: Near) -> None:
    ways = [asyncio.ensure_future(way) for way in (_copy(near, writer), _copy(reader, near))]
    whole = False
    try:
        await asyncio.gather(*ways)
        whole = True
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        writer.close() if whole else reset(writer)


async def _connect(namespace: str, address: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    dialling = asyncio.ensure_future(asyncio.to_thread(_dial, namespace, address, port))
    try:
        connection = await finish(dialling)
    except asyncio.CancelledError:
        if not dialling.cancelled() and dialling.exception() is None:
            dialling.result().close()
        raise
    return await asyncio.open_connection(sock=connection)


def _dial(namespace: str, address: str, port: int) -> socket.socket:
    """Blocking. Raises ``OSError``, ``AlcoveError``."""
    refused: OSError = ConnectionRefusedError("Connection refused")
    if namespace:
        fd = open_namespace(namespace)
        try:
            return within(fd, lambda: _first(_LOOPBACK, port))
        except OSError as error:
            refused = error
        finally:
            os.close(fd)
    if address:
        with suppress(OSError):
            return _first((address,), port)
    raise refused


def _first(addresses: tuple[str, ...], port: int) -> socket.socket:
    """Return a connection to the first that answers. Raises the first one's ``OSError``."""
    errors = []
    for address in addresses:
        try:
            return socket.create_connection((address, port), DIAL_S)
        except OSError as error:
            errors.append(error)
    raise errors[0]


async def _copy(reader: Reader, writer: Writer) -> None:
    while data := await reader.read(_READ):
        writer.write(data)
        await writer.drain()
    with suppress(OSError):
        # Its other end may have gone already.
        writer.write_eof()


def _words(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)
