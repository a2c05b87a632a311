"""A server whose sandboxes are stand-ins: all of Alcove above the tiers, and the invocation channel to ``responder``.

What is measured against it is the server's own cost: routing, signatures, caps, queueing, logs, the channel; not a
machine's. ``python -m alcove.bench.stand_in STATE RESPONDER_SOCKET [SETTING=VALUE ...]`` prints its address and keys as
one line of JSON and serves until it is terminated.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from alcove.api.app import App
from alcove.composition import open_services
from alcove.sandbox.channel import InvocationChannel
from alcove.sandbox.protocol import (
    Adopts,
    Delivery,
    ExitSink,
    Invocation,
    Isolation,
    LogSink,
    Outcome,
    Runtime,
    Sandbox,
    SandboxId,
    Start,
    Workload,
    adopt_none,
)
from alcove.settings import load_settings

REGION = "us-east-1"
_numbers = itertools.count(1)


class StandIn:
    """A sandbox that is a connection to the responder."""

    isolation = Isolation.VM
    start = Start.RESTORED

    def __init__(self, runtime: Runtime, channel: InvocationChannel) -> None:
        self.id = SandboxId(f"s-{next(_numbers)}")
        self.runtime = runtime
        self.phases_ms: dict[str, float] = {}
        self._channel = channel
        self._log: LogSink = lambda stream, data: None

    def listen(self, *, log: LogSink, exit: ExitSink) -> None:
        self._log = log

    async def rehearse(self) -> None:
        return None

    async def load(self, workload: Workload, delivery: Delivery = Delivery.MOUNTED) -> None:
        self.phases_ms["init"] = await self._channel.load(workload)

    async def invoke(self, invocation: Invocation) -> Outcome:
        outcome = await self._channel.invoke(invocation)
        # What a runtime writes to stderr after each answer.
        self._log(2, b"\0alcove:end:%s\0" % invocation.request_id.encode())
        return outcome

    def memory_peak_mib(self) -> int | None:
        return None

    async def measure(self) -> None:
        return None

    async def close(self) -> None:
        self._channel.close()


class StandInTier:
    """``start_s`` is what a start takes."""

    isolation = Isolation.VM

    def __init__(self, socket: Path, start_s: float) -> None:
        self._socket = socket
        self._start_s = start_s

    def has_image(self, runtime: Runtime) -> bool:
        return True

    async def prepare(self, runtime: Runtime, progress: Callable[[str], None] | None = None) -> None:
        return None

    async def start(self, runtime: Runtime, how: Start | None = None) -> StandIn:
        await asyncio.sleep(self._start_s)
        channel = await InvocationChannel.connect(self._socket)
        await channel.ready(10.0)
        return StandIn(runtime, channel)

    async def recover(self, adopt: Adopts = adopt_none) -> Sequence[Sandbox]:
        return []

    async def close(self) -> None:
        return None


class Host:
    """What the faces ask of a daemon."""

    url = ""

    def health(self) -> dict[str, Any]:
        return {"status": "ok"}

    def endpoint(self) -> str:
        return self.url

    def s3_endpoint(self) -> str:
        return self.url


async def serve(state: Path, responder: Path, given: dict[str, str]) -> None:
    start_s = float(given.pop("start_s", "0.05"))
    flags = {"state": state, "run": state / "run", "memory_reserve_mib": 0, **given}
    settings = load_settings(environment={}, flags=flags)
    async with AsyncExitStack() as stack:
        tier = StandInTier(responder, start_s)
        services = await open_services(stack, settings, {Isolation.VM: tier}, region=REGION)
        await services.functions.recover()
        await services.start(stack)
        host = Host()
        app = App(host, services)
        server = app.server()
        stack.push_async_callback(server.close, 1.0)
        await server.listen_unix(settings.api_socket)
        port = await server.listen_tcp("127.0.0.1", 0)
        host.url = f"http://127.0.0.1:{port}"
        key = services.tenants.keys_of(services.tenants.default.id)[0]
        print(json.dumps({"port": port, "access_key": key.access_key, "secret": key.secret}), flush=True)
        stopped = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
        await stopped.wait()


if __name__ == "__main__":
    import uvloop

    uvloop.run(serve(Path(sys.argv[1]), Path(sys.argv[2]), dict(one.split("=", 1) for one in sys.argv[3:])))
