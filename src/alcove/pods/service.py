"""The node service: makes, keeps and ends the machines of pods for their shims.

Each pod is one entry by its namespace and name, each operation on it one at a time. What is asked twice is done once.
A daemon that starts adopts the pods of an earlier one by their records, through their VMMs alone, and reaps what has no
whole record; one that stops leaves them running.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from alcove.errors import AlcoveError, InvalidRequest, NotFound, SandboxError
from alcove.host.cgroup import Cgroup
from alcove.host.locks import KeyedLock
from alcove.host.process import Process, ProcessIdentity
from alcove.host.threads import to_the_end
from alcove.images.layers import LayerStore
from alcove.images.scratch import SMALLEST_MIB
from alcove.pods import network
from alcove.pods.disks import DiskMaker
from alcove.pods.host import PodHost
from alcove.pods.launcher import FAMILY, LARGEST_DISK, PodLauncher
from alcove.pods.model import KERNEL, Defaults, PodKey, PodSpec, parse_spec, pod_key
from alcove.pods.network import Takeover
from alcove.pods.pod import Pod
from alcove.pods.shape import Shape
from alcove.pods.shares import Share
from alcove.pods.starting import Starter
from alcove.pods.stream import Reader, Writer
from alcove.sandbox.protocol import SandboxId
from alcove.sandbox.vm_launcher import Launcher
from alcove.vmm.machine import Machine
from alcove.vmm.spec import DISK_TUNING, DiskTuning

log = logging.getLogger(__name__)

# How often layers are looked for whose images are gone.
SWEEP_S = 600.0
# Where containerd has the pods of its CRI.
CRI_NAMESPACE = "k8s.io"

Request = dict[str, Any]


class PodService:
    """See the module's docstring. ``recover`` comes before the first operation."""

    def __init__(
        self, engine: Launcher, state: Path, defaults: Defaults, *, waiting: int = 1, tuning: DiskTuning = DISK_TUNING
    ) -> None:
        self._defaults = defaults
        self._launcher = PodLauncher(engine, state, tuning)
        self._starter = Starter(
            self._launcher,
            state,
            waiting=waiting,
            disk_mib=max(SMALLEST_MIB, defaults.disk_mib),
            host_paths=defaults.host_paths,
        )
        # Above what a volume may hold come the file system's own tables.
        self._disks = DiskMaker(self._launcher.records.folder, LARGEST_DISK * 15 // 16)
        self._layers = LayerStore(state / "images" / "layers")
        self._tasks: list[asyncio.Task[None]] = []
        self._pods: dict[PodKey, Pod] = {}
        self._locks = KeyedLock()
        engine.disk_users.append(self._pods.values)
        self._ops: dict[str, Callable[[Request], Awaitable[Any]]] = {
            "start_pod": self._start,
            "stop_pod": self._stop,
            "attach_image": lambda request: self._of(request).attach_image(request.get("layers", [])),
            "detach_image": lambda request: self._of(request).detach_image(str(request.get("device"))),
            "attach_disk": lambda request: self._of(request).attach_disk(
                str(request.get("name")), request.get("bytes", 0)
            ),
            "share_path": self._share,
            "update_pod": self._update,
            "pod_stats": lambda request: self._of(request).statistics(),
            "pods": self._list,
        }

    async def carry_out(self, request: Request) -> Any:
        """Return what an operation answers. Raises the errors of ``alcove.errors``."""
        op = request.get("op")
        operation = self._ops.get(op) if isinstance(op, str) else None
        if operation is None:
            raise InvalidRequest(f"no operation is named {op!r}", hint=f"one of {', '.join(self._ops)}")
        return await operation(request) or {}

    async def forward(self, sandbox: str, port: int, reader: Reader, writer: Writer) -> bool:
        """Connect to a port of a pod of containerd's CRI, and carry both ways to their ends; return whether its machine
        is ours. Raises ``Refused``, ``OSError``.
        """
        pod = self._pods.get(PodKey(CRI_NAMESPACE, sandbox))
        if pod is None:
            return False
        await pod.forwards.carry(port, reader, writer)
        return True

    def _of(self, request: Request) -> Pod:
        key = pod_key(request)
        pod = self._pods.get(key)
        if pod is None:
            raise NotFound(f"there is no pod {key.pod} in the namespace {key.namespace}")
        return pod

    async def _start(self, request: Request) -> dict[str, Any]:
        spec = parse_spec(request, self._defaults)
        async with self._locks.held(spec.key):
            pod = self._pods.get(spec.key)
            if pod is None:
                spec = replace(spec, kernel=await self._kernel_of(spec))
                pod = self._keep(await self._starter.start(spec))
            elif spec.shim is not None and spec.shim != pod.host.spec.shim:
                pod.watch_shim(spec.shim)
                await to_the_end(pod.host.record)
            return pod.describe()

    async def _kernel_of(self, spec: PodSpec) -> str:
        """Return the digest of the kernel that the pod names, "" where it names none. Raises ``NotFound``."""
        name = spec.annotations.get(KERNEL)
        return (await to_the_end(self._launcher.engine.kernels.named, name)).digest if name else ""

    def _keep(self, host: PodHost) -> Pod:
        pod = Pod(host, self._launcher, self._disks, self._layers, self._launcher.engine.disk_io, self._ended)
        self._pods[host.spec.key] = pod
        pod.watch()
        return pod

    async def _stop(self, request: Request) -> None:
        await self._end(pod_key(request))

    async def _end(self, key: PodKey, only: Pod | None = None) -> None:
        """End the pod of that name, ``only`` this one."""
        async with self._locks.held(key):
            pod = self._pods.get(key)
            if pod is None or only not in (None, pod):
                return
            await pod.unwatch()
            await pod.host.free(self._launcher.engine.users)
            del self._pods[key]

    async def _ended(self, pod: Pod, how: str) -> None:
        log.warning("pod %s is ended: %s", pod.host.spec.pod, how)
        await self._end(pod.host.spec.key, pod)

    async def _update(self, request: Request) -> None:
        pod = self._of(request)
        own = pod.host.spec
        defaults = replace(self._defaults, cpus=own.cpus, memory_mib=own.memory_mib)
        await pod.update(parse_spec({**request, "annotations": None}, defaults))

    async def _share(self, request: Request) -> dict[str, Any]:
        return await self._of(request).share_path(str(request.get("name")), Share.parse(request))

    async def _list(self, request: Request) -> dict[str, Any]:
        return {
            "pods": [
                {"pod": pod.host.spec.pod, "namespace": pod.host.spec.namespace, **pod.describe()}
                for pod in self._pods.values()
            ]
        }

    # After a crash, and at the end

    async def recover(self) -> None:
        """Adopt the pods that run, destroy every other leftover."""
        await to_the_end(self._layers.recover)
        records = self._launcher.records
        for id, record in records.all().items():
            if not await self._adopt(id, record):
                await self._reap(id, record)
        kept = {pod.host.id for pod in self._pods.values()}
        for name in Cgroup.list_children(self._launcher.engine.tag):
            if name.startswith("p-") and name not in kept:
                stray = Cgroup(self._launcher.engine.tag, name)
                await to_the_end(stray.kill_all)
                await to_the_end(stray.remove)
        self._tasks = [asyncio.create_task(self._sweep()), asyncio.create_task(self._prepare())]

    async def _prepare(self) -> None:
        """Have machines wait for the next pods, where pods have been before: their guest's image is here."""
        if await to_the_end(self._launcher.engine.images.find_family, FAMILY) is None:
            return
        try:
            await self._starter.prepare(Shape.of(parse_spec({"pod": "next"}, self._defaults), None))
        except (AlcoveError, OSError, TimeoutError) as error:
            log.warning("the template of pods cannot be made ahead: %s", error)

    async def _sweep(self) -> None:
        """Remove the layers of images that containerd has removed, now and from time to time."""
        while True:
            try:
                for layer in await self._layers.remove_unused():
                    log.info("removed the layer %s, %d MiB", layer.digest[:12], layer.size >> 20)
            except OSError as error:
                log.warning("layers that nobody uses cannot be removed: %s", error)
            await asyncio.sleep(SWEEP_S)

    async def _adopt(self, id: SandboxId, record: dict[str, Any]) -> bool:
        process: Process | None = None
        try:
            host = PodHost.from_record(id, record, self._launcher.engine.tag, self._launcher.records)
            if host.step != "running" or host.process is None or host.spec.key in self._pods:
                return False
            process = Process.adopt(host.process)
            if process is None:
                return False
            host.machine = await Machine.adopt(id, process, host.monitor_socket)
        except (SandboxError, KeyError, TypeError, ValueError, OSError, TimeoutError) as error:
            log.warning("pod %s cannot be adopted: %s", id, error)
            if process is not None:
                process.release()
            return False
        self._launcher.engine.users.claim(host.user)
        self._keep(host)
        log.info("adopted pod %s", host.spec.pod)
        return True

    async def _reap(self, id: SandboxId, record: dict[str, Any]) -> None:
        """End what an earlier daemon left of a pod, as far as its record tells."""
        with suppress(KeyError, TypeError, ValueError):
            process = Process.adopt(ProcessIdentity.from_json(record["process"]))
            if process is not None:
                process.signal(signal.SIGKILL)
                await process.wait()
                process.release()
        cgroup = Cgroup(self._launcher.engine.tag, id)
        await to_the_end(cgroup.kill_all)
        with suppress(KeyError, TypeError, ValueError, OSError):
            await to_the_end(network.disconnect, Takeover.from_json(record["takeover"]))
        await to_the_end(cgroup.remove)
        self._launcher.records.remove(id)
        log.info("reaped pod %s, left by an earlier daemon", id)

    async def close(self) -> None:
        """Let go of every pod: they run on, and a later daemon adopts them."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for key, pod in list(self._pods.items()):
            async with self._locks.held(key):
                if self._pods.pop(key, None) is not None:
                    await pod.leave()
        await self._starter.close()
        self._launcher.engine.disk_users.remove(self._pods.values)
        self._disks.close()
        self._layers.close()
        await asyncio.sleep(0)
