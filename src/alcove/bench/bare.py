"""What benchmarks put in the place of machines: sandboxes that do no more than they must, and a server over them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
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
    Runtime,
    Sandbox,
    SandboxId,
    Start,
    Tier,
    Workload,
    adopt_none,
)
from alcove.services import Services
from alcove.settings import Settings

REGION = "us-east-1"
_numbers = itertools.count(1)


class BareSandbox:
    """All of a sandbox but ``invoke``."""

    isolation = Isolation.VM
    start = Start.RESTORED

    def __init__(self, runtime: Runtime) -> None:
        self.id = SandboxId(f"s-{next(_numbers)}")
        self.runtime = runtime
        self.phases_ms: dict[str, float] = {}
        self._log: LogSink = lambda stream, data: None

    def listen(self, *, log: LogSink, exit: ExitSink) -> None:
        self._log = log

    async def rehearse(self) -> None:
        return None

    async def load(self, workload: Workload, delivery: Delivery = Delivery.MOUNTED) -> None:
        return None

    def mark(self, invocation: Invocation) -> None:
        """Write what a runtime writes to stderr after each answer."""
        self._log(2, b"\0alcove:end:%s\0" % invocation.request_id.encode())

    def memory_peak_mib(self) -> int | None:
        return None

    async def measure(self) -> None:
        return None

    async def close(self) -> None:
        return None


class BareTier:
    """All of a tier but ``start``; it has every image, and keeps nothing."""

    isolation = Isolation.VM

    def has_image(self, runtime: Runtime) -> bool:
        return True

    async def prepare(self, runtime: Runtime, progress: Callable[[str], None] | None = None) -> None:
        return None

    async def recover(self, adopt: Adopts = adopt_none) -> Sequence[Sandbox]:
        return []

    async def close(self) -> None:
        return None


class Host:
    """What the faces ask of a daemon."""

    port = 0

    def health(self) -> dict[str, Any]:
        return {"status": "ok"}

    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def s3_endpoint(self) -> str:
        return self.endpoint()


async def open_server(stack: AsyncExitStack, settings: Settings, tier: Tier) -> tuple[Services, int]:
    """Serve over ``tier`` until ``stack`` is closed; return the parts and the TCP port."""
    services = await open_services(stack, settings, {Isolation.VM: tier}, region=REGION)
    await services.functions.recover()
    for tenant in services.tenants.all():
        # As the daemon does, to know the sandboxes that it finds.
        await services.functions.listing.every_version(tenant.id)
    await services.start(stack)
    host = Host()
    server = App(host, services).server()
    stack.push_async_callback(server.close, 1.0)
    await server.listen_unix(settings.api_socket)
    host.port = await server.listen_tcp("127.0.0.1", 0)
    return services, host.port
