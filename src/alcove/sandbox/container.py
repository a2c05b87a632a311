"""A sandbox that is a container: of runc (tier ``process``) or of runsc (tier ``gvisor``).

It has no agent: the daemon does from outside what the agent does in a VM. The invocation channel is a socket pair
whose other end is the runtime's descriptor 0. The container's /var is a folder of the host's whose mounts it sees
(``slot``): code that is mounted, or copied, at its ``task`` appears at /var/task of the running container.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alcove.errors import HostError, SandboxError, SandboxGone
from alcove.host.cgroup import Cgroup
from alcove.host.exit_status import exit_status
from alcove.host.mounts import mount_squashfs, unmount, unmount_under
from alcove.host.network import Network, Veth
from alcove.host.process import Process
from alcove.host.threads import to_the_end
from alcove.sandbox.channel import InvocationChannel
from alcove.sandbox.container_code import copy_code, mount_code
from alcove.sandbox.oci_runtime import OciRuntime
from alcove.sandbox.output import OutputPipe
from alcove.sandbox.phases import PhaseClock
from alcove.sandbox.protocol import (
    Delivery,
    ExitSink,
    Invocation,
    Isolation,
    LogSink,
    Outcome,
    Runtime,
    SandboxId,
    Start,
    TenantId,
    Workload,
)
from alcove.sandbox.record import RecordStore
from alcove.sandbox.vm import GUEST_PIDS, MEMORY_MIB_PER_VCPU, TASK_ROOT
from alcove.wire.frame import Kind

MIB = 1 << 20
# What a container needs beside the function's own memory: for runsc its kernel and its file server, counted in
# the same group.
OVERHEAD_MIB = {Isolation.PROCESS: 0, Isolation.GVISOR: 96}
# The host's threads for one container: runsc's kernel has its own, and a process of the host's for each of the
# function's.
HOST_PIDS = {Isolation.PROCESS: GUEST_PIDS, Isolation.GVISOR: 2 * GUEST_PIDS}
_STATUS_TRIES = 50
# Of a processor: more than any machine has.
_UNLIMITED = 1000.0


@dataclass(slots=True)
class ContainerResources:
    """What a container owns on the host, from before its launch on."""

    id: SandboxId
    folder: Path
    cgroup: Cgroup
    oci: OciRuntime
    port: Veth | None = None
    process: Process | None = None

    @property
    def slot(self) -> Path:
        """The folder that is the container's /var."""
        return self.folder / "var"

    @property
    def task(self) -> Path:
        return self.slot / "task"

    @property
    def opt(self) -> Path:
        """The folder that is the container's /opt, by a link of the image's; our own code is mounted in it."""
        return self.slot / "opt"


