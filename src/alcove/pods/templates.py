"""Templates of pods' machines: one for each count of virtual processors and class of memory, made when first needed."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

from alcove.errors import SandboxError
from alcove.host.memory import create_memory
from alcove.images.scratch import SMALLEST_MIB, disk_bytes
from alcove.pods.host import PodHost
from alcove.pods.interfaces import Interface, Route
from alcove.pods.launcher import FAMILY, PodLauncher
from alcove.pods.model import GUEST_OWN_MIB, NetworkModel, PodSpec
from alcove.pods.personality import MOUNT_SCRATCH, personality
from alcove.sandbox.agent import AgentClient
from alcove.sandbox.shelf import Shelf
from alcove.sandbox.templates import BOOT_TIMEOUT_S, REHEARSALS, SETTLE_S
from alcove.vmm.spec import DISK_QUEUE, IMAGE_QUEUE, KERNEL_COMMAND_LINE, MIB, DeviceModel
from alcove.vmm.template import MachineStore, SavedMachine, machine_key

log = logging.getLogger(__name__)

# Bump when what a pod's saved machine holds changes.
FORMAT = 3
# Addresses that are nobody's (RFC 5737), by which a template's machine rehearses its own network.
_SAMPLE = Interface("eth0", 0, "02:00:00:00:00:02", 1500, ("192.0.2.2/24",), (Route("0.0.0.0/0", "192.0.2.1"),))


class PodTemplates:
    """Owner of the folder of pods' templates."""

    def __init__(self, launcher: PodLauncher, folder: Path) -> None:
        self.shelf = Shelf(MachineStore(folder))
        self._launcher = launcher

    def key(self, vcpus: int, memory_class: int) -> str:
        engine = self._launcher.engine
        kind = engine.accelerator.kind
        return machine_key(
            model=str(DeviceModel.INSTANCE),
            format=FORMAT,
            slots=[IMAGE_QUEUE, DISK_QUEUE],
            image=engine.images.family_digest(FAMILY),
            qemu=engine.jail.digest,
            accelerator=str(kind),
            cpu=kind.cpu(),
            vcpus=vcpus,
            memory_mib=memory_class,
            command_line=KERNEL_COMMAND_LINE,
        )

    async def get(self, vcpus: int, memory_class: int) -> SavedMachine:
        """Return the template, made where there is none, its guest image too. Raises ``SandboxError``,
        ``CapacityError``, ``HostError``.
        """
        await self._launcher.engine.images.get_family(FAMILY)
        key = self.key(vcpus, memory_class)
        return await self.shelf.obtain(key, lambda: self._build(key, vcpus, memory_class))

    async def _build(self, key: str, vcpus: int, memory_class: int) -> SavedMachine:
        log.info("template of pods with %d processors, %d MiB: booting a machine to save", vcpus, memory_class)
        memory = create_memory(f"alcove-{key[:8]}", memory_class * MIB)
        try:
            state, scratch = await self._boot(key, memory, vcpus, memory_class)
            os.ftruncate(scratch, disk_bytes(SMALLEST_MIB))
            try:
                facts = {"vcpus": vcpus, "memory_mib": memory_class}
                saved = await self.shelf.save(key, memory, state, facts, scratch)
            finally:
                os.close(scratch)
        except BaseException:
            os.close(memory)
            raise
        log.info("template of pods: saved, %d MiB", saved.memory_bytes() >> 20)
        return saved

    async def _boot(self, key: str, memory: int, vcpus: int, memory_class: int) -> tuple[bytes, int]:
        """Return the device state and the scratch disk of a machine that has booted and rehearsed."""
        spec = PodSpec(
            pod=f"template-{key}",
            namespace="",
            netns=None,
            hostname="alcove",
            cpus=vcpus,
            memory_mib=memory_class - GUEST_OWN_MIB,
            disk_mib=SMALLEST_MIB,
            network=NetworkModel.TC_FILTER,
        )
        launcher = self._launcher
        host = launcher.prepare(spec)
        scratch = -1
        try:
            empty = launcher.engine.empty_scratch_fd
            scratch = await launcher.launch(
                host, memory_fd=memory, scratch_fd=empty, tap_fd=None, share=True, boot=True
            )
            await _rehearse(host)
            assert host.machine is not None
            return await host.machine.saved_state(), scratch
        except BaseException as error:
            if host.machine is not None and isinstance(error, SandboxError):
                log.warning("template of pods failed: %s\n%s", error, (await host.machine.console())[-2000:])
            if scratch >= 0:
                os.close(scratch)
            raise
        finally:
            await host.free(launcher.engine.users)


async def _rehearse(host: PodHost) -> None:
    """Bring a booted machine to where every restored one goes on, each path run warm."""
    agent = await AgentClient.connect(host.agent_socket)
    try:
        await agent.hello(BOOT_TIMEOUT_S)
        await agent.batch(MOUNT_SCRATCH)
        for _ in range(REHEARSALS):
            await agent.batch(personality(host, _SAMPLE), {"op": "release_address"})
            await agent.request("rehearse", timeout_s=BOOT_TIMEOUT_S)
        await asyncio.sleep(SETTLE_S)
        assert host.machine is not None
        await host.machine.pause()
    finally:
        agent.close()
