"""The HTTP server: all faces on one TCP port and one UNIX socket.

Written on asyncio's protocols with httptools; run it under uvloop. The UNIX socket has mode 0600
and is in root's folder: whoever connects there is the operator and signs nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import struct
import time
from email.utils import formatdate
from pathlib import Path

from alcove.errors import HostError
from alcove.gateway.connection import Connection
from alcove.gateway.link import Link
from alcove.gateway.message import BodyLimit, Handler, Peer, Refusal, plain_refusal
from alcove.gateway.reader import Budget
from alcove.gateway.shares import Shares
from alcove.host.files import private_folder

CONNECTION_LIMIT = 4096
# Of all request bodies together, received and not yet answered.
BODY_BUDGET = 1 << 30
DEFAULT_BODY_LIMIT = 1 << 20
BACKLOG = 1024


class Server:
    """``await listen_tcp()`` and ``listen_unix()``, then ``await close()``. Handler failures are
    500s. ``allowed`` is the least that ``body_limit`` says.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        body_limit: BodyLimit | None = None,
        allowed: int = 0,
        refusal: Refusal = plain_refusal,
        connection_limit: int = CONNECTION_LIMIT,
        body_budget: int = BODY_BUDGET,
        shares: Shares | None = None,
    ) -> None:
        self.handler = handler
        self.body_limit = body_limit or (lambda head: DEFAULT_BODY_LIMIT)
        self.allowed = allowed
        self.refusal = refusal
        self.budget = Budget(body_budget)
        self.draining = False
        self.date = formatdate(usegmt=True).encode()
        self._connection_limit = connection_limit
        self._shares = shares
        self._connections: set[Link] = set()
        self._listeners: list[asyncio.Server] = []
        self._unix_paths: list[Path] = []
        self._sweeper: asyncio.Task[None] | None = None
        self._empty = asyncio.Event()

    async def listen_tcp(self, host: str, port: int) -> int:
        """Listen; return the port (a free one was chosen for 0). Raises ``HostError``."""
        try:
            listener = await asyncio.get_running_loop().create_server(
                self.connect, host, port, backlog=BACKLOG, reuse_address=True
            )
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise HostError(
                    f"port {port} of {host} is in use",
                    hint=f"stop what uses it (ss -ltnp 'sport = :{port}') or choose another port",
                ) from error
            raise HostError(
                f"cannot listen on {host}:{port}: {error.strerror or error}",
                hint="choose another address with --listen",
            ) from error
        self._started(listener)
        return int(listener.sockets[0].getsockname()[1])

    async def listen_on(self, listening: socket.socket) -> None:
        """Listen on a socket that is bound already, wherever that was; it is closed with the server."""
        self._started(await asyncio.get_running_loop().create_server(self.connect, sock=listening, backlog=BACKLOG))

    async def listen_unix(self, path: Path) -> None:
        """Listen on a socket of mode 0600. One that a dead server left is replaced; a live one's is
        not.
        """
        private_folder(path.parent)
        if _answers(path):
            raise HostError(f"another alcove serves on {path}", hint="stop it, or choose another --run folder")
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            _remove(path)
            listening.bind(str(path))
            # Nobody can connect before listen(), so the mode is right from the first connection on.
            os.chmod(path, 0o600)
            listener = await asyncio.get_running_loop().create_unix_server(
                self.connect, sock=listening, backlog=BACKLOG
            )
        except OSError as error:
            listening.close()
            raise HostError(
                f"cannot listen on {path}: {error.strerror or error}",
                hint="run as root, or choose another folder with --run",
            ) from error
        self._unix_paths.append(path)
        self._started(listener)

    async def close(self, grace_s: float = 10.0) -> None:
        """Accept no more, let what is under way finish for at most ``grace_s``, end the rest."""
        self.draining = True
        for listener in self._listeners:
            listener.close()
        for path in self._unix_paths:
            _remove(path)
        for connection in list(self._connections):
            connection.drain()
        for step in (grace_s, 1.0):
            self._empty.clear()
            if self._connections:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._empty.wait(), step)
            for connection in list(self._connections):
                connection.abort()
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)

    # Connections

    def connect(self) -> Link:
        """Make the protocol of one more connection."""
        return Connection(self)

    def admit(self, connection: Link) -> bool:
        if self.draining or len(self._connections) >= self._connection_limit:
            return False
        if self._shares is not None and not self._shares.take(connection, connection.peer.address):
            return False
        self._connections.add(connection)
        return True

    def forget(self, connection: Link) -> None:
        self._connections.discard(connection)
        if self._shares is not None:
            self._shares.give(connection)
        if not self._connections:
            self._empty.set()

    def peer_of(self, transport: asyncio.Transport) -> Peer:
        opened: socket.socket | None = transport.get_extra_info("socket")
        if opened is not None and opened.family == socket.AF_UNIX:
            credentials = opened.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            pid, uid, _ = struct.unpack("3i", credentials)
            return Peer(uid=uid, pid=pid)
        name = transport.get_extra_info("peername")
        return Peer(address=str(name[0]) if name else "")

    def _started(self, listener: asyncio.Server) -> None:
        self._listeners.append(listener)
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().create_task(self._sweep())

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(1)
            self.date = formatdate(usegmt=True).encode()
            now_s = time.monotonic()
            for connection in list(self._connections):
                connection.expire(now_s)


def _answers(path: Path) -> bool:
    """Tell whether a live server listens there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except TimeoutError:
            return True
        except OSError:
            return False
        return True


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
