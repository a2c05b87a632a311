"""Load on a server of stand-ins: its processes, and a client that costs little beside it."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast
from urllib.parse import urlsplit

from alcove.bench.bare import REGION
from alcove.bench.gateway import sign
from alcove.bench.startup import zip_of
from alcove.cli.client import FUNCTIONS, Client
from alcove.errors import HostError, NotFound

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class StandInServer:
    """A running server; ``client`` is the operator's."""

    pid: int
    port: int
    client: Client
    environment: dict[str, str]

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def cpu_s(self) -> float:
        return process_cpu_s(self.pid)

    def deploy(self, name: str) -> None:
        code = base64.b64encode(zip_of({"app.py": "def handler(event, context): pass\n"})).decode()
        document = {"FunctionName": name, "Runtime": "python3.11", "Handler": "app.handler", "Code": {"ZipFile": code}}
        self.client.call("POST", FUNCTIONS, {**document, "Role": "arn:aws:iam::000000000000:role/bench", "Timeout": 60})

    def url_request(self, name: str, *, signed: bool = False) -> bytes:
        """Return a request to the function's URL as it goes over the wire."""
        host = urlsplit(open_url(self.client, name, signed=signed)).netloc
        return wire("/", sign(self.environment, host, "/", b"{}") if signed else {"host": host}, b"{}")

    def request(self, name: str, event: bytes, *, signed: bool = True) -> bytes:
        """Return an invocation as it goes over the wire; unsigned ones are for the operator's socket."""
        path = f"{FUNCTIONS}/{name}/invocations"
        headers = {"host": self.host, "content-type": "application/json"}
        if signed:
            headers = sign(self.environment, self.host, path, event)
        return wire(path, headers, event)


def open_url(client: Client, name: str, *, signed: bool = False) -> str:
    """Return the function's URL, which is made if it has none: for all to call, or for who signs."""
    path = f"/2021-10-31/functions/{name}/url"
    try:
        return str(client.call("GET", path)["FunctionUrl"])
    except NotFound:
        url = client.call("POST", path, {"AuthType": "AWS_IAM" if signed else "NONE"})["FunctionUrl"]
        leave = {"StatementId": "bench", "Action": "lambda:InvokeFunctionUrl", "Principal": "*"}
        client.call("POST", f"{FUNCTIONS}/{name}/policy", leave | {"FunctionUrlAuthType": "NONE"})
        return str(url)


def process_cpu_s(pid: int) -> float:
    """Return the processor time that a process has used, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def wire(path: str, headers: dict[str, str], body: bytes) -> bytes:
    lines = [f"POST {path} HTTP/1.1", *(f"{key}: {value}" for key, value in headers.items())]
    return "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode() + body


@contextmanager
def _process(*argv: str) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    process = subprocess.Popen([sys.executable, "-m", *argv], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process, process.stdout
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


@contextmanager
def stand_in_server(**settings: object) -> Iterator[StandInServer]:
    """Run a server of stand-ins with these settings for the block. Raises ``HostError`` where it does not start."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="alcove-bench-")))
        socket = folder / "responder.sock"
        _, ready = stack.enter_context(_process("alcove.bench.responder", str(socket)))
        ready.readline()
        given = [f"{name}={value}" for name, value in settings.items()]
        server, said = stack.enter_context(_process("alcove.bench.stand_in", str(folder), str(socket), *given))
        line = said.readline()
        if not line:
            raise HostError("the server of stand-ins did not start", hint="what it printed says why")
        found = json.loads(line)
        keys = {"AWS_ACCESS_KEY_ID": found["access_key"], "AWS_SECRET_ACCESS_KEY": found["secret"]}
        environment = {**keys, "AWS_REGION": REGION}
        yield StandInServer(server.pid, found["port"], Client(folder / "run"), environment)


class Connection(asyncio.Protocol):
    """A kept-open connection with one request on its way at a time; ``answered`` gets status, body and seconds."""

    def __init__(self) -> None:
        self.answered: Callable[[Connection, int, bytes, float], None] = lambda *_: None
        self._buffer = b""
        self._sent = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def send(self, request: bytes) -> None:
        assert self._transport is not None
        self._sent = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, body = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return
        length = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
        if len(body) >= length:
            self._buffer = b""
            self.answered(self, int(head[9:12]), body, time.perf_counter() - self._sent)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


async def connect(server: StandInServer, *, unix: bool = False) -> Connection:
    loop = asyncio.get_running_loop()
    if unix:
        _, connection = await loop.create_unix_connection(Connection, str(server.client.socket))
    else:
        _, connection = await loop.create_connection(Connection, "127.0.0.1", server.port)
    return connection
