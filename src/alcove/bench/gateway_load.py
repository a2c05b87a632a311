"""``alcove bench gateway-load``: what the gateway adds to a call's latency at half of what it can do.

Against a server of stand-ins that answer at once: all of a call's time is the gateway's, the client's and the kernel's.
First clients that ask again as soon as they are answered find out the capacity; then calls are sent at half that rate,
at random instants (a Poisson process, in steps of a millisecond), whatever becomes of those before. A call that finds
no connection free waits for one, and the wait counts.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from alcove.bench.gateway_cpu import run_flat_out
from alcove.bench.load import Connection, StandInServer, connect, stand_in_server
from alcove.errors import HostError

NAME = "bench-load"
SHARE = 0.5
WARM_UP_CALLS = 200
TICK_S = 0.001


@dataclass(slots=True)
class Load:
    """``capacity`` and ``rate`` in calls a second; ``ms`` from a call's instant to its answer."""

    capacity: float
    rate: float = 0.0
    ms: list[float] = field(default_factory=list)


class _Sender:
    """Sends over the connections that are free, in the order in which the calls came."""

    def __init__(self, request: bytes, connections: list[Connection]) -> None:
        self._request = request
        self._free = connections
        self._waiting: deque[float] = deque()
        self._sent: dict[Connection, float] = {}
        self.ms: list[float] = []
        self.failure = b""
        self._under_way = 0
        self._settled = asyncio.Event()
        for one in connections:
            one.answered = self._answered

    def call(self) -> None:
        self._under_way += 1
        self._settled.clear()
        self._waiting.append(time.perf_counter())
        self._next()

    def _next(self) -> None:
        while self._waiting and self._free:
            connection = self._free.pop()
            self._sent[connection] = self._waiting.popleft()
            connection.send(self._request)

    def _answered(self, connection: Connection, status: int, body: bytes, spent_s: float) -> None:
        if status != 200:
            self.failure = self.failure or body[:200] or b"%d" % status
        self.ms.append((time.perf_counter() - self._sent.pop(connection)) * 1000)
        self._under_way -= 1
        self._free.append(connection)
        self._next()
        if not self._under_way:
            self._settled.set()

    async def settle(self) -> None:
        """Wait until all are answered. Raises ``HostError`` where one was not answered by the function."""
        await self._settled.wait()
        if self.failure:
            raise HostError(f"a call failed: {self.failure!r}")


async def _offer(server: StandInServer, load: Load, connections: int, seconds: float) -> None:
    made = [await connect(server) for _ in range(connections)]
    sender = _Sender(server.url_request(NAME), list(made))
    for _ in range(WARM_UP_CALLS):
        sender.call()
        await sender.settle()
    sender.ms.clear()
    began = due = time.perf_counter()
    while (now := time.perf_counter()) < began + seconds:
        while due <= now:
            sender.call()
            due += random.expovariate(load.rate)
        await asyncio.sleep(TICK_S)
    await sender.settle()
    load.ms = sender.ms
    for one in made:
        one.close()


def measure(*, connections: int, seconds: float, progress: Callable[[str], None]) -> Load:
    """Find the capacity in a third of ``seconds``, then load the gateway for ``seconds``, all by a function URL."""
    import uvloop

    progress("starting a server")
    with stand_in_server(max_sandboxes=2 * connections, starts_at_once=connections) as server:
        server.deploy(NAME)
        progress("finding the capacity")
        found = uvloop.run(run_flat_out(server, NAME, "function URL", connections, seconds / 3))
        load = Load(found.calls / found.wall_s)
        load.rate = load.capacity * SHARE
        progress(f"{load.rate:.0f} calls a second")
        uvloop.run(_offer(server, load, connections, seconds))
    return load
