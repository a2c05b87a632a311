"""``alcove bench registry``: what many registered functions cost the control plane and a warm call.

A server over a stand-in tier, in a process of its own; the client asks over its UNIX socket, one request after the
other. The functions are registered by CreateFunction, all with one package. Warm calls go in turn to two servers, one
with few functions and one with many, and control calls to any function of the latter.
"""

from __future__ import annotations

import base64
import json
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from alcove.bench.figures import Figures, Ratio, percentile
from alcove.bench.startup import zip_of
from alcove.cli.client import FUNCTIONS
from alcove.errors import HostError

FEW = 10
TIER = "stand-in"
CODE = base64.b64encode(zip_of({"app.py": "def handler(event, context):\n    return event\n"})).decode()
WARM_LIMIT = 1.2
CONTROL_LIMIT_MS = 20.0
MEMORY_LIMIT_MIB = 300.0
CONTROL = ("create", "get", "configuration", "list page", "update", "delete")


class Connection(HTTPConnection):
    """HTTP over a UNIX socket, kept open."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self._path))

    def ask(self, method: str, path: str, body: bytes = b"") -> tuple[float, bytes]:
        """Return the milliseconds that it took, and the answer. Raises ``HostError`` for one of 400 and above."""
        began = time.perf_counter()
        self.request(method, path, body)
        answer = self.getresponse()
        data = answer.read()
        spent = (time.perf_counter() - began) * 1000
        if answer.status >= 400:
            raise HostError(f"{method} {path}: {answer.status} {data[:200]!r}")
        return spent, data


@dataclass(slots=True)
class Found:
    figures: Figures = field(default_factory=Figures)
    rss_few_mib: float = 0.0
    rss_many_mib: float = 0.0
    start_s: float = 0.0


@contextmanager
def serving(state: Path) -> Iterator[tuple[Connection, int]]:
    """A server in a process of its own, a connection to it and its pid."""
    argv = [sys.executable, "-m", "alcove.bench.echo", str(state)]
    server = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    try:
        assert server.stdout is not None
        if not server.stdout.readline():
            raise HostError("the server did not start")
        connection = Connection(state / "run" / "api.sock")
        yield connection, server.pid
        connection.close()
    finally:
        server.terminate()
        server.wait()
        if server.stdout is not None:
            server.stdout.close()


def measure(state: Path, *, functions: int, calls: int, progress: Callable[[str], None]) -> Found:
    """Register few and many functions in two servers, and call each once; call the same few of both in turn, so that
    both see the same machine; then start the full one again.
    """
    shutil.rmtree(state, ignore_errors=True)
    found = Found()
    with serving(state / "few") as (few, few_pid), serving(state / "many") as (many, many_pid):
        register(few, range(FEW), found.figures, f"create, up to {FEW}")
        for first in range(0, functions, 500):
            progress(f"registering {first}/{functions}")
            register(many, range(first, min(first + 500, functions)), found.figures, "create")
        for number in range(functions):
            progress(f"first call {number}/{functions}")
            found.figures.add(TIER, "first call", "echo", call(many, number))
        progress("warm calls")
        # The server has closed it meanwhile, for it was idle.
        few.close()
        warm({f"warm, {FEW}": few, f"warm, {functions}": many}, found.figures, calls)
        progress("control calls")
        control(many, found.figures, functions, rounds=max(100, calls // 10))
        found.rss_few_mib, found.rss_many_mib = rss_mib(few_pid), rss_mib(many_pid)
    progress("starting again")
    began = time.perf_counter()
    with serving(state / "many") as (many, many_pid):
        found.start_s = time.perf_counter() - began
        control(many, Figures(), functions, rounds=10)
    return found


def ratios(found: Found, functions: int) -> list[Ratio]:
    def p99(mode: str) -> float:
        return percentile(found.figures.samples[TIER, mode, "echo"], 0.99)

    many, few = p99(f"warm, {functions}"), p99(f"warm, {FEW}")
    return [
        Ratio(f"warm call p99, {functions} / {FEW} functions", many / few, WARM_LIMIT),
        *(Ratio(f"{name} p99, ms", p99(name), CONTROL_LIMIT_MS) for name in CONTROL),
        Ratio(f"memory of the server with {functions} functions, MiB", found.rss_many_mib, MEMORY_LIMIT_MIB),
    ]


def register(connection: Connection, numbers: range, figures: Figures, mode: str) -> None:
    for number in numbers:
        figures.add(TIER, mode, "echo", create(connection, _name(number)))


def create(connection: Connection, name: str) -> float:
    document = {
        "FunctionName": name,
        "Runtime": "python3.11",
        "Handler": "app.handler",
        "Role": "arn:aws:iam::000000000000:role/bench",
        "Code": {"ZipFile": CODE},
        "Tags": {"kind": "bench"},
        "Environment": {"Variables": {"KIND": "bench"}},
    }
    return connection.ask("POST", FUNCTIONS, json.dumps(document).encode())[0]


def call(connection: Connection, number: int) -> float:
    return connection.ask("POST", f"{FUNCTIONS}/{_name(number)}/invocations", b'{"name":"bench"}')[0]


def warm(connections: Mapping[str, Connection], figures: Figures, calls: int) -> None:
    """Call the first few functions in turn, here and there; the first round, which starts them, does not count."""
    for number in range(FEW + calls):
        for mode, connection in connections.items():
            spent = call(connection, number % FEW)
            if number >= FEW:
                figures.add(TIER, mode, "echo", spent)


def control(connection: Connection, figures: Figures, functions: int, rounds: int) -> None:
    dice = random.Random(1)
    for number in range(rounds):
        name = _name(dice.randrange(functions))
        change = json.dumps({"MemorySize": 128 + number % 64}).encode()
        for mode, method, path, body in (
            ("get", "GET", f"{FUNCTIONS}/{name}", b""),
            ("configuration", "GET", f"{FUNCTIONS}/{name}/configuration", b""),
            ("list page", "GET", f"{FUNCTIONS}?MaxItems=50&Marker={name}", b""),
            ("update", "PUT", f"{FUNCTIONS}/{name}/configuration", change),
        ):
            figures.add(TIER, mode, "echo", connection.ask(method, path, body)[0])
        extra = f"extra-{number}"
        create(connection, extra)
        figures.add(TIER, "delete", "echo", connection.ask("DELETE", f"{FUNCTIONS}/{extra}")[0])


def rss_mib(pid: int) -> float:
    lines: dict[str, Any] = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(lines["VmRSS"].split()[0]) / 1024


def _name(number: int) -> str:
    return f"bench-{number:05d}"
