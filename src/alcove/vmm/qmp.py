"""QMP, QEMU's control protocol, by qemu.qmp; foreign exceptions stop here."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from qemu.qmp import ExecuteError, QMPClient, QMPError

from alcove.errors import SandboxGone

# qemu.qmp logs each message it moves, formatted, at levels that nobody reads here.
logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL)


Command = tuple[str, Mapping[str, Any]]


class CommandError(Exception):
    """QEMU refused a command; ``description`` is its own words."""

    def __init__(self, command: str, description: str) -> None:
        super().__init__(f"{command}: {description}")
        self.command = command
        self.description = description


@contextlib.contextmanager
def _translated(command: str) -> Iterator[None]:
    try:
        yield
    except ExecuteError as error:
        raise CommandError(command, str(error)) from error
    except (QMPError, OSError, EOFError) as error:
        raise SandboxGone(f"the machine went away during {command}") from error


class Monitor:
    """A connection to one machine's monitor."""

    def __init__(self) -> None:
        self._client = QMPClient()
        self._socket: socket.socket | None = None
        self._lock = asyncio.Lock()

    async def connect(self, path: Path, timeout_s: float = 30.0) -> None:
        """Connect and negotiate. The machine may still be starting: its socket listens already."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.setblocking(False)
        with _translated("connect"):
            try:
                await asyncio.get_running_loop().sock_connect(connection, str(path))
                self._socket = connection.dup()
                async with asyncio.timeout(timeout_s):
                    await self._client.connect(connection)
            except BaseException:
                connection.close()
                raise

    async def execute(self, command: str, arguments: Mapping[str, Any] | None = None, *, fd: int | None = None) -> Any:
        """Carry out one command; ``fd`` travels with it (getfd, add-fd)."""
        (answer,) = await self.execute_all((command, arguments or {}), fd=fd)
        return answer

    async def execute_all(self, *commands: Command, fd: int | None = None) -> list[Any]:
        """Send commands at once and carry them out in order; ``fd`` travels with the first.

        The first that fails is raised, but those behind it are carried out too.
        """
        async with self._lock:
            if fd is not None:
                if self._socket is None:
                    raise SandboxGone("the monitor is closed")
                with _translated(commands[0][0]):
                    socket.send_fds(self._socket, [b" "], [fd])
            answers = await asyncio.gather(
                *(self._client.execute(*command) for command in commands), return_exceptions=True
            )
            for (name, _), answer in zip(commands, answers, strict=True):
                if isinstance(answer, BaseException):
                    with _translated(name):
                        raise answer
            return answers

    async def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        with contextlib.suppress(QMPError, OSError, EOFError, asyncio.CancelledError):
            await self._client.disconnect()


def listen(path: Path) -> socket.socket:
    """Return a listening UNIX socket at ``path`` (mode 0600), to be handed to a machine.

    Connecting succeeds from now on, so nobody has to poll for the machine's readiness.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    listener.bind(str(path))
    os.chmod(path, 0o600)
    listener.listen(4)
    return listener
