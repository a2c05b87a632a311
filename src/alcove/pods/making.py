"""Makes machines for pods: restored from the template of their shape, or booted where that does not fit; and those that
wait for a pod, restored and warm.
"""

from __future__ import annotations

import logging
import os

from alcove.host.memory import copy_sparse, create_memory
from alcove.host.threads import to_the_end
from alcove.images.image_disk import descriptor, image_disk
from alcove.images.scratch import SMALLEST_MIB, disk_bytes
from alcove.pods import network
from alcove.pods.host import PodHost
from alcove.pods.launcher import PodLauncher
from alcove.pods.model import NetworkModel
from alcove.pods.network import Takeover
from alcove.pods.personality import MOUNT_SCRATCH
from alcove.pods.shape import Shape
from alcove.pods.share_device import plug
from alcove.pods.taps import TapYard
from alcove.pods.templates import PodTemplates, rehearse
from alcove.pods.waiting import Waiting
from alcove.sandbox.agent import AgentClient
from alcove.sandbox.templates import BOOT_TIMEOUT_S
from alcove.vmm.drives import Drives
from alcove.vmm.machine import RestoreError
from alcove.vmm.spec import IMAGE_SLOTS, MIB, SLOT_BYTES, slot_device
from alcove.vmm.template import SavedMachine

log = logging.getLogger(__name__)

# The name under which the guest's rehearsal finds an image (guest/rehearsal.py).
_REHEARSAL = "alcove-rehearsal"


class PodMaker:
    """See the module's docstring. Machines that wait have disks of ``disk_mib``."""

    def __init__(self, launcher: PodLauncher, templates: PodTemplates, yard: TapYard, disk_mib: int) -> None:
        self.disk_mib = disk_mib
        self._launcher = launcher
        self._templates = templates
        self._yard = yard

    async def free(self, host: PodHost) -> None:
        await host.free(self._launcher.engine.users)

    async def waiting(self, saved: SavedMachine, shape: Shape) -> Waiting:
        """Return a machine that is nobody's, paused; all of it is freed where that fails."""
        host = self._launcher.prepare(shape.vacant(self.disk_mib))
        agent = None
        try:
            with saved.held():
                agent = await self._restore(host, saved, shape, None)
            await to_the_end(self._launcher.yield_cpu, host)
            await host.running().resume()
            await greet(host, agent)
            if shape.host_paths:
                await plug(host)
            await agent.batch(*grown(host))
            await self._rehearse(host, agent)
            await host.running().pause()
            host.step = "waiting"
            await to_the_end(host.record)
        except BaseException:
            if agent is not None:
                agent.close()
            await self.free(host)
            raise
        return Waiting(host, agent)

    async def _rehearse(self, host: PodHost, agent: AgentClient) -> None:
        """As before a template is saved, with an image: what is translated then is translated for the pod."""
        drives = Drives(host.running().monitor, self._launcher.engine.disk_io)
        slots, slot = host.slots, IMAGE_SLOTS[-1]
        number, empty = slots.number(), slots.number()
        mount = {"op": "mount_image", "device": slot_device(slot), "partitions": 1, "name": _REHEARSAL}
        with image_disk([self._launcher.engine.rehearsal_image], SLOT_BYTES) as pieces:
            await drives.insert(slot, number, pieces, descriptor)
            await agent.batch(mount)
            await rehearse(host, agent)
            await agent.batch({"op": "unmount_image", "name": _REHEARSAL})
            await drives.eject(slot, number, len(pieces), empty)
        slots.empties[slot] = empty

    async def restore_or_boot(self, host: PodHost, saved: SavedMachine, shape: Shape) -> tuple[AgentClient, bool]:
        """Return the agent's client, and whether the machine was booted; one that was restored is paused."""
        try:
            with saved.held():
                return await self._restore(host, saved, shape, host.takeover), False
        except RestoreError as error:
            log.warning("a template of pods does not fit, booting cold: %s", error)
            await self._templates.shelf.discard(saved)
            await host.running().kill()
            await self._boot(host, shape)
            return await AgentClient.connect(host.agent_socket), True

    async def _restore(
        self, host: PodHost, saved: SavedMachine, shape: Shape, takeover: Takeover | None
    ) -> AgentClient:
        assert saved.scratch_fd is not None
        await self._take_taps(host, shape, takeover)
        shared, scratch = host.spec.host_paths, saved.scratch_fd
        memory = await to_the_end(_copied if shared else os.dup, saved.memory_fd)
        try:
            launch = self._launcher.launch
            os.close(
                await launch(host, cards=shape.cards, memory_fd=memory, scratch_fd=scratch, share=shared, boot=False)
            )
        finally:
            os.close(memory)
        state = saved.state()
        try:
            await host.running().restore(state)
        finally:
            os.close(state)
        return await AgentClient.connect(host.agent_socket)

    async def _boot(self, host: PodHost, shape: Shape) -> None:
        host.drop_taps()
        await self._take_taps(host, shape, host.takeover)
        memory = create_memory("alcove-pod", host.spec.memory_class * MIB)
        empty = self._launcher.engine.empty_scratch_fd
        try:
            launch = self._launcher.launch
            shared = host.spec.host_paths
            os.close(await launch(host, cards=shape.cards, memory_fd=memory, scratch_fd=empty, share=shared, boot=True))
        finally:
            os.close(memory)

    async def _take_taps(self, host: PodHost, shape: Shape, takeover: Takeover | None) -> None:
        if takeover is not None and takeover.model is NetworkModel.MACVTAP:
            host.taps = await to_the_end(network.open_macvtaps, takeover)
        else:
            for _ in range(shape.cards):
                host.taps.append(await to_the_end(self._yard.make))


def _copied(saved: int) -> int:
    """Return a copy of a template's memory, on which another process than the VMM may work too."""
    own = create_memory("alcove-pod", os.fstat(saved).st_size)
    try:
        copy_sparse(saved, own)
    except BaseException:
        os.close(own)
        raise
    return own


async def greet(host: PodHost, agent: AgentClient) -> None:
    """Wait for the agent and note what its kernel is."""
    hello = await agent.hello(BOOT_TIMEOUT_S)
    host.kernel = str(hello.get("kernel", ""))[:128]


def grown(host: PodHost) -> list[dict[str, object]]:
    """Return what makes the guest's file system as large as its disk."""
    grow = {"op": "grow_scratch", "path": MOUNT_SCRATCH["path"], "bytes": disk_bytes(host.spec.disk_mib)}
    return [grow] if host.spec.disk_mib > SMALLEST_MIB else []
