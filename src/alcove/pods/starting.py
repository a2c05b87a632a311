"""How a pod's machine comes to run: one that waits, one restored from the template of its size, or, where that does not
fit, one that boots.
"""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

from alcove.errors import SandboxGone
from alcove.host.memory import create_memory
from alcove.host.threads import finish, to_the_end
from alcove.images.scratch import SMALLEST_MIB, disk_bytes
from alcove.pods import network
from alcove.pods.host import PodHost
from alcove.pods.launcher import PodLauncher
from alcove.pods.model import NetworkModel, PodSpec
from alcove.pods.network import Takeover
from alcove.pods.personality import MOUNT_SCRATCH, limits, personality
from alcove.pods.shape import Shape
from alcove.pods.taps import TapYard
from alcove.pods.templates import PodTemplates, rehearse
from alcove.pods.waiting import Waiting, WaitingPods
from alcove.sandbox.agent import AgentClient
from alcove.sandbox.phases import PhaseClock
from alcove.sandbox.templates import BOOT_TIMEOUT_S
from alcove.vmm.machine import RestoreError
from alcove.vmm.spec import MIB
from alcove.vmm.template import SavedMachine

log = logging.getLogger(__name__)


class Starter:
    """See the module's docstring. ``waiting`` machines wait for each shape of pod that was asked for, their disks as
    large as ``disk_mib``: what a guest has grown is not made smaller.
    """

    def __init__(self, launcher: PodLauncher, state: Path, *, waiting: int, disk_mib: int) -> None:
        self._disk_mib = disk_mib
        self.launcher = launcher
        self.templates = PodTemplates(launcher, state / "pod-templates")
        self.waiting = WaitingPods(waiting, self._make_waiting, self._free)
        self.templates.shelf.removed = self.waiting.forget
        self._yard = TapYard()

    async def prepare(self, shape: Shape) -> None:
        """Have the template of this shape ready, and machines waiting."""
        self.waiting.expect(await self.templates.get(shape), shape, 0.0)

    async def close(self) -> None:
        await self.waiting.close()
        self.templates.shelf.close()
        self._yard.close()

    async def start(self, spec: PodSpec) -> PodHost:
        """Return the host of a pod that runs, personalised and connected to its network; nothing is left where that
        fails.
        """
        try:
            return await self._attempt(spec)
        except SandboxGone as lost:
            # QEMU 7.2's emulation crashes once in some thousand starts.
            log.warning("the machine of pod %s was lost while it started, another is started: %s", spec.pod, lost)
            return await self._attempt(spec)

    async def _attempt(self, spec: PodSpec) -> PodHost:
        clock = PhaseClock({})
        takeover = await to_the_end(network.plan, spec.netns, spec.network) if spec.netns is not None else None
        shape = Shape.of(spec, takeover)
        saved = await self.templates.get(shape)
        clock.mark("plan")
        waiting = None
        by_tap = takeover is None or takeover.model is NetworkModel.TC_FILTER
        if by_tap and spec.disk_mib >= self._disk_mib:
            waiting = self.waiting.take(saved, shape)
        host = waiting.host if waiting else self.launcher.prepare(spec)
        host.spec, host.takeover, host.step = spec, takeover, "starting"
        agent = waiting.agent if waiting else None
        try:
            await to_the_end(host.record)
            booted = False
            if agent is None:
                agent, booted = await self._restore_or_boot(host, saved, shape)
            clock.mark("taken" if waiting else "launched")
            connecting = asyncio.ensure_future(self._connect(host))
            grown = waiting is not None and spec.disk_mib == self._disk_mib
            try:
                await self._personalise(host, agent, grown=grown, booted=booted)
                clock.mark("personalised")
            finally:
                await finish(connecting)
            clock.mark("network")
            host.step = "running"
            await to_the_end(host.record)
        except BaseException:
            if agent is not None:
                agent.close()
            await self._free(host)
            raise
        cost = ", ".join(f"{name} {spent:.0f}" for name, spent in clock.phases.items())
        log.info("pod %s runs in machine %s (ms: %s)", spec.pod, host.id, cost)
        return host

    async def _connect(self, host: PodHost) -> None:
        """Give the machine's taps to the pod's network. The kernel takes its time to move them, beside all else."""
        if host.takeover is not None and host.takeover.model is NetworkModel.TC_FILTER:
            await to_the_end(network.connect_taps, host.takeover, self._yard, host.taps)

    async def _free(self, host: PodHost) -> None:
        await host.free(self.launcher.engine.users)

    # Machines

    async def _make_waiting(self, saved: SavedMachine, shape: Shape) -> Waiting:
        host = self.launcher.prepare(shape.vacant(self._disk_mib))
        agent = None
        try:
            with saved.held():
                agent = await self._restore(host, saved, shape, None)
            await to_the_end(self.launcher.yield_cpu, host)
            await host.running().resume()
            host.kernel = _kernel(await agent.hello(BOOT_TIMEOUT_S))
            await agent.batch(*_grown(host))
            await rehearse(host, agent)
            await host.running().pause()
            host.step = "waiting"
            await to_the_end(host.record)
        except BaseException:
            if agent is not None:
                agent.close()
            await self._free(host)
            raise
        return Waiting(host, agent)

    async def _restore_or_boot(self, host: PodHost, saved: SavedMachine, shape: Shape) -> tuple[AgentClient, bool]:
        """Return the agent's client, and whether the machine was booted; one that was restored is paused."""
        try:
            with saved.held():
                return await self._restore(host, saved, shape, host.takeover), False
        except RestoreError as error:
            log.warning("a template of pods does not fit, booting cold: %s", error)
            await self.templates.shelf.discard(saved)
            await host.running().kill()
            await self._boot(host, shape)
            return await AgentClient.connect(host.agent_socket), True

    async def _restore(
        self, host: PodHost, saved: SavedMachine, shape: Shape, takeover: Takeover | None
    ) -> AgentClient:
        assert saved.scratch_fd is not None
        await self._take_taps(host, shape, takeover)
        os.close(
            await self.launcher.launch(
                host, cards=shape.cards, memory_fd=saved.memory_fd, scratch_fd=saved.scratch_fd, boot=False
            )
        )
        state = saved.state()
        try:
            await host.running().restore(state)
        finally:
            os.close(state)
        return await AgentClient.connect(host.agent_socket)

    async def _take_taps(self, host: PodHost, shape: Shape, takeover: Takeover | None) -> None:
        if takeover is not None and takeover.model is NetworkModel.MACVTAP:
            host.taps = await to_the_end(network.open_macvtaps, takeover)
        else:
            for _ in range(shape.cards):
                host.taps.append(await to_the_end(self._yard.make))

    async def _boot(self, host: PodHost, shape: Shape) -> None:
        host.drop_taps()
        await self._take_taps(host, shape, host.takeover)
        memory = create_memory("alcove-pod", host.spec.memory_class * MIB)
        try:
            empty = self.launcher.engine.empty_scratch_fd
            os.close(await self.launcher.launch(host, cards=shape.cards, memory_fd=memory, scratch_fd=empty, boot=True))
        finally:
            os.close(memory)

    async def _personalise(self, host: PodHost, agent: AgentClient, *, grown: bool, booted: bool) -> None:
        """Make the machine this pod; the agent is the shim's afterwards. ``grown``: its disk has its size already."""
        machine = host.running()
        self.launcher.limit_memory(host)
        self.launcher.limit_cpu(host)
        try:
            ops = [MOUNT_SCRATCH] if booted else []
            ops += [personality(host, host.takeover.interfaces if host.takeover else ()), limits(host)]
            if not grown:
                await machine.resize("scratch", disk_bytes(host.spec.disk_mib))
                ops += _grown(host)
            if not booted:
                await machine.resume()
            if not host.kernel:
                host.kernel = _kernel(await agent.hello(BOOT_TIMEOUT_S))
            await agent.batch(*ops)
        finally:
            agent.close()
            # The channel's end reaches the VMM before the shim's beginning.
            await asyncio.sleep(0)


def _grown(host: PodHost) -> list[dict[str, object]]:
    """Return what makes the guest's file system as large as its disk."""
    size = disk_bytes(host.spec.disk_mib)
    grow = {"op": "grow_scratch", "path": MOUNT_SCRATCH["path"], "bytes": size}
    return [grow] if host.spec.disk_mib > SMALLEST_MIB else []


def _kernel(hello: dict[str, object]) -> str:
    return str(hello.get("kernel", ""))[:128]
