"""``alcove bench overload``: ten times what there is room for, and what becomes of those who are let in.

Two runs against a server of stand-ins whose handlers take a fixed time. ``caps``: the account's concurrency is the
limit, and one of two functions has a quarter of it reserved; ``room``: the number of sandboxes is. Calls are sent at
fixed times, whatever becomes of those before, over connections that are kept.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from alcove.bench.load import Connection, StandInServer, connect, stand_in_server
from alcove.errors import HostError

FREE, RESERVED = "bench-free", "bench-reserved"
FACTOR = 10
UNLOADED_CALLS = 100


@dataclass(slots=True)
class Overload:
    """Milliseconds of calls alone, of those accepted under overload, of those refused; ``highest`` is what was inside
    the sandboxes at once, of all and of the function with a reservation; ``caps`` what may be.
    """

    kind: str
    caps: tuple[int, int]
    alone_ms: list[float] = field(default_factory=list)
    accepted_ms: list[float] = field(default_factory=list)
    refused_ms: list[float] = field(default_factory=list)
    highest: Counter[str] = field(default_factory=Counter)
    offered: int = 0
    left: int = 0

    @property
    def exceeded(self) -> bool:
        return self.highest["all"] > self.caps[0] or self.highest[RESERVED] > self.caps[1]


class _Clients:
    """As many connections as are wanted at once; each is used again when it is answered."""

    def __init__(self, server: StandInServer, found: Overload) -> None:
        self._server = server
        self._found = found
        self._free: list[Connection] = []
        self._made: list[Connection] = []
        self.pending = 0
        self._settled = asyncio.Event()

    async def send(self, name: str, request: bytes) -> None:
        if self._free:
            connection = self._free.pop()
        else:
            connection = await connect(self._server)
            self._made.append(connection)
        connection.answered = lambda one, status, body, spent_s: self._answered(one, name, status, body, spent_s)
        self.pending += 1
        connection.send(request)

    def _answered(self, connection: Connection, name: str, status: int, body: bytes, spent_s: float) -> None:
        self.pending -= 1
        self._settled.set()
        self._free.append(connection)
        found = self._found
        if status == 200:
            found.accepted_ms.append(spent_s * 1000)
            answer = json.loads(body)
            found.highest["all"] = max(found.highest["all"], answer["inside"])
            found.highest[name] = max(found.highest[name], answer["of_function"])
        elif status == 429:
            found.refused_ms.append(spent_s * 1000)
        else:
            raise HostError(f"a call was answered {status}: {body[:200]!r}")

    async def settle(self) -> None:
        while self.pending:
            self._settled.clear()
            await self._settled.wait()

    def close(self) -> None:
        for connection in self._made:
            connection.close()


async def _run(server: StandInServer, found: Overload, capacity: int, handler_ms: int, seconds: float) -> None:
    events = {name: json.dumps({"ms": handler_ms, "function": name}).encode() for name in (FREE, RESERVED)}
    requests = {name: server.request(name, event) for name, event in events.items()}
    clients = _Clients(server, found)
    # Every sandbox is started before anything is measured.
    for _ in range(3):
        for _ in range(capacity):
            await clients.send(FREE, requests[FREE])
        await clients.settle()
    found.accepted_ms.clear()
    found.refused_ms.clear()
    for _ in range(UNLOADED_CALLS):
        await clients.send(FREE, requests[FREE])
        await clients.settle()
    found.alone_ms, found.accepted_ms = found.accepted_ms, []
    await _offer(clients, found, requests, FACTOR * capacity * 1000 / handler_ms, seconds)
    await clients.settle()
    clients.close()


async def _offer(clients: _Clients, found: Overload, requests: dict[str, bytes], rate: float, seconds: float) -> None:
    """Send ``rate`` calls a second, alternately to the two functions."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while (elapsed := loop.time() - began) < seconds:
        while found.offered < elapsed * rate:
            name = (FREE, RESERVED)[found.offered % 2]
            found.offered += 1
            await clients.send(name, requests[name])
        await asyncio.sleep(0.001)


def measure(*, capacity: int, handler_ms: int, seconds: float, progress: Callable[[str], None]) -> list[Overload]:
    import uvloop

    found = []
    for kind in ("caps", "room"):
        progress(f"{kind}: starting a server")
        concurrency = capacity if kind == "caps" else capacity * FACTOR * 2
        reserved = capacity // 4 if kind == "caps" else concurrency
        settings = {"concurrency": concurrency, "max_sandboxes": capacity, "unreserved_concurrency": 0}
        with stand_in_server(**settings) as server:
            for name in (FREE, RESERVED):
                server.deploy(name)
            if kind == "caps":
                path = f"/2017-10-31/functions/{RESERVED}/concurrency"
                server.client.call("PUT", path, {"ReservedConcurrentExecutions": reserved})
            progress(f"{kind}: {FACTOR} times its capacity for {seconds:g} s")
            one = Overload(kind, (capacity, reserved))
            uvloop.run(_run(server, one, capacity, handler_ms, seconds))
            found.append(one)
            answer = server.client.call("GET", "/alcove/v1/instances")
            one.left = sum(queue["waiting"] for queue in answer["queues"])
            one.left += sum(instance["state"] == "busy" for instance in answer["instances"])
    return found
