"""A sandbox that is a virtual machine.

Its life: launched (QEMU waits for a state, or boots), restored (the guest runs, its tenant's side frozen),
personalised (entropy, clock, identity, network: before any tenant code moves), rehearsed or loaded, invoked, closed.
``VmSandbox`` owns the machine's process, cgroup, tap, user id and folder, and frees them all in ``close``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import subprocess
import tarfile
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from alcove.errors import AlcoveError, SandboxError, SandboxGone, SandboxLost
from alcove.host.network import Network
from alcove.host.threads import to_the_end
from alcove.images.code import IMAGE_SIZE
from alcove.images.scratch import SMALLEST_MIB, disk_bytes
from alcove.sandbox.agent import AgentClient
from alcove.sandbox.channel import InvocationChannel
from alcove.sandbox.phases import PhaseClock
from alcove.sandbox.protocol import (
    MEASURE_S,
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
from alcove.sandbox.vm_resources import VmResources, destroy
from alcove.vmm.machine import Machine
from alcove.wire.frame import Kind

log = logging.getLogger(__name__)

TASK_ROOT = "/var/task"
CODE_DRIVE = "code"
SCRATCH_DRIVE = "scratch"
SCRATCH = "/tmp"
# 1,769 MB is one full vCPU, in proportion below, as AWS documents for Lambda.
MEMORY_MIB_PER_VCPU = 1769
GUEST_PIDS = 512
# Before a function's own limit is known.
GUEST_FREE_MIB = 3008
_MOUNT: dict[str, Any] = {"op": "mount_code", "device": "vdb", "path": TASK_ROOT}
# For code with layers, in the same round trip.
_SPREAD: dict[str, Any] = {"op": "spread_code", "path": TASK_ROOT, "layers": "/opt"}
_MOUNT_SCRATCH: dict[str, Any] = {"op": "mount_scratch", "device": "vdc", "path": SCRATCH}
_COPY_CHUNK = 256 * 1024


class VmSandbox:
    """See the module's docstring. Made by ``VmTier``."""

    isolation = Isolation.VM

    def __init__(
        self,
        resources: VmResources,
        runtime: Runtime,
        start: Start,
        *,
        network: Network | None,
        records: RecordStore,
        rehearsal_image: Path,
        release: Callable[[VmSandbox], None],
    ) -> None:
        self.id = resources.id
        self.runtime = runtime
        self.start = start
        self.phases_ms: dict[str, float] = {}
        self.resources = resources
        self.tenant: TenantId | None = None
        self.workload: Workload | None = None
        self.revision = ""
        self._network = network
        self._records = records
        self._rehearsal_image = rehearsal_image
        self._release = release
        self._agent: AgentClient | None = None
        self._channel: InvocationChannel | None = None
        self.personalised = False
        self._log: LogSink = lambda stream, data: None
        self._exit: ExitSink = lambda reason: None
        self._reason: str | None = None
        self._peak_mib: int | None = None
        self._closed = False
        self._watch: asyncio.Task[None] | None = None
        self._ending: asyncio.Future[None] | None = None
        self._settling: asyncio.Task[None] | None = None

    # Connections

    async def connect(self) -> None:
        """Connect to both channels; QEMU listens on them from its start."""
        self._agent = await AgentClient.connect(self.resources.folder / "agent.sock")
        self._agent.on_log = self._on_log
        self._agent.on_event = self._on_event
        self._channel = await InvocationChannel.connect(self.resources.folder / "invoke.sock")
        self._watch = asyncio.create_task(self._watch_process())

    @property
    def agent(self) -> AgentClient:
        if self._agent is None:
            raise SandboxGone("the machine is not connected")
        return self._agent

    @property
    def channel(self) -> InvocationChannel:
        if self._channel is None:
            raise SandboxGone("the machine is not connected")
        return self._channel

    @property
    def machine(self) -> Machine:
        if self.resources.machine is None:
            raise SandboxGone("the machine is not running")
        return self.resources.machine

    def listen(self, *, log: LogSink, exit: ExitSink) -> None:
        self._log = log
        self._exit = exit

    # Start

    async def boot(self, timeout_s: float) -> None:
        """Wait for the agent of a machine that boots, and start the language runtime."""
        clock = PhaseClock(self.phases_ms)
        await self.agent.hello(timeout_s)
        clock.mark("boot")
        await self.agent.batch(_MOUNT_SCRATCH)
        await self.agent.request("start_runtime", runtime=str(self.runtime), frozen=False)
        await self.channel.ready(timeout_s)
        clock.mark("runtime")

    async def restore(self, state_fd: int) -> None:
        """Load a saved state and let the guest run; its tenant's side stays frozen until it is personalised."""
        clock = PhaseClock(self.phases_ms)
        await self.machine.restore(state_fd)
        clock.mark("restore")

    def personality(self) -> dict[str, Any]:
        """Return the operation that makes this clone unlike any other."""
        tap = self.resources.tap
        if self.workload is not None and not self.workload.network:
            tap = None
        return personality(self.id, None if tap is None else tap.guest_config())

    @property
    def ended(self) -> bool:
        return self._reason is not None or self._closed

    def disk_bytes(self) -> int:
        """Return the bytes of the host's disk that its scratch disk takes."""
        fd = self.resources.scratch_fd
        return 0 if fd is None else os.fstat(fd).st_blocks * 512

    async def ping(self, timeout_s: float) -> None:
        """Check that agent and runtime answer. Raises ``SandboxError``."""
        try:
            await self.agent.hello(timeout_s)
        except TimeoutError:
            raise SandboxError("its agent does not answer") from None
        try:
            await self.channel.request(Kind.PING, b"adopt", timeout_s=timeout_s)
        except TimeoutError:
            raise SandboxError("its runtime does not answer") from None

    async def resume(self, *ops: dict[str, Any]) -> None:
        """Let a restored guest run, make it unlike any other and carry out ``ops``, in one round trip."""
        if not self.personalised:
            self.personalised = True
            await self.machine.resume()
            ops = (self.personality(), *ops)
        await self.agent.batch(*ops)

    async def rehearse(self) -> None:
        clock = PhaseClock(self.phases_ms)
        await self._swap(self._rehearsal_image)
        await self.resume(_MOUNT, _limits(GUEST_FREE_MIB))
        await self.channel.request(Kind.LOAD, _REHEARSAL, timeout_s=60)
        await self.channel.invoke(_rehearsal_invocation())
        await self.channel.request(Kind.UNLOAD, b"", timeout_s=60)
        await self.agent.batch({"op": "unmount_code", "path": TASK_ROOT})
        await self.machine.drop_unused()
        clock.mark("rehearse")

    # Load

    async def load(self, workload: Workload, delivery: Delivery = Delivery.MOUNTED) -> None:
        clock = PhaseClock(self.phases_ms)
        self.tenant, self.workload, self.revision = workload.tenant, workload, workload.revision
        ops = [_limits(workload.memory_mib)]
        if not workload.network:
            # A machine that was made ahead has its addresses already.
            ops.append({"op": "disconnect"})
        await self._size_scratch(workload.scratch_mib, ops)
        with _before_code():
            if delivery is Delivery.MOUNTED:
                # What the host does for the machine, and what the guest does without it, go on side by side.
                await asyncio.gather(self.resume(*ops), self._swap(workload.code.path))
                clock.mark("attach")
                mounts = (_MOUNT, _SPREAD) if workload.code.layered else (_MOUNT,)
                await asyncio.gather(self.agent.batch(*mounts), self._attach_network(workload))
                clock.mark("mount")
            else:
                await asyncio.gather(self.resume(*ops), self._attach_network(workload))
                clock.mark("attach")
                await self._copy(workload.code.path)
                if workload.code.layered:
                    await self.agent.batch(_SPREAD)
                clock.mark("copy")
        await self.channel.load(workload)
        clock.mark("init")
        self._settle(workload)

    async def wake(self, workload: Workload) -> None:
        """Take up a restored snapshot of ``workload``: it is loaded already."""
        clock = PhaseClock(self.phases_ms)
        self.tenant, self.workload, self.revision = workload.tenant, workload, workload.revision
        with _before_code():
            await asyncio.gather(self._attach_network(workload), self.resume(), self._swap(workload.code.path))
        clock.mark("attach")
        hook = self.channel.request(Kind.HOOK, b'{"hook":"after_restore"}', timeout_s=60)
        await asyncio.gather(self.agent.request("thaw"), hook)
        clock.mark("hook")
        self._settle(workload)

    async def prepare_to_save(self) -> None:
        """Run the hooks that come before the machine is saved and, where it holds a tenant's code, freeze that.

        The hook runs ten years ahead: OpenSSL's generators then hold a reseeding time that every restored clone finds
        in its future, which makes them reseed (``reseed_time_interval`` in OpenSSL's drbg.c).
        """
        ahead = self.personality() | {"time_ns": time.time_ns() + 10 * 365 * 86_400 * 10**9}
        await self.agent.batch(ahead)
        await self.channel.request(Kind.HOOK, b'{"hook":"before_snapshot"}', timeout_s=60)
        if self.workload is not None:
            # Adding an address is less work than replacing one, and that is what a restore waits for.
            await self.agent.batch({"op": "release_address"}, {"op": "freeze"})

    async def _swap(self, image: Path) -> None:
        fd = os.open(image, os.O_RDONLY | os.O_CLOEXEC)
        try:
            await self.machine.swap(CODE_DRIVE, fd, size=IMAGE_SIZE)
        finally:
            os.close(fd)

    async def _size_scratch(self, quota_mib: int, ops: list[dict[str, Any]]) -> None:
        """Make the scratch disk what the function may fill, where that is not what it is already."""
        if quota_mib == SMALLEST_MIB and self.start is not Start.BOOTED:
            return
        await self.machine.resize(SCRATCH_DRIVE, disk_bytes(quota_mib))
        if quota_mib > SMALLEST_MIB:
            ops.append({"op": "grow_scratch", "path": SCRATCH, "bytes": disk_bytes(quota_mib)})

    async def _attach_network(self, workload: Workload) -> None:
        tap = self.resources.tap
        if tap is not None and workload.network and self._network is not None:
            await self._network.attach(tap, workload.tenant)

    async def _copy(self, image: Path) -> None:
        """Send the package's files into the guest as a tar stream."""
        await self.agent.request("copy_begin", stream=1, path=TASK_ROOT)
        with tempfile.TemporaryFile() as archive:
            await to_the_end(_write_tar, image, archive)
            while chunk := await to_the_end(archive.read, _COPY_CHUNK):
                await self.agent.send_data(1, chunk)
        await self.agent.request("copy_end", stream=1, path=TASK_ROOT, timeout_s=120)

    def _settle(self, workload: Workload) -> None:
        """Limit and record what is loaded, beside its first invocation, which waits for neither."""

        def work() -> None:
            self._limit_cpu(workload)
            self.record("loaded")

        async def settle() -> None:
            try:
                await to_the_end(work)
            except (OSError, AlcoveError) as error:
                log.warning("sandbox %s is ended: it cannot be limited or recorded: %s", self.id, error)
                self._ended("killed")

        self._settling = asyncio.create_task(settle())

    def _limit_cpu(self, workload: Workload) -> None:
        share = workload.memory_mib / MEMORY_MIB_PER_VCPU
        self.resources.cgroup.set_limits(
            cpu_fraction=min(1.0, share * self.resources.cpu_scale), cpu_shares=max(2, int(1024 * share))
        )

    # Invocation

    async def invoke(self, invocation: Invocation) -> Outcome:
        try:
            return await self.channel.invoke(invocation)
        except SandboxGone as gone:
            # The exit report travels on the other channel; give it a moment to say why.
            for _ in range(20):
                if self._reason is not None:
                    break
                await asyncio.sleep(0.01)
            raise SandboxGone(str(gone), reason=self._reason or gone.reason) from gone

    def memory_peak_mib(self) -> int | None:
        return self._peak_mib

    async def measure(self) -> None:
        with contextlib.suppress(SandboxError, TimeoutError):
            self._note_peak(await self.agent.request("memory", timeout_s=MEASURE_S))

    def _note_peak(self, said: dict[str, Any]) -> None:
        """Take what the agent says, if it can be: a number of any size would break who adds them up."""
        peak = said.get("peak_mib")
        if isinstance(peak, int) and 0 < peak <= GUEST_FREE_MIB:
            self._peak_mib = peak

    # Ends

    def _on_log(self, process: int, stream: int, data: bytes) -> None:
        self._log(stream, data)

    def _on_event(self, event: dict[str, Any]) -> None:
        if event.get("event") == "memory":
            self._note_peak(event)
        elif event.get("event") == "exit" and event.get("runtime", True):
            self._ended(str(event.get("reason", "exited")))

    async def _watch_process(self) -> None:
        how = await self.machine.ended()
        if self._reason is None:
            log.warning("sandbox %s: %s", self.id, how)
        self._ended("killed")

    async def end(self, reason: str) -> None:
        """End it because of the host, and tell whoever uses it why."""
        self._ended(reason)
        await self.close()

    def _ended(self, reason: str) -> None:
        if self._reason is None and not self._closed:
            self._reason = reason
            if self._channel is not None:
                self._channel.fail(SandboxGone(f"the runtime ended: {reason}", reason=reason))
            self._exit(reason)

    def record(self, step: str) -> None:
        """Write down what this sandbox is, so that a later daemon can adopt or reap it."""
        resources = self.resources
        self._records.write(
            self.id,
            {
                "tier": str(self.isolation),
                "step": step,
                "user": resources.user,
                "runtime": str(self.runtime),
                "start": str(self.start),
                "address": resources.tap.address if resources.tap else None,
                "tenant": self.tenant,
                "revision": self.revision,
                "process": resources.machine.process.identity.to_json() if resources.machine else None,
            },
        )

    async def close(self) -> None:
        """Free everything; a caller that is cancelled does not cut it short, and a second one waits for the first."""
        if self._ending is None:
            self.detach()
            self._ending = asyncio.ensure_future(self._destroy())
        await asyncio.shield(self._ending)

    async def _destroy(self) -> None:
        await self.settled()
        await destroy(self.resources, self._network, self._records)
        self._release(self)

    async def leave(self) -> None:
        """Let go of it without ending it: the daemon stops, a later one adopts it."""
        await self.settled()
        self.detach()
        self.resources.close_scratch()
        if self.resources.machine is not None:
            await self.resources.machine.detach()

    async def settled(self) -> None:
        """Wait until what is loaded is limited and recorded."""
        if self._settling is not None:
            await asyncio.wait({self._settling})

    def detach(self) -> None:
        """Let go of its channels."""
        self._closed = True
        if self._watch is not None:
            self._watch.cancel()
        for connection in (self._agent, self._channel):
            if connection is not None:
                connection.close()


