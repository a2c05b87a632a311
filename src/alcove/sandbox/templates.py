"""Templates: for each runtime one machine, booted and rehearsed once, then saved; all others are restored from it.

It is built on shared memory that is sealed afterwards; restored machines map it privately. Its name tells all that it
depends on, so a change of any of that gives another one.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from alcove.errors import SandboxError
from alcove.host.memory import create_memory
from alcove.images.code import IMAGE_SIZE
from alcove.images.scratch import SMALLEST_MIB, disk_bytes
from alcove.sandbox.protocol import Runtime, Start
from alcove.sandbox.record import new_id
from alcove.sandbox.shelf import Shelf
from alcove.sandbox.vm import CODE_DRIVE, VmSandbox, personality
from alcove.sandbox.vm_launcher import MEMORY_MIB, Launcher
from alcove.vmm.spec import KERNEL_COMMAND_LINE, MIB
from alcove.vmm.template import MachineStore, SavedMachine, machine_key

log = logging.getLogger(__name__)

BOOT_TIMEOUT_S = 120.0
# How many times a template's machine rehearses before it is saved: the second finds the paths of the first warm.
REHEARSALS = 2
# What the guest's kernel has put off (RCU callbacks, work queues) it does before it is saved: else each restored
# machine would do it, before its first answer.
SETTLE_S = 1.0
# Bump when the engine changes what a saved machine holds.
ENGINE = 2


class Templates:
    """Owner of the folder of templates."""

    def __init__(self, launcher: Launcher, folder: Path) -> None:
        self.shelf = Shelf(MachineStore(folder))
        self._launcher = launcher

    def key(self, runtime: Runtime, kernel: str = "") -> str:
        """``kernel`` is the digest of a kernel of its own, "" for the image's."""
        launcher = self._launcher
        kind = launcher.accelerator.kind
        return machine_key(
            engine=ENGINE,
            image=launcher.images.digest(runtime),
            qemu=launcher.jail.digest,
            accelerator=str(kind),
            cpu=kind.cpu(),
            memory_mib=MEMORY_MIB,
            command_line=KERNEL_COMMAND_LINE,
            runtime=str(runtime),
            **({"kernel": kernel} if kernel else {}),
        )

    async def get(
        self, runtime: Runtime, progress: Callable[[str], None] = log.info, *, kernel: str = ""
    ) -> SavedMachine:
        """Return the template of runtime and kernel, made where there is none, its guest image too. Raises
        ``SandboxError``, ``CapacityError``, ``HostError``, ``NotFound`` where there is no such kernel.
        """
        await self._launcher.images.get(runtime, progress)
        key = self.key(runtime, kernel)

        async def make() -> SavedMachine:
            progress(f"template {runtime}: booting a machine to save")
            made = await self._build(runtime, key, kernel)
            progress(f"template {runtime}: saved, {made.memory_bytes() >> 20} MiB")
            return made

        return await self.shelf.obtain(key, make)

    async def discard(self, saved: SavedMachine) -> None:
        """Drop a template that does not fit, unless another has taken its place."""
        await self.shelf.discard(saved)

    async def retain_current(self) -> None:
        """Remove the templates of other images, accelerators and QEMUs, and of kernels that are gone."""
        kernels = ["", *(kernel.digest for kernel in self._launcher.kernels.all())]
        await self.shelf.retain({self.key(runtime, kernel) for runtime in Runtime for kernel in kernels})

    async def _build(self, runtime: Runtime, key: str, kernel: str) -> SavedMachine:
        memory = create_memory(f"alcove-{key[:8]}", MEMORY_MIB * MIB)
        try:
            # Without a tap: the state must fit machines with and without a network.
            sandbox = await self._launcher.launch(
                runtime,
                Start.BOOTED,
                memory_fd=memory,
                scratch_fd=self._launcher.empty_scratch_fd,
                share=True,
                boot=True,
                network=False,
                kernel=kernel,
            )
            try:
                await sandbox.boot(BOOT_TIMEOUT_S)
                for _ in range(REHEARSALS):
                    await sandbox.agent.batch(self.sample_personality(), {"op": "release_address"})
                    sandbox.personalised = True
                    await sandbox.rehearse()
                state, scratch = await save(sandbox)
            except SandboxError as error:
                console = await sandbox.machine.console()
                log.warning("template %s failed: %s\n%s", runtime, error, console[-2000:])
                raise
            finally:
                await sandbox.close()
            os.ftruncate(scratch, disk_bytes(SMALLEST_MIB))
            launcher = self._launcher
            facts = {"runtime": str(runtime), "image": launcher.images.digest(runtime), "qemu": launcher.jail.digest}
            facts |= {"kernel": kernel} if kernel else {}
            try:
                return await self.shelf.save(key, memory, state, facts, scratch)
            finally:
                os.close(scratch)
        except BaseException:
            os.close(memory)
            raise

    def sample_personality(self) -> dict[str, Any]:
        """Return a machine's personalising, with an address that is nobody's."""
        network = self._launcher.network
        return personality(new_id(), None if network is None else network.sample_config())


async def save(sandbox: VmSandbox) -> tuple[bytes, int]:
    """Bring the guest to rest and return the device state and a descriptor, the caller's from now on, of its scratch
    disk; the memory is complete then.
    """
    await sandbox.prepare_to_save()
    await asyncio.sleep(SETTLE_S)
    await sandbox.machine.pause()
    await sandbox.machine.swap(CODE_DRIVE, None, size=IMAGE_SIZE)
    await sandbox.machine.drop_unused()
    return await sandbox.machine.saved_state(), sandbox.resources.duplicate_scratch()
