"""The daemon: composition of all floors into one running service.

``Daemon`` is an async context manager. Entering it brings up, in order, state, images, network, tiers, leftovers of a
crash, pools and servers; leaving it takes them down in reverse. On a clean stop every sandbox ends; after a kill the
machines that were loaded and idle go on running, and the next daemon adopts them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any

from alcove.api.app import App
from alcove.api.metrics import MetricsApp
from alcove.api.s3 import S3App
from alcove.composition import open_services
from alcove.functions.model import LATEST, FunctionVersion
from alcove.gateway.http import Server
from alcove.gateway.shares import Shares
from alcove.gateway.streaming import StreamServer
from alcove.host.files import private_folder
from alcove.host.garbage import spare_what_is_there
from alcove.host.network import API_PORT, S3_PORT, Network
from alcove.pods.model import Defaults, NetworkModel
from alcove.pods.service import PodService
from alcove.pods.socket import PodSocket
from alcove.sandbox.engine import open_engine
from alcove.sandbox.protocol import Isolation, Runtime, Tier
from alcove.sandbox.vm import VmSandbox
from alcove.sandbox.vm_tier import VmTier
from alcove.services import Services
from alcove.settings import Address, Settings

log = logging.getLogger(__name__)

# From sandboxes, to the API and to the object store each.
CONNECTIONS_OF_A_TENANT = 128


class Daemon:
    """See the module's docstring."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._stack = AsyncExitStack()
        self._stopped = asyncio.Event()
        self._services: Services | None = None
        self.started = time.time()
        self.address = settings.listen
        self.s3_address = settings.s3_listen
        self.metrics_address: Address | None = None

    def stop(self) -> None:
        """Ask for the end; ``run_until_stopped`` returns. Safe from a signal handler of the loop."""
        self._stopped.set()

    async def run_until_stopped(self) -> None:
        await self._stopped.wait()

    async def __aenter__(self) -> Daemon:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def _start(self) -> None:
        settings, stack = self.settings, self._stack
        state = private_folder(settings.state)
        unavailable: dict[Isolation, str] = {}
        tiers, network = await open_engine(
            stack,
            state=state,
            subnet=str(settings.network_subnet),
            dns=tuple(map(str, settings.dns)),
            accelerator=settings.accelerator,
            isolations=frozenset(Isolation(name) for name in settings.isolation_allowed),
            snapshot_bytes=settings.snapshot_memory_mib << 20,
            unavailable=unavailable,
        )
        sizes = {
            Runtime.PYTHON: settings.pool_python,
            Runtime.NODE: settings.pool_nodejs,
            Runtime.PROVIDED: settings.pool_provided,
        }
        services = await open_services(
            stack,
            settings,
            tiers,
            pool_sizes={(Isolation.VM, runtime): size for runtime, size in sizes.items()},
            unavailable=unavailable,
        )
        self._services = services
        await self._recover(tiers, services, network)
        for tier in tiers.values():
            stack.push_async_callback(tier.close)
            for runtime, size in sizes.items():
                if size and tier.isolation is Isolation.VM:
                    await tier.prepare(runtime, log.info)
                    if isinstance(tier, VmTier):
                        await tier.keep_waiting(runtime, 1)
        # Before the pods are looked after whose shims ask here.
        await self._serve_pods(tiers.get(Isolation.VM), services)
        await services.start(stack)
        app = App(self, services)
        server = app.server()
        stack.push_async_callback(server.close)
        # Whoever waits for messages is answered before the server waits for its requests to end.
        stack.callback(services.queues.wake)
        await server.listen_unix(settings.api_socket)
        port = await server.listen_tcp(settings.listen.host, settings.listen.port)
        self.address = Address(settings.listen.host, port)
        await self._serve_s3(services)
        await self._serve_sandboxes(services, app, network)
        log.info("serving on http://%s", self.address)
        if settings.metrics_listen is not None:
            monitor = Server(MetricsApp(services.metrics).handle)
            stack.push_async_callback(monitor.close)
            port = await monitor.listen_tcp(settings.metrics_listen.host, settings.metrics_listen.port)
            self.metrics_address = Address(settings.metrics_listen.host, port)
            log.info("metrics on http://%s/metrics", self.metrics_address)
        spare_what_is_there()

    async def _serve_pods(self, tier: Tier | None, services: Services) -> None:
        """The node service, by which shims get machines for their pods."""
        settings = self.settings
        if settings.pods == "off" or not isinstance(tier, VmTier):
            return
        defaults = Defaults(
            settings.pod_cpus,
            settings.pod_memory_mib,
            settings.pod_disk_mib,
            NetworkModel(settings.pod_network),
            settings.pod_host_paths == "all",
        )
        pods = PodService(tier.launcher, settings.state, defaults, waiting=settings.pod_waiting)
        self._stack.push_async_callback(pods.close)
        await pods.recover()
        services.instances.machines = pods.forward
        door = PodSocket(settings.pods_socket, pods.carry_out)
        self._stack.push_async_callback(door.close)
        await door.open()

    async def _serve_s3(self, services: Services) -> None:
        """The object store, on listeners of its own."""
        face = S3App(services)
        server = StreamServer(face.handle, refusal=face.refusal)
        self._stack.push_async_callback(server.close)
        await server.listen_unix(self.settings.s3_socket)
        port = await server.listen_tcp(*self.settings.s3_listen)
        self.s3_address = Address(self.settings.s3_listen.host, port)

    async def _serve_sandboxes(self, services: Services, app: App, network: Network) -> None:
        """API and object store once more, where functions reach them: nothing else of this machine is there."""
        face = S3App(services)
        shares = [Shares(network.tenant_at, CONNECTIONS_OF_A_TENANT) for _ in range(2)]
        api = app.server(shares=shares[0])
        store = StreamServer(face.handle, refusal=face.refusal, shares=shares[1])
        for server, port in ((api, API_PORT), (store, S3_PORT)):
            self._stack.push_async_callback(server.close)
            await server.listen_on(await network.listen(port))

    async def _recover(self, tiers: dict[Isolation, Tier], services: Services, network: Network) -> None:
        """Adopt what an earlier daemon left running, reap the rest."""
        await services.functions.recover()
        known: dict[str, FunctionVersion] = {}
        for tenant in services.tenants.all():
            for version in await services.functions.listing.every_version(tenant.id):
                known[version.revision] = version
        addresses: set[str] = set()
        for tier in tiers.values():
            for sandbox in await tier.recover(lambda record: record.get("revision") in known):
                if isinstance(sandbox, VmSandbox):
                    services.dispatcher.adopt(known[sandbox.revision], sandbox)
                    log.info("adopted sandbox %s", sandbox.id)
                    if sandbox.resources.tap is not None:
                        addresses.add(sandbox.resources.tap.address)
        await network.recover(addresses)
        vm = tiers.get(Isolation.VM)
        if isinstance(vm, VmTier):
            await vm.retain(v.workload() for v in known.values() if v.version != LATEST and v.isolation is Isolation.VM)

    def endpoint(self) -> str:
        """Return the URL that clients on this machine use."""
        return _local(self.address)

    def s3_endpoint(self) -> str:
        """Return the URL of the object store, for clients on this machine."""
        return _local(self.s3_address)

    def health(self) -> dict[str, Any]:
        events = 0 if self._services is None else len(self._services.events)
        return {
            "status": "ok",
            "events": events,
            "uptime_s": round(time.time() - self.started, 1),
            "address": str(self.address),
            "metrics": None if self.metrics_address is None else str(self.metrics_address),
        }


def _local(address: Address) -> str:
    host = "127.0.0.1" if address.host in ("0.0.0.0", "") else address.host
    return f"http://{Address(host, address.port)}"
