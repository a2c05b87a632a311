"""How a pod comes to run: by a machine that waits, or by one that is made for it (``pods.making``)."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from alcove.errors import SandboxGone
from alcove.host.threads import finish, to_the_end
from alcove.images.scratch import disk_bytes
from alcove.pods import network
from alcove.pods.host import PodHost
from alcove.pods.launcher import PodLauncher
from alcove.pods.making import PodMaker, greet, grown
from alcove.pods.model import NetworkModel, PodSpec
from alcove.pods.network import Takeover
from alcove.pods.personality import MOUNT_SCRATCH, limits, personality
from alcove.pods.shape import Shape
from alcove.pods.share_device import plug
from alcove.pods.taps import TapYard
from alcove.pods.templates import PodTemplates
from alcove.pods.waiting import Waiting, WaitingPods
from alcove.sandbox.agent import AgentClient
from alcove.sandbox.phases import PhaseClock
from alcove.vmm.template import SavedMachine

log = logging.getLogger(__name__)


class Starter:
    """See the module's docstring. ``waiting`` machines wait for each shape of pod that was asked for, their disks as
    large as ``disk_mib``: what a guest has grown is not made smaller. ``host_paths``: all pods may be shown folders of
    the host, those that wait are made for that.
    """

    def __init__(self, launcher: PodLauncher, state: Path, *, waiting: int, disk_mib: int, host_paths: bool) -> None:
        self.launcher = launcher
        self._host_paths = host_paths
        self.templates = PodTemplates(launcher, state / "pod-templates")
        self._yard = TapYard()
        self._maker = PodMaker(launcher, self.templates, self._yard, disk_mib)
        self.waiting = WaitingPods(waiting, self._maker.waiting, self._maker.free)
        self.templates.shelf.removed = self.waiting.forget

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
        waiting = self._take(saved, shape, spec, takeover)
        host = waiting.host if waiting else self.launcher.prepare(spec)
        agent = waiting.agent if waiting else None
        host.spec, host.takeover, host.step = spec, takeover, "starting"
        try:
            await to_the_end(host.record)
            clock.mark("taken" if waiting else "planned")
            ready, booted = waiting is not None and spec.disk_mib == self._maker.disk_mib, False
            if agent is None:
                agent, booted = await self._maker.restore_or_boot(host, saved, shape)
                clock.mark("made")
            connecting = asyncio.ensure_future(self._connect(host))
            try:
                await self._personalise(host, agent, grow=not ready, booted=booted)
                clock.mark("personalised")
            finally:
                await finish(connecting)
            host.step = "running"
            await to_the_end(host.record)
            clock.mark("connected")
        except BaseException:
            if agent is not None:
                agent.close()
            await self._maker.free(host)
            raise
        cost = ", ".join(f"{name} {spent:.0f}" for name, spent in clock.phases.items())
        log.info("pod %s runs in machine %s (ms: %s)", spec.pod, host.id, cost)
        return host

    def _take(self, saved: SavedMachine, shape: Shape, spec: PodSpec, takeover: Takeover | None) -> Waiting | None:
        """Return a machine that waits, where one can become this pod's: by its tap and its disk."""
        if takeover is not None and takeover.model is not NetworkModel.TC_FILTER:
            return None
        if spec.host_paths != self._host_paths:
            return None
        return self.waiting.take(saved, shape) if spec.disk_mib >= self._maker.disk_mib else None

    async def _connect(self, host: PodHost) -> None:
        """Give the machine's taps to the pod's network. The kernel takes its time to move them, beside all else."""
        if host.takeover is not None and host.takeover.model is NetworkModel.TC_FILTER:
            await to_the_end(network.connect_taps, host.takeover, self._yard, host.taps)

    async def _personalise(self, host: PodHost, agent: AgentClient, *, grow: bool, booted: bool) -> None:
        """Make the machine this pod; the agent is the shim's afterwards."""
        machine = host.running()
        self.launcher.limit_memory(host)
        self.launcher.limit_cpu(host)
        try:
            ops = [MOUNT_SCRATCH] if booted else []
            ops += [personality(host, host.takeover.interfaces if host.takeover else ()), limits(host)]
            if grow:
                await machine.resize("scratch", disk_bytes(host.spec.disk_mib))
                ops += grown(host)
            if not booted:
                await machine.resume()
            if not host.kernel:
                await greet(host, agent)
            if host.spec.host_paths and host.shares.server is None:
                await plug(host)
            await agent.batch(*ops)
        finally:
            agent.close()
            # The channel's end reaches the VMM before the shim's beginning.
            await asyncio.sleep(0)