class ContainerSandbox:
    """See the module's docstring. Made by ``ContainerTier``."""

    def __init__(
        self,
        resources: ContainerResources,
        isolation: Isolation,
        runtime: Runtime,
        *,
        network: Network | None,
        records: RecordStore,
        rehearsal_image: Path,
        release: Callable[[ContainerSandbox], None],
    ) -> None:
        self.id = resources.id
        self.isolation = isolation
        self.runtime = runtime
        self.start = Start.BOOTED
        self.phases_ms: dict[str, float] = {}
        self.resources = resources
        self.tenant: TenantId | None = None
        self.workload: Workload | None = None
        self._network = network
        self._records = records
        self._rehearsal_image = rehearsal_image
        self._release = release
        self._channel: InvocationChannel | None = None
        self._log: LogSink = lambda stream, data: None
        self._exit: ExitSink = lambda reason: None
        self._reason: str | None = None
        self._closed = False
        self._watch: asyncio.Task[None] | None = None
        self.outputs = [OutputPipe(self._printed(1)), OutputPipe(self._printed(2))]

    def _printed(self, stream: int) -> Callable[[bytes], None]:
        return lambda data: self._log(stream, data)

    def listen(self, *, log: LogSink, exit: ExitSink) -> None:
        self._log = log
        self._exit = exit

    @property
    def channel(self) -> InvocationChannel:
        if self._channel is None:
            raise SandboxGone("the container is not connected")
        return self._channel

    @property
    def ended(self) -> bool:
        return self._reason is not None or self._closed

    def connected(self, channel: InvocationChannel, process: Process) -> None:
        """The container runs: ``process`` is its first."""
        self._channel = channel
        self.resources.process = process
        self._watch = asyncio.create_task(self._watch_process(process))

    # Load

    async def rehearse(self) -> None:
        clock = PhaseClock(self.phases_ms)
        task = self.resources.task
        await to_the_end(mount_squashfs, self._rehearsal_image, task)
        try:
            await self.channel.request(Kind.LOAD, _REHEARSAL, timeout_s=60)
            await self.channel.invoke(Invocation("rehearsal", b'{"rehearsal":true}', int(time.time() * 1000) + 3000))
            await self.channel.request(Kind.UNLOAD, b"", timeout_s=60)
        finally:
            await to_the_end(unmount, task)
        clock.mark("rehearse")

    async def load(self, workload: Workload, delivery: Delivery = Delivery.MOUNTED) -> None:
        clock = PhaseClock(self.phases_ms)
        self.tenant, self.workload = workload.tenant, workload
        port = self.resources.port
        if port is not None and workload.network and self._network is not None:
            await self._network.attach(port, workload.tenant)
        clock.mark("network")
        self._limit_memory(workload)
        if delivery is Delivery.MOUNTED:
            await to_the_end(mount_code, workload.code, self.resources.task, self.resources.opt)
        else:
            await to_the_end(copy_code, workload.code, self.resources.task, self.resources.opt)
        clock.mark("mount" if delivery is Delivery.MOUNTED else "copy")
        try:
            await self.channel.load(workload)
        except SandboxGone as gone:
            raise await self._explained(gone) from gone
        clock.mark("init")
        self._limit_cpu(workload)
        self.record("loaded")

    def _limit_memory(self, workload: Workload) -> None:
        limit = (workload.memory_mib + OVERHEAD_MIB[self.isolation]) * MIB
        self._limit(memory_bytes=limit)

    def _limit_cpu(self, workload: Workload) -> None:
        share = workload.memory_mib / MEMORY_MIB_PER_VCPU
        self._limit(cpu_fraction=min(1.0, share), cpu_shares=max(2, int(1024 * share)))

    def _limit(self, **limits: Any) -> None:
        try:
            self.resources.cgroup.set_limits(**limits)
        except FileNotFoundError as error:
            raise SandboxGone("the container has ended", reason=self._reason or "exited") from error
        except OSError as error:
            raise HostError(f"the container's limits cannot be set: {error}") from error

    # Invocation

    async def invoke(self, invocation: Invocation) -> Outcome:
        try:
            return await self.channel.invoke(invocation)
        except SandboxGone as gone:
            raise await self._explained(gone) from gone

    async def _explained(self, gone: SandboxGone) -> SandboxGone:
        """Wait a moment for the process's end, which tells the reason that a closed channel does not."""
        for _ in range(_STATUS_TRIES):
            if self._reason is not None:
                break
            await asyncio.sleep(0.01)
        return SandboxGone(str(gone), reason=self._reason or gone.reason)

    def memory_peak_mib(self) -> int | None:
        """The group's peak; of runsc it is that of its own kernel too."""
        peak = self.resources.cgroup.memory_peak()
        return None if peak is None else -(-peak // MIB)

    async def measure(self) -> None:
        return None

    # Ends

    async def _watch_process(self, process: Process) -> None:
        await process.wait()
        self._ended(await to_the_end(self._why, process))

    def _why(self, process: Process) -> str:
        # The kernel counts the kill before the victim is gone.
        if self.resources.cgroup.oom_kills():
            return "out_of_memory"
        status = exit_status(process.fd, process.pid)
        # The shell that is the first process, and runsc, report a signal as 128 and its number.
        return "signal" if status & 0x7F or status >> 8 > 128 else "exited"

    def _ended(self, reason: str) -> None:
        if self._reason is None and not self._closed:
            self._reason = reason
            for output in self.outputs:
                output.drain()
            if self._channel is not None:
                self._channel.fail(SandboxGone(f"the runtime ended: {reason}", reason=reason))
            self._exit(reason)

    def record(self, step: str) -> None:
        """Write down what this sandbox is, so that a later daemon can reap it."""
        self._records.write(self.id, facts(self.resources, self.isolation, step))

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._watch is not None:
            self._watch.cancel()
        if self._channel is not None:
            self._channel.close()
        await destroy(self.resources, self._network, self._records)
        for output in self.outputs:
            output.close()
        self._release(self)


def facts(resources: ContainerResources, isolation: Isolation, step: str) -> dict[str, Any]:
    """Return the record: what ``destroy`` needs to know."""
    return {
        "tier": str(isolation),
        "step": step,
        "address": resources.port.address if resources.port else None,
        "process": resources.process.identity.to_json() if resources.process else None,
    }


async def destroy(resources: ContainerResources, network: Network | None, records: RecordStore) -> None:
    """Free all that a container owns; never raises for what is gone already."""
    await to_the_end(_destroy, resources)
    if resources.port is not None and network is not None:
        with contextlib.suppress(SandboxError, HostError):
            await network.release(resources.port)
    if resources.process is not None:
        resources.process.release()
    records.remove(resources.id)


def _destroy(resources: ContainerResources) -> None:
    # At a small share of a processor, dying takes long too.
    with contextlib.suppress(OSError):
        resources.cgroup.set_limits(cpu_fraction=_UNLIMITED)
    resources.cgroup.kill_all()
    resources.oci.delete(resources.id)
    unmount_under(resources.folder)
    resources.cgroup.remove()


_REHEARSAL = (
    b'{"handler":"rehearsal.handler","task_root":"%s","environment":{},"function_name":"rehearsal","version":"1",'
    b'"arn":"arn:alcove:rehearsal","memory_mib":128,"timeout_s":3,"log_group":"","log_stream":"","rehearsal":true}'
) % TASK_ROOT.encode()
