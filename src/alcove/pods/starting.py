"""How a pod's machine comes to run: restored from the template of its size, or booted where that does not fit."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

from alcove.errors import SandboxGone
from alcove.host.memory import create_memory
from alcove.host.threads import to_the_end
from alcove.images.scratch import LARGEST_MIB, SMALLEST_MIB, disk_bytes
from alcove.pods import network
from alcove.pods.host import PodHost
from alcove.pods.launcher import PodLauncher
from alcove.pods.model import PodSpec
from alcove.pods.personality import MOUNT_SCRATCH, limits, personality
from alcove.pods.templates import PodTemplates
from alcove.sandbox.agent import AgentClient
from alcove.sandbox.templates import BOOT_TIMEOUT_S
from alcove.vmm.machine import Machine, RestoreError
from alcove.vmm.spec import MIB

log = logging.getLogger(__name__)


class Starter:
    """See the module's docstring."""

    def __init__(self, launcher: PodLauncher, state: Path) -> None:
        self.launcher = launcher
        self.templates = PodTemplates(launcher, state / "pod-templates")

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
        host = self.launcher.prepare(spec)
        tap = -1
        try:
            if spec.netns is not None:
                host.takeover = await to_the_end(network.plan, spec.netns, spec.network)
            if host.takeover is not None:
                await to_the_end(host.record)
                tap = await to_the_end(network.connect, host.takeover)
            await self._run(host, tap if tap >= 0 else None)
            await to_the_end(self.launcher.limit_cpu, host)
            host.step = "running"
            await to_the_end(host.record)
        except BaseException:
            await host.free(self.launcher.engine.users)
            raise
        finally:
            if tap >= 0:
                os.close(tap)
        return host

    async def _run(self, host: PodHost, tap: int | None) -> None:
        saved = await self.templates.get(host.spec.vcpus, host.spec.memory_class)
        try:
            with saved.held():
                assert saved.scratch_fd is not None
                os.close(
                    await self.launcher.launch(
                        host, memory_fd=saved.memory_fd, scratch_fd=saved.scratch_fd, tap_fd=tap, boot=False
                    )
                )
                state = saved.state()
                try:
                    await _machine(host).restore(state)
                finally:
                    os.close(state)
        except RestoreError as error:
            log.warning("a template of pods does not fit, booting cold: %s", error)
            await self.templates.shelf.discard(saved)
            await _machine(host).kill()
            await self._boot(host, tap)
        else:
            await _machine(host).resume()
            await self._personalise(host)

    async def _boot(self, host: PodHost, tap: int | None) -> None:
        memory = create_memory("alcove-pod", host.spec.memory_class * MIB)
        try:
            empty = self.launcher.engine.empty_scratch_fd
            os.close(await self.launcher.launch(host, memory_fd=memory, scratch_fd=empty, tap_fd=tap, boot=True))
        finally:
            os.close(memory)
        await self._personalise(host, booted=True)

    async def _personalise(self, host: PodHost, *, booted: bool = False) -> None:
        """Make the machine this pod; the agent is the shim's afterwards."""
        agent = await AgentClient.connect(host.agent_socket)
        try:
            hello = await agent.hello(BOOT_TIMEOUT_S)
            host.kernel = str(hello.get("kernel", ""))[:128]
            interface = host.takeover.interface if host.takeover else None
            ops = [MOUNT_SCRATCH] if booted else []
            ops += [personality(host, interface), limits(host)]
            size = disk_bytes(host.spec.disk_mib)
            if booted and host.spec.disk_mib != LARGEST_MIB:
                await _machine(host).resize("scratch", size)
            if host.spec.disk_mib > SMALLEST_MIB:
                ops.append({"op": "grow_scratch", "path": MOUNT_SCRATCH["path"], "bytes": size})
            await agent.batch(*ops)
        finally:
            agent.close()
            # The channel's end reaches the VMM before the shim's beginning.
            await asyncio.sleep(0)


def _machine(host: PodHost) -> Machine:
    if host.machine is None:
        raise SandboxGone("the machine is not running")
    return host.machine
