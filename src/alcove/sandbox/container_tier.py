"""The tiers ``process`` (runc) and ``gvisor`` (runsc): start containers from the guest image, reap what a crash left.

Both are driven directly, without containerd: bundle, network namespace, cgroup and mounts are made here. A container
is always started anew (``Start.BOOTED``): neither program's checkpoints are used.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from alcove.errors import AlcoveError, CapacityError, HostError, SandboxGone
from alcove.host.cgroup import Cgroup
from alcove.host.files import private_folder
from alcove.host.mounts import mount_squashfs, share, unmount_under
from alcove.host.network import Network, Veth
from alcove.host.process import Process
from alcove.host.resources import start_failure
from alcove.host.threads import to_the_end
from alcove.images.families import Family
from alcove.images.guest import GuestImage
from alcove.sandbox.channel import InvocationChannel
from alcove.sandbox.container import (
    HOST_PIDS,
    MIB,
    ContainerResources,
    ContainerSandbox,
    destroy,
    facts,
)
from alcove.sandbox.container_code import show_ours
from alcove.sandbox.guest_images import GuestImages
from alcove.sandbox.oci import Container, oci_config
from alcove.sandbox.oci_runtime import find_runtime
from alcove.sandbox.phases import PhaseClock
from alcove.sandbox.protocol import Adopts, Isolation, Runtime, SandboxId, Start, adopt_none
from alcove.sandbox.record import RecordStore, new_id

log = logging.getLogger(__name__)

READY_TIMEOUT_S = 30.0
# Until a function's own limit replaces it: the largest function, with room for what serves it.
MEMORY_MIB = 3328
# What the image has in /var and a function may look for.
_VAR_FOLDERS = ("task", "local", "backups")


class ContainerTier:
    """See the module's docstring. Raises ``HostError`` where its program is not installed."""

    def __init__(
        self,
        isolation: Isolation,
        *,
        state: Path,
        tag: str,
        images: GuestImages,
        network: Network | None,
        rehearsal_image: Path,
    ) -> None:
        self.isolation = isolation
        self._tag = tag
        self._images = images
        self._network = network
        self._rehearsal_image = rehearsal_image
        self._run = private_folder(state / "run" / str(isolation))
        self._oci = find_runtime(isolation, self._run)
        self._records = RecordStore(state / "sandboxes")
        # runc joins the container to its group; until then it is in this one, where a crash finds it.
        self._launchers = Cgroup(tag, f"launch-{isolation}")
        self._prepare_lock = asyncio.Lock()
        self._roots: dict[Family, Path] = {}
        self._live: set[ContainerSandbox] = set()
        self._closing = False

    async def prepare(self, runtime: Runtime, progress: Callable[[str], None] | None = None) -> None:
        """Mount the root of the runtime's guest image, once for all containers."""
        image = await self._images.get(runtime, progress or log.info)
        async with self._prepare_lock:
            if runtime.family not in self._roots:
                root = self._root(runtime.family)
                await to_the_end(self._mount_root, image, root)
                self._roots[runtime.family] = root

    def has_image(self, runtime: Runtime) -> bool:
        return self._images.find(runtime) is not None

    def _root(self, family: Family) -> Path:
        return self._run / ("root" if family is Family.BASE else f"root-{family}")

    def _mount_root(self, image: GuestImage, root: Path) -> None:
        self._launchers.create()
        root.mkdir(exist_ok=True)
        unmount_under(root)
        mount_squashfs(image.root, root)

    # Starts

    async def start(self, runtime: Runtime, how: Start | None = None) -> ContainerSandbox:
        """Start a container without code. Raises ``HostError`` for every start but a fresh one."""
        if how not in (None, Start.BOOTED):
            raise HostError(
                f"a container cannot be started as {how}", hint="use the tier vm for restores and snapshots"
            )
        if self._closing:
            raise CapacityError("the service is stopping")
        await self.prepare(runtime)
        id = new_id()
        folder = self._records.create(id, {"tier": str(self.isolation), "step": "launching"})
        resources = ContainerResources(id, folder, Cgroup(self._tag, id), self._oci)
        sandbox: ContainerSandbox | None = None
        try:
            sandbox = ContainerSandbox(
                resources,
                self.isolation,
                runtime,
                network=self._network,
                records=self._records,
                rehearsal_image=self._rehearsal_image,
                release=self._live.discard,
            )
            self._live.add(sandbox)
            await self._launch(sandbox)
        except BaseException as error:
            if sandbox is not None:
                await sandbox.close()
            else:
                await destroy(resources, self._network, self._records)
            if isinstance(error, OSError):
                raise start_failure(error, "container") from error
            raise
        return sandbox

    async def _launch(self, sandbox: ContainerSandbox) -> None:
        clock = PhaseClock(sandbox.phases_ms)
        resources = sandbox.resources
        if self._network is not None:
            resources.port = await self._network.veth()
            # Written before its namespace is of use to anyone; recover() sweeps the namespaces of a crash
            # before this line.
            self._records.write(resources.id, facts(resources, self.isolation, "launching"))
        await to_the_end(self._make_bundle, resources, sandbox.runtime)
        clock.mark("bundle")
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                pid = await to_the_end(self._start_process, sandbox, theirs.fileno())
            for output in sandbox.outputs:
                output.close_write()
            channel = await InvocationChannel.connect(ours)
        except BaseException:
            ours.close()
            raise
        try:
            process = Process(pid)
        except ProcessLookupError as error:
            channel.close()
            raise SandboxGone("the container ended at once") from error
        sandbox.connected(channel, process)
        sandbox.record("launched")
        clock.mark("launch")
        try:
            await channel.ready(READY_TIMEOUT_S)
        except TimeoutError as error:
            raise SandboxGone("the container's runtime did not start in time", reason="timeout") from error
        clock.mark("runtime")

    def _make_bundle(self, resources: ContainerResources, runtime: Runtime) -> None:
        cgroup, folder, port = resources.cgroup, resources.folder, resources.port
        cgroup.create()
        cgroup.set_limits(memory_bytes=MEMORY_MIB * MIB, pids=HOST_PIDS[self.isolation])
        run = folder / "run"
        for made in (run, resources.slot, *(resources.slot / name for name in _VAR_FOLDERS)):
            made.mkdir()
            made.chmod(0o755)
        for name, target in (("run", "/run"), ("tmp", "/tmp"), ("lock", "/tmp")):
            (resources.slot / name).symlink_to(target)
        servers = port.dns if port is not None else ()
        (run / "resolv.conf").write_text("".join(f"nameserver {server}\n" for server in servers))
        (run / "machine-id").write_text(f"{resources.id[2:]:0>32}\n")
        share(resources.slot)
        show_ours(self._root(runtime.family), resources.opt)
        container = Container(
            root=self._root(runtime.family),
            var=resources.slot,
            run=run,
            hostname=f"alcove-{resources.id[2:]}",
            cgroup_path=cgroup.path,
            network_namespace=port.namespace_path if port is not None else None,
        )
        seccomp = self.isolation is Isolation.PROCESS
        config = oci_config(container, runtime, seccomp=seccomp)
        (folder / "config.json").write_text(json.dumps(config))

    def _start_process(self, sandbox: ContainerSandbox, channel: int) -> int:
        resources = sandbox.resources
        groups = self._launchers if self._oci.own_cgroups else resources.cgroup
        stdout, stderr = (output.write_fd for output in sandbox.outputs)
        return self._oci.run(
            resources.id,
            resources.folder,
            cgroup_files=groups.procs_files(),
            channel=channel,
            stdout=stdout,
            stderr=stderr,
        )

    # Ends

    async def recover(self, adopt: Adopts = adopt_none) -> Sequence[ContainerSandbox]:
        """Destroy every container of an earlier daemon: its end of their channels is gone with it."""
        await to_the_end(self._launchers.kill_all)
        for id, record in self._records.all().items():
            if record.get("tier") == str(self.isolation) and id not in {s.id for s in self._live}:
                await self._reap(id, record)
        for family in Family:
            if family not in self._roots:
                await to_the_end(unmount_under, self._root(family))
        return ()

    async def _reap(self, id: SandboxId, record: dict[str, Any]) -> None:
        resources = ContainerResources(id, self._records.folder / id, Cgroup(self._tag, id), self._oci)
        if record.get("address") and self._network is not None:
            resources.port = await self._adopt_port(str(record["address"]))
        try:
            await destroy(resources, self._network, self._records)
        except AlcoveError as error:
            log.warning("sandbox %s cannot be reaped: %s", id, error)
            return
        log.info("reaped sandbox %s, left by an earlier daemon", id)

    async def _adopt_port(self, address: str) -> Veth | None:
        assert self._network is not None
        with contextlib.suppress(ValueError):
            return await self._network.adopt_veth(address)
        return None

    async def close(self) -> None:
        """Destroy every container and unmount the root."""
        self._closing = True
        await asyncio.gather(*(sandbox.close() for sandbox in list(self._live)))
        await to_the_end(self._clean_up)

    def _clean_up(self) -> None:
        self._launchers.kill_all()
        unmount_under(self._run)
        self._launchers.remove()
        # runc joins every v1 controller, also those that Alcove does not use.
        for parent in Path("/sys/fs/cgroup").glob(f"*/alcove-{self._tag}"):
            with contextlib.suppress(OSError):
                parent.rmdir()
        for root in self._roots.values():
            with contextlib.suppress(OSError):
                root.rmdir()
