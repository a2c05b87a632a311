"""A tier without machines, and a whole server over it: what the control plane and the gateway cost by themselves.

``python -m alcove.bench.echo STATE`` serves on ``STATE/run/api.sock`` and on a free TCP port until SIGTERM; it
prints the port when it is ready. Every function answers with its event, at once.
"""

from __future__ import annotations

import asyncio
import itertools
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from alcove.api.app import App
from alcove.composition import open_services
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
from alcove.services import Services
from alcove.settings import Settings

_numbers = itertools.count(1)


class EchoSandbox:
    """Answers with the event."""

    def __init__(self, runtime: Runtime, tier: EchoTier) -> None:
        self._tier = tier
        self.id = SandboxId(f"echo-{next(_numbers)}")
        self.isolation = Isolation.VM
        self.runtime = runtime
        self.start = Start.RESTORED
        self.phases_ms: dict[str, float] = {}
        self._log: LogSink = lambda stream, data: None

    def listen(self, *, log: LogSink, exit: ExitSink) -> None:
        self._log = log

    async def rehearse(self) -> None:
        return None

    async def load(self, workload: Workload, delivery: Delivery = Delivery.MOUNTED) -> None:
        return None

    async def invoke(self, invocation: Invocation) -> Outcome:
        self._tier.observe(invocation)
        self._log(2, b"\0alcove:end:%s\0" % invocation.request_id.encode())
        return Outcome(invocation.event)

    def memory_peak_mib(self) -> int | None:
        return None

    async def measure(self) -> None:
        return None

    async def close(self) -> None:
        return None


class EchoTier:
    """Starts at once, and keeps nothing. ``observe`` is told of each invocation."""

    isolation = Isolation.VM

    def __init__(self) -> None:
        self.observe: Callable[[Invocation], None] = lambda invocation: None

    def has_image(self, runtime: Runtime) -> bool:
        return True

    async def prepare(self, runtime: Runtime, progress: Callable[[str], None] | None = None) -> None:
        return None

    async def start(self, runtime: Runtime, how: Start | None = None) -> Sandbox:
        return EchoSandbox(runtime, self)

    async def recover(self, adopt: Adopts = adopt_none) -> Sequence[Sandbox]:
        return []

    async def close(self) -> None:
        return None


class _Host:
    """What faces ask of a daemon."""

    port = 0

    def health(self) -> dict[str, Any]:
        return {"status": "ok"}

    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def s3_endpoint(self) -> str:
        return self.endpoint()


async def open_server(stack: AsyncExitStack, state: Path) -> tuple[Services, int]:
    """Serve from ``state`` until ``stack`` is closed; return the parts and the TCP port."""
    settings = Settings(state=state, run=state / "run", max_sandboxes=1000, memory_reserve_mib=0)
    services = await open_services(stack, settings, {Isolation.VM: EchoTier()})
    await services.functions.recover()
    for tenant in services.tenants.all():
        # As the daemon does, to know the sandboxes that it finds.
        await services.functions.every_version(tenant.id)
    await services.start(stack)
    host = _Host()
    app = App(host, services)
    server = app.server()
    stack.push_async_callback(server.close, 1.0)
    await server.listen_unix(settings.api_socket)
    host.port = await server.listen_tcp("127.0.0.1", 0)
    return services, host.port


async def _main(state: Path) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with AsyncExitStack() as stack:
        _, port = await open_server(stack, state)
        print(port, flush=True)
        await stopped.wait()


if __name__ == "__main__":
    import uvloop

    uvloop.run(_main(Path(sys.argv[1])))
