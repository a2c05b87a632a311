"""Launches machines: a QEMU in its jail, connected to, which boots or waits for a state.

The launcher owns every machine that lives, the users they run as and their records; what it cannot launch whole it
frees again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from alcove.errors import CapacityError
from alcove.host.cgroup import Cgroup
from alcove.host.files import private_folder
from alcove.host.io_uring import io_uring_works
from alcove.host.network import Network
from alcove.host.resources import start_failure
from alcove.host.threads import to_the_end
from alcove.images.code import IMAGE_SIZE
from alcove.images.guest import GuestImage
from alcove.images.kernels import KernelStore
from alcove.images.scratch import LARGEST_MIB, SMALLEST_MIB, disk_bytes
from alcove.sandbox.guest_images import GuestImages
from alcove.sandbox.protocol import Runtime, SandboxId, Start
from alcove.sandbox.record import RecordStore, new_id
from alcove.sandbox.scratch_guard import DiskUser
from alcove.sandbox.users import MachineUsers
from alcove.sandbox.vm import CODE_DRIVE, SCRATCH_DRIVE, VmSandbox
from alcove.sandbox.vm_resources import VmResources, destroy
from alcove.vmm.accelerator import Accelerator
from alcove.vmm.jail import Jail
from alcove.vmm.machine import Machine
from alcove.vmm.qmp import listen
from alcove.vmm.spec import (
    KERNEL_COMMAND_LINE,
    MIB,
    AcceleratorKind,
    Boot,
    Channel,
    DiskIo,
    DiskLimits,
    Drive,
    MachineSpec,
)

# The largest function (3,008 MB) and what the guest's kernel and agent need. The file is sparse and shared: one
# template serves every size, and cgroups inside and outside hold each function to its own.
MEMORY_MIB = 3328
# Outside a function's own limit: QEMU itself, its translation buffer, the guest's kernel.
OVERHEAD_MIB = 512
HOST_PIDS = 64
# Emulation takes 10 to 30 times the processor time for the same work. A function is limited to its share of work, not
# of time, or the smallest would take a minute to start; among themselves functions keep the proportion by their
# weights.
EMULATION_COST = 10.0


# A scratch disk's share of the host's: several of them at once leave room for what the host itself does.
SCRATCH_LIMITS = DiskLimits(bytes_per_s=256 * MIB, requests_per_s=20_000)


class BootFiles(NamedTuple):
    """What a machine that is not restored boots."""

    kernel: Path
    initrd: Path
    command_line: str


class Launcher:
    """See the module's docstring. ``live`` holds every machine that was launched and not released yet."""

    def __init__(
        self,
        *,
        state: Path,
        tag: str,
        images: GuestImages,
        jail: Jail,
        accelerator: Accelerator,
        network: Network | None,
        rehearsal_image: Path,
        empty_scratch_fd: int,
    ) -> None:
        self.empty_scratch_fd = empty_scratch_fd
        self.tag = tag
        self.images = images
        self.kernels = KernelStore(state / "kernels")
        self.jail = jail
        self.accelerator = accelerator
        self.network = network
        self.records = RecordStore(private_folder(state / "sandboxes"))
        self.live: set[VmSandbox] = set()
        # Who else has machines with disks adds itself.
        self.disk_users: list[Callable[[], Iterable[DiskUser]]] = [lambda: self.live]
        self.closing = False
        self._launching = 0
        self._launched = asyncio.Event()
        self._launched.set()
        self.rehearsal_image = rehearsal_image
        self.cpu_scale = EMULATION_COST if accelerator.kind is AcceleratorKind.TCG else 1.0
        self.disk_io = DiskIo.IO_URING if io_uring_works() else DiskIo.THREADS
        self.users = MachineUsers(tag)

    async def launch(
        self,
        runtime: Runtime,
        start: Start,
        *,
        memory_fd: int,
        scratch_fd: int | None,
        share: bool = False,
        boot: bool = False,
        network: bool = True,
        kernel: str = "",
    ) -> VmSandbox:
        """Launch a machine and connect to it; everything is freed again where that fails.

        Its scratch disk is a copy of ``scratch_fd``; for a machine that boots, in a file of the largest size: so
        large the guest's kernel, and all that are restored from it, believe the disk to be. ``share`` lets it write to
        ``memory_fd`` itself, else it maps the memory privately. ``kernel`` is the digest of
        the kernel that it boots, "" for the image's.
        """
        if self.closing:
            raise CapacityError("the service is stopping")
        self._launching += 1
        self._launched.clear()
        try:
            sandbox = await self._launch(
                runtime, start, memory_fd, scratch_fd, share=share, boot=boot, network=network, kernel=kernel
            )
        finally:
            self._launching -= 1
            if not self._launching:
                self._launched.set()
        return sandbox

    async def _launch(
        self,
        runtime: Runtime,
        start: Start,
        memory_fd: int,
        scratch_fd: int | None,
        *,
        share: bool,
        boot: bool,
        network: bool,
        kernel: str,
    ) -> VmSandbox:
        id = new_id()
        user = self.users.take()
        try:
            folder = self.records.create(id, {"tier": "vm", "step": "launching", "user": user})
        except BaseException:
            self.users.free(user)
            raise
        resources = VmResources(id, folder, Cgroup(self.tag, id), user, cpu_scale=self.cpu_scale)
        sandbox: VmSandbox | None = None
        try:
            await to_the_end(resources.cgroup.create)
            resources.cgroup.set_limits(memory_bytes=(MEMORY_MIB + OVERHEAD_MIB) * MIB, pids=HOST_PIDS)
            if scratch_fd is not None:
                size = disk_bytes(LARGEST_MIB) if boot else os.fstat(scratch_fd).st_size
                await to_the_end(resources.copy_scratch, scratch_fd, size)
            if network and self.network is not None:
                resources.tap = await self.network.tap()
            image = await self.images.get(runtime)
            files = await to_the_end(self.boot_files, image, kernel) if boot else None
            resources.machine = await self._start_machine(resources, image, memory_fd, share=share, boot=files)
            if resources.tap is not None:
                resources.tap.close()
            sandbox = self.sandbox(resources, runtime, start)
            sandbox.record("launched")
            await sandbox.connect()
            if self.closing:
                raise CapacityError("the service is stopping")
        except BaseException as error:
            if sandbox is not None:
                sandbox.detach()
            await destroy(resources, self.network, self.records)
            self.users.free(user)
            if isinstance(error, OSError):
                raise start_failure(error, "machine") from error
            raise
        self.live.add(sandbox)
        return sandbox

    def sandbox(self, resources: VmResources, runtime: Runtime, start: Start) -> VmSandbox:
        """Return the sandbox of a machine that runs: launched now, or by an earlier daemon."""
        return VmSandbox(
            resources,
            runtime,
            start,
            network=self.network,
            records=self.records,
            rehearsal_image=self.rehearsal_image,
            release=self._released,
        )

    def adopted(self, sandbox: VmSandbox) -> None:
        """Own a machine that an earlier daemon launched."""
        self.users.claim(sandbox.resources.user)
        self.live.add(sandbox)

    def resources(self, id: SandboxId, user: int, machine: Machine) -> VmResources:
        """Return what a machine of an earlier daemon owns, less its tap."""
        return VmResources(
            id, self.records.folder / id, Cgroup(self.tag, id), user, None, machine, cpu_scale=self.cpu_scale
        )

    async def close(self, keep: Callable[[VmSandbox], bool]) -> None:
        """Launch no more. Destroy every machine but those to ``keep``, which a later daemon adopts. What is being
        launched meanwhile is destroyed too.
        """
        self.closing = True
        await self._launched.wait()
        for sandbox in list(self.live):
            if keep(sandbox):
                await sandbox.leave()
            else:
                await sandbox.close()

    def boot_files(self, image: GuestImage, kernel: str) -> BootFiles:
        """Return what a machine boots: the image's kernel, or the one of that digest. For a thread. Raises
        ``NotFound``.
        """
        if not kernel:
            return BootFiles(image.kernel, image.initrd, KERNEL_COMMAND_LINE)
        found = self.kernels.find(kernel)
        command_line = f"{KERNEL_COMMAND_LINE} {found.append}".strip()
        return BootFiles(found.vmlinuz, self.kernels.initrd_of(found, image), command_line)

    async def _start_machine(
        self, resources: VmResources, image: GuestImage, memory_fd: int, *, share: bool, boot: BootFiles | None
    ) -> Machine:
        with contextlib.ExitStack() as stack:
            sockets = {
                name: stack.enter_context(listen(resources.folder / f"{name}.sock"))
                for name in ("qmp", "agent", "invoke")
            }

            def open_file(path: Path) -> int:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                stack.callback(os.close, fd)
                return fd

            spec = self.spec(
                resources.id,
                memory_fd,
                open_file(image.root),
                sockets,
                share=share,
                boot=None if boot is None else Boot(open_file(boot.kernel), open_file(boot.initrd), boot.command_line),
                scratch_fd=resources.scratch_fd,
                tap_fd=resources.tap.fd if resources.tap is not None else None,
            )
            return await Machine.launch(
                spec,
                self.jail,
                user=resources.user,
                cgroup_files=resources.cgroup.procs_files(),
                monitor_path=resources.folder / "qmp.sock",
            )

    def spec(
        self,
        name: str,
        memory_fd: int,
        root_fd: int,
        sockets: Mapping[str, socket.socket],
        *,
        share: bool = False,
        scratch_fd: int | None = None,
        boot: Boot | None = None,
        tap_fd: int | None = None,
    ) -> MachineSpec:
        """Return the machine that fits every saved state of this engine."""
        return MachineSpec(
            name=name,
            accelerator=self.accelerator.kind,
            memory_mib=MEMORY_MIB,
            memory_fd=memory_fd,
            share=share,
            drives=(
                Drive("root", root_fd),
                Drive(CODE_DRIVE, None, size=IMAGE_SIZE),
                Drive(SCRATCH_DRIVE, scratch_fd, disk_bytes(SMALLEST_MIB), read_only=False, limits=SCRATCH_LIMITS),
            ),
            channels=(
                Channel("alcove.agent", sockets["agent"].fileno()),
                Channel("alcove.invoke", sockets["invoke"].fileno()),
            ),
            qmp_fd=sockets["qmp"].fileno(),
            tap_fd=tap_fd,
            boot=boot,
            disk_io=self.disk_io,
        )

    def _released(self, sandbox: VmSandbox) -> None:
        self.live.discard(sandbox)
        self.users.free(sandbox.resources.user)
