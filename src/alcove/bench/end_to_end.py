"""``alcove bench end-to-end``: how many calls a core answers, the function's own work included.

A whole server, a function URL, a handler in Python that answers at once, clients that ask again as soon as they are
answered. What counts is the processor time of the server and of all its sandboxes together: the ``process`` tier shows
what the platform's code costs, ``vm`` what a machine adds, which under software emulation is most of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from alcove.bench.gateway import deploy, serving
from alcove.bench.load import Connection, open_url, process_cpu_s, wire
from alcove.cli.client import FUNCTIONS
from alcove.errors import HostError
from alcove.host.files import instance_tag

SOURCE = "def handler(event, context):\n    return {}\n"
NAME = "bench-whole"
WARM_UP_CALLS = 100


@dataclass(slots=True)
class Whole:
    """``server_s`` and ``sandboxes_s`` of processor time, user and system."""

    tier: str
    calls: int
    server_s: float
    sandboxes_s: float

    @property
    def per_core(self) -> float:
        return self.calls / (self.server_s + self.sandboxes_s)


class _Clients:
    """Connections that ask again as soon as they are answered; ``failure`` is the first answer that is no 200."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self.calls = 0
        self.failure = b""

    async def connect(self, port: int) -> Connection:
        _, connection = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", port)
        connection.answered = self._answered
        connection.send(self._request)
        return connection

    def _answered(self, connection: Connection, status: int, body: bytes, spent_s: float) -> None:
        if status != 200:
            self.failure = self.failure or body[:200] or b"%d" % status
        self.calls += 1
        connection.send(self._request)

    async def reach(self, calls: int) -> None:
        """Wait for so many answers. Raises ``HostError`` where one is no answer of the function's."""
        while self.calls < calls:
            await asyncio.sleep(0.1)
            if self.failure:
                raise HostError(f"a call failed: {self.failure!r}")


def _server_pid(path: Path) -> int:
    """Return who listens on the socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.connect(str(path))
        return int(struct.unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0])


def _sandboxed_s(tag: str) -> float:
    """Return the processor time of the processes that the instance's control groups hold."""
    used = 0.0
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if entry.name.isdigit() and f"/alcove-{tag}/" in (entry / "cgroup").read_text():
                used += process_cpu_s(int(entry.name))
    return used


async def _run(tier: str, url: str, pid: int, tag: str, connections: int, seconds: float) -> Whole:
    place = urlsplit(url)
    assert place.port is not None
    clients = _Clients(wire("/", {"host": place.netloc}, b"{}"))
    made = [await clients.connect(place.port) for _ in range(connections)]
    # Every sandbox is started, and has run everything before.
    await clients.reach(WARM_UP_CALLS * connections)
    calls, server_s, sandboxes_s = clients.calls, process_cpu_s(pid), _sandboxed_s(tag)
    await asyncio.sleep(seconds)
    calls, server_s = clients.calls - calls, process_cpu_s(pid) - server_s
    sandboxes_s = _sandboxed_s(tag) - sandboxes_s
    await clients.reach(0)
    for connection in made:
        connection.close()
    return Whole(tier, calls, server_s, sandboxes_s)


def measure(
    state: Path, tiers: Sequence[str], *, connections: int, seconds: float, progress: Callable[[str], None]
) -> list[Whole]:
    """Run a server, and the load in each tier."""
    import uvloop

    found = []
    with serving(state, progress) as client:
        pid, tag = _server_pid(client.socket), instance_tag(state)
        for tier in tiers:
            progress(f"calls of a function in {tier}")
            deploy(client, f"{NAME}-{tier}", SOURCE, Isolation=tier, MemorySize=512)
            url = open_url(client, f"{NAME}-{tier}")
            found.append(uvloop.run(_run(tier, url, pid, tag, connections, seconds)))
            client.call("DELETE", f"{FUNCTIONS}/{NAME}-{tier}")
    return found
