"""Templates of pods' machines: one for each shape (virtual processors, class of memory, network cards), made when first
needed.
"""

from __future__ import annotations

import asyncio
import io
import logging
import os
import tarfile
from pathlib import Path

from alcove.errors import SandboxError
from alcove.host.memory import create_memory
from alcove.images.scratch import SMALLEST_MIB, disk_bytes
from alcove.pods.host import PodHost
from alcove.pods.interfaces import Interface, Route
from alcove.pods.launcher import COMMAND_LINE, FAMILY, PodLauncher
from alcove.pods.personality import MOUNT_SCRATCH, personality
from alcove.pods.shape import Shape
from alcove.sandbox.agent import AgentClient
from alcove.sandbox.shelf import Shelf
from alcove.sandbox.templates import BOOT_TIMEOUT_S, REHEARSALS, SETTLE_S
from alcove.vmm.spec import DISK_QUEUE, IMAGE_QUEUE, MIB, DeviceModel
from alcove.vmm.template import MachineStore, SavedMachine, machine_key

log = logging.getLogger(__name__)

# Bump when what a pod's saved machine holds changes.
FORMAT = 5
# Addresses that are nobody's (RFC 5737), by which a template's machine rehearses its own network.
_SAMPLE = Interface("eth0", 0, "02:00:00:00:00:02", 1500, ("192.0.2.2/24",), (Route("0.0.0.0/0", "192.0.2.1"),))
# What a container's rehearsal is shown, as others their hosts and resolv.conf.
_STREAM, _FILE_BYTES = 1, 200


class PodTemplates:
    """Owner of the folder of pods' templates."""

    def __init__(self, launcher: PodLauncher, folder: Path) -> None:
        self.shelf = Shelf(MachineStore(folder))
        self._launcher = launcher

    def key(self, shape: Shape) -> str:
        engine = self._launcher.engine
        kind = engine.accelerator.kind
        return machine_key(
            model=str(DeviceModel.INSTANCE),
            format=FORMAT,
            slots=[IMAGE_QUEUE, DISK_QUEUE],
            tuning=repr(self._launcher.tuning),
            image=engine.images.family_digest(FAMILY),
            qemu=engine.jail.digest,
            accelerator=str(kind),
            cpu=kind.cpu(),
            vcpus=shape.vcpus,
            memory_mib=shape.memory_class,
            cards=shape.cards,
            command_line=COMMAND_LINE,
            **({"kernel": shape.kernel} if shape.kernel else {}),
        )

    async def get(self, shape: Shape) -> SavedMachine:
        """Return the template, made where there is none, its guest image too. Raises ``SandboxError``,
        ``CapacityError``, ``HostError``, ``NotFound`` where there is no such kernel.
        """
        await self._launcher.engine.images.get_family(FAMILY)
        key = self.key(shape)
        return await self.shelf.obtain(key, lambda: self._build(key, shape))

    async def _build(self, key: str, shape: Shape) -> SavedMachine:
        log.info("template of pods with %d processors, %d MiB, %d cards: booting a machine to save", *shape[:3])
        memory = create_memory(f"alcove-{key[:8]}", shape.memory_class * MIB)
        try:
            state, scratch = await self._boot(memory, shape)
            os.ftruncate(scratch, disk_bytes(SMALLEST_MIB))
            try:
                facts = {"vcpus": shape.vcpus, "memory_mib": shape.memory_class, "cards": shape.cards}
                saved = await self.shelf.save(key, memory, state, facts, scratch)
            finally:
                os.close(scratch)
        except BaseException:
            os.close(memory)
            raise
        log.info("template of pods: saved, %d MiB", saved.memory_bytes() >> 20)
        return saved

    async def _boot(self, memory: int, shape: Shape) -> tuple[bytes, int]:
        """Return the device state and the scratch disk of a machine that has booted and rehearsed."""
        launcher = self._launcher
        host = launcher.prepare(shape.vacant(SMALLEST_MIB))
        scratch = -1
        try:
            empty = launcher.engine.empty_scratch_fd
            scratch = await launcher.launch(
                host, cards=shape.cards, memory_fd=memory, scratch_fd=empty, share=True, boot=True
            )
            await _bring_up(host)
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


async def _bring_up(host: PodHost) -> None:
    """Bring a booted machine to where every restored one goes on, each path run warm."""
    agent = await AgentClient.connect(host.agent_socket)
    try:
        await agent.hello(BOOT_TIMEOUT_S)
        await agent.batch(MOUNT_SCRATCH)
        for _ in range(REHEARSALS):
            await rehearse(host, agent)
        await asyncio.sleep(SETTLE_S)
        await host.running().pause()
    finally:
        agent.close()


async def rehearse(host: PodHost, agent: AgentClient) -> None:
    """Take the paths of a pod's first seconds; nothing is left but what is warm."""
    await agent.batch(personality(host, (_SAMPLE,)), {"op": "release_address"})
    await rehearse_container(agent)


async def rehearse_container(agent: AgentClient) -> None:
    """Make and remove a container of the guest's own, with files as each of containerd's has."""
    await agent.request("copy_begin", stream=_STREAM, path="")
    await agent.send_data(_STREAM, _files())
    await agent.request("rehearse", timeout_s=BOOT_TIMEOUT_S, stream=_STREAM)


def _files() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("0", "1", "2"):
            info = tarfile.TarInfo(name)
            info.size = _FILE_BYTES
            archive.addfile(info, io.BytesIO(bytes(_FILE_BYTES)))
    return buffer.getvalue()
