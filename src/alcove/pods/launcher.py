"""Launches the machines of pods: device model ``instance``, in a jail, with a scratch disk of the pod's quota."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from alcove.errors import CapacityError
from alcove.host.cgroup import Cgroup
from alcove.host.files import private_folder, unnamed_file
from alcove.host.memory import copy_sparse
from alcove.host.resources import start_failure
from alcove.host.threads import to_the_end
from alcove.images.families import Family
from alcove.images.guest import GuestImage
from alcove.images.scratch import LARGEST_MIB, disk_bytes
from alcove.pods.host import PodHost, new_pod_id, open_read_only
from alcove.pods.model import PodSpec
from alcove.sandbox.record import RecordStore
from alcove.sandbox.vm_launcher import OVERHEAD_MIB, SCRATCH_LIMITS, BootFiles, Launcher
from alcove.vmm.machine import Machine
from alcove.vmm.qmp import listen
from alcove.vmm.spec import (
    DISK_TUNING,
    KERNEL_COMMAND_LINE,
    MIB,
    Boot,
    Channel,
    DeviceModel,
    DiskTuning,
    Drive,
    MachineSpec,
    instance_slots,
)
from alcove.wire.streams import CHANNEL

FAMILY = Family.POD
SCRATCH = "scratch"
# A disk of a pod's may be this large; the jail lets no file grow beyond it.
LARGEST_DISK = 64 << 30
# IPv6 is there, and has no addresses but the loopback's until a pod's network has some: nothing is sent of its own.
_IPV6 = ("ipv6.disable=1", "ipv6.disable_ipv6=1")
COMMAND_LINE = KERNEL_COMMAND_LINE.replace(*_IPV6)
# The VMM's own threads, and one for each request to the disks.
HOST_PIDS = 128


class PodLauncher:
    """What of the engine's launcher is the same for all machines comes from there."""

    def __init__(self, engine: Launcher, state: Path, tuning: DiskTuning = DISK_TUNING) -> None:
        self.engine = engine
        self.records = RecordStore(private_folder(state / "pods"))
        self.tuning = tuning

    def prepare(self, spec: PodSpec) -> PodHost:
        """Take what a pod needs a record of, and write that. Raises ``CapacityError``."""
        user = self.engine.users.take()
        id = new_pod_id()
        try:
            folder = self.records.create(id, {"step": "launching"})
            host = PodHost(id, spec, folder, Cgroup(self.engine.tag, id), user, self.records)
            host.record()
        except BaseException:
            self.engine.users.free(user)
            self.records.remove(id)
            raise
        return host

    async def launch(
        self, host: PodHost, *, cards: int, memory_fd: int, scratch_fd: int, share: bool = False, boot: bool
    ) -> int:
        """Start the pod's QEMU with the host's taps, ``cards`` or none; it boots or waits for a state. Return a
        descriptor of its scratch disk, the caller's. Raises ``CapacityError``, ``HostError``, ``SandboxError``; the
        caller frees the host then.
        """
        if self.engine.closing:
            raise CapacityError("the service is stopping")
        try:
            return await self._launch(host, cards, memory_fd, scratch_fd, share=share, boot=boot)
        except OSError as error:
            raise start_failure(error, "machine") from error

    async def _launch(
        self, host: PodHost, cards: int, memory_fd: int, scratch_fd: int, *, share: bool, boot: bool
    ) -> int:
        spec = host.spec
        await to_the_end(host.cgroup.create)
        host.cgroup.set_limits(pids=HOST_PIDS)
        self.limit_memory(host)
        image = await self.engine.images.get_family(FAMILY)
        size = disk_bytes(LARGEST_MIB if boot else spec.disk_mib)
        scratch = await to_the_end(_copy_scratch, host.folder, scratch_fd, size)
        try:
            host.machine = await self._start(host, image, cards, memory_fd, scratch, share=share, boot=boot)
            host.process = host.machine.process.identity
            host.record()
        except BaseException:
            os.close(scratch)
            raise
        return scratch

    async def _start(
        self,
        host: PodHost,
        image: GuestImage,
        cards: int,
        memory_fd: int,
        scratch_fd: int,
        *,
        share: bool,
        boot: bool,
    ) -> Machine:
        with contextlib.ExitStack() as stack:
            paths = (host.monitor_socket, host.agent_socket, host.streams_socket)
            qmp, agent, streams = (stack.enter_context(listen(path)) for path in paths)

            def open_file(path: Path) -> int:
                fd = open_read_only(path)
                stack.callback(os.close, fd)
                return fd

            engine, spec = self.engine, host.spec
            files = await to_the_end(engine.boot_files, image, spec.kernel) if boot else None
            taps = tuple(tap.fd for tap in host.taps) or (None,) * cards
            machine = MachineSpec(
                name=host.id,
                accelerator=engine.accelerator.kind,
                memory_mib=spec.memory_class,
                memory_fd=memory_fd,
                share=share,
                drives=(
                    Drive("root", open_file(image.root)),
                    Drive(SCRATCH, scratch_fd, read_only=False, limits=SCRATCH_LIMITS),
                    *instance_slots(),
                ),
                channels=(Channel("alcove.agent", agent.fileno()), Channel(CHANNEL, streams.fileno())),
                qmp_fd=qmp.fileno(),
                tap_fd=taps[0],
                more_taps=taps[1:],
                boot=None if files is None else _boot(files, open_file),
                model=DeviceModel.INSTANCE,
                vcpus=spec.vcpus,
                disk_io=engine.disk_io,
                tuning=self.tuning,
            )
            launched = await Machine.launch(
                machine,
                engine.jail,
                user=host.user,
                cgroup_files=host.cgroup.procs_files(),
                monitor_path=host.monitor_socket,
                largest_file=LARGEST_DISK,
            )
            for tap in host.taps:
                tap.close()
            return launched

    def limit_memory(self, host: PodHost) -> None:
        host.cgroup.set_limits(memory_bytes=(host.spec.memory_mib + OVERHEAD_MIB) * MIB)

    def yield_cpu(self, host: PodHost) -> None:
        """Let every other machine go first."""
        host.cgroup.set_limits(cpu_shares=2)

    def limit_cpu(self, host: PodHost) -> None:
        """Hold the machine to the pod's processors, in work rather than time (see ``vm_launcher.EMULATION_COST``)."""
        cpus = host.spec.cpus
        host.cgroup.set_limits(
            cpu_fraction=min(float(host.spec.vcpus), cpus * self.engine.cpu_scale), cpu_shares=max(2, int(1024 * cpus))
        )


def _boot(files: BootFiles, open_file: Callable[[Path], int]) -> Boot:
    return Boot(open_file(files.kernel), open_file(files.initrd), files.command_line.replace(*_IPV6))


def _copy_scratch(folder: Path, source: int, size: int) -> int:
    fd = unnamed_file(folder, size)
    try:
        copy_sparse(source, fd)
    except BaseException:
        os.close(fd)
        raise
    return fd
