"""``alcove bench gateway-cpu``: how many calls the server's process answers for each second of processor time.

A whole server with routing, signatures, caps and logs on; its sandboxes are stand-ins that answer at once, in another
process. Clients keep their connections and ask again as soon as they are answered.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from alcove.bench.load import Connection, StandInServer, connect, stand_in_server
from alcove.errors import HostError

NAME = "bench-cpu"
WARM_UP_S = 1.0
# The operator's socket, a function URL that is open, one that asks for a signature, and Invoke; all but the first over
# TCP.
WAYS = ("unsigned", "function URL", "signed function URL", "signed")


@dataclass(slots=True)
class CpuFigure:
    """One way to call: ``calls`` answered in ``wall_s``, for ``cpu_s`` of the server's process."""

    way: str
    calls: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0

    @property
    def per_cpu_second(self) -> float:
        return self.calls / self.cpu_s


def _request(server: StandInServer, name: str, way: str) -> bytes:
    match way:
        case "function URL":
            return server.url_request(name)
        case "signed function URL":
            return server.url_request(name, signed=True)
        case _:
            return server.request(name, b"{}", signed=way == "signed")


async def run_flat_out(server: StandInServer, name: str, way: str, connections: int, seconds: float) -> CpuFigure:
    """Call in one of ``WAYS`` over each connection, again as soon as it is answered."""
    unix = way == "unsigned"
    request = _request(server, name, way)
    made = [await connect(server, unix=unix) for _ in range(connections)]
    figure, failed = CpuFigure(way), []

    def answered(connection: Connection, status: int, body: bytes, spent_s: float) -> None:
        figure.calls += 1
        if status != 200:
            failed.append(body)
        connection.send(request)

    for connection in made:
        connection.answered = answered
        connection.send(request)
    await asyncio.sleep(WARM_UP_S)
    figure.calls = 0
    clock, cpu_s = time.perf_counter(), server.cpu_s()
    await asyncio.sleep(seconds)
    figure.cpu_s, figure.wall_s, calls = server.cpu_s() - cpu_s, time.perf_counter() - clock, figure.calls
    for connection in made:
        connection.close()
    if failed:
        raise HostError(f"{len(failed)} calls failed: {failed[0][:200]!r}")
    figure.calls = calls
    return figure


def measure(*, connections: int, seconds: float, progress: Callable[[str], None]) -> list[CpuFigure]:
    """Call in each of ``WAYS`` for ``seconds``."""
    import uvloop

    progress("starting a server")
    figures = []
    # The last calls of one way are under way when the first of the next come.
    with stand_in_server(max_sandboxes=2 * connections, starts_at_once=connections) as server:
        for number, way in enumerate(WAYS):
            progress(f"{way} calls")
            server.deploy(f"{NAME}-{number}")
            figures.append(uvloop.run(run_flat_out(server, f"{NAME}-{number}", way, connections, seconds)))
    return figures
