"""A server whose sandboxes are stand-ins: all of Alcove above the tiers, and the invocation channel to ``responder``.

What is measured against it is the server's own cost: routing, signatures, caps, queueing, logs, the channel; not a
machine's. ``python -m alcove.bench.stand_in STATE RESPONDER_SOCKET [SETTING=VALUE ...]`` prints its address and keys as
one line of JSON and serves until it is terminated.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from alcove.bench.bare import BareSandbox, BareTier, open_server
from alcove.sandbox.channel import InvocationChannel
from alcove.sandbox.protocol import Delivery, Invocation, Outcome, Runtime, Sandbox, Start, Workload
from alcove.settings import load_settings


class StandIn(BareSandbox):
    """A sandbox that is a connection to the responder."""

    def __init__(self, runtime: Runtime, channel: InvocationChannel) -> None:
        super().__init__(runtime)
        self._channel = channel

    async def load(self, workload: Workload, delivery: Delivery = Delivery.MOUNTED) -> None:
        self.phases_ms["init"] = await self._channel.load(workload)

    async def invoke(self, invocation: Invocation) -> Outcome:
        outcome = await self._channel.invoke(invocation)
        self.mark(invocation)
        return outcome

    async def close(self) -> None:
        self._channel.close()


class StandInTier(BareTier):
    """``start_s`` is what a start takes."""

    def __init__(self, socket: Path, start_s: float) -> None:
        self._socket = socket
        self._start_s = start_s

    async def start(self, runtime: Runtime, how: Start | None = None) -> Sandbox:
        await asyncio.sleep(self._start_s)
        channel = await InvocationChannel.connect(self._socket)
        await channel.ready(10.0)
        return StandIn(runtime, channel)


async def serve(state: Path, responder: Path, given: dict[str, str]) -> None:
    start_s = float(given.pop("start_s", "0.05"))
    flags = {"state": state, "run": state / "run", "memory_reserve_mib": 0, **given}
    settings = load_settings(environment={}, flags=flags)
    async with AsyncExitStack() as stack:
        services, port = await open_server(stack, settings, StandInTier(responder, start_s))
        key = services.tenants.keys_of(services.tenants.default.id)[0]
        print(json.dumps({"port": port, "access_key": key.access_key, "secret": key.secret}), flush=True)
        stopped = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
        await stopped.wait()


if __name__ == "__main__":
    import uvloop

    uvloop.run(serve(Path(sys.argv[1]), Path(sys.argv[2]), dict(one.split("=", 1) for one in sys.argv[3:])))