@contextlib.contextmanager
def _before_code() -> Iterator[None]:
    """No tenant code runs in the block: a machine that is lost there can be made up for."""
    try:
        yield
    except SandboxGone as gone:
        raise SandboxLost(str(gone), reason="killed") from gone


def personality(id: SandboxId, network: dict[str, Any] | None, hostname: str = "") -> dict[str, Any]:
    """Return the agent's operation that makes a clone unlike any other."""
    return {
        "op": "personalise",
        "entropy": secrets.token_hex(64),
        "time_ns": time.time_ns(),
        "hostname": hostname or f"alcove-{id[2:]}",
        "machine_id": secrets.token_hex(16),
        "boot_id": str(uuid.uuid4()),
        "network": network,
    }


def _limits(memory_mib: int) -> dict[str, Any]:
    return {"op": "limits", "memory_mib": memory_mib, "pids": GUEST_PIDS}


def _write_tar(image: Path, archive: IO[bytes]) -> None:
    """Write the package's files as a tar archive and go to its start. (sqfs2tar is no package of Debian 12's base:
    unsquashfs unpacks.)
    """
    with tempfile.TemporaryDirectory(prefix="alcove-copy-") as work:
        root = Path(work) / "root"
        subprocess.run(
            ["/usr/bin/unsquashfs", "-q", "-n", "-no-xattrs", "-d", str(root), str(image)],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar:
            tar.add(root, arcname=".")
    archive.seek(0)


_REHEARSAL = (
    b'{"handler":"rehearsal.handler","task_root":"/var/task","environment":{},"function_name":"rehearsal","version":"1",'
    b'"arn":"arn:alcove:rehearsal","memory_mib":128,"timeout_s":3,"log_group":"","log_stream":"","rehearsal":true}'
)


def _rehearsal_invocation() -> Invocation:
    return Invocation("rehearsal", b'{"rehearsal":true}', int(time.time() * 1000) + 3000)
