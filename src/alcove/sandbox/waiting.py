"""QEMUs launched ahead, each waiting for the state of one saved machine: its own start, some 50 ms, is then off the
path.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Coroutine
from typing import Any

from alcove.errors import CapacityError, HostError, SandboxError
from alcove.sandbox.protocol import Runtime, Start
from alcove.sandbox.vm import VmSandbox
from alcove.sandbox.vm_launcher import Launcher
from alcove.vmm.template import SavedMachine

log = logging.getLogger(__name__)

# Published versions for whose snapshot a QEMU waits (some 18 MiB each).
SNAPSHOTS = 4
# The start that emptied the place has the processors for itself.
REFILL_AFTER_S = 0.3


class WaitingMachines:
    """``size`` wait for each saved machine that is expected to be restored again."""

    def __init__(self, launcher: Launcher, size: int) -> None:
        self.size = size
        self._launcher = launcher
        self._queues: dict[str, deque[VmSandbox]] = {}
        self._snapshots: list[str] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def count(self, key: str) -> int:
        return len(self._queues.get(key, ()))

    async def take(self, runtime: Runtime, saved: SavedMachine, start: Start) -> VmSandbox:
        """Return a QEMU that waits for this state: one launched ahead, or a new one."""
        queue = self._queues.get(saved.key)
        while queue:
            sandbox = queue.popleft()
            if not sandbox.ended:
                self._refill(runtime, saved, start)
                return sandbox
            await sandbox.close()
        self._expect_again(runtime, saved, start)
        began = asyncio.get_running_loop().time()
        sandbox = await self._launcher.launch(runtime, start, memory_fd=saved.memory_fd, scratch_fd=saved.scratch_fd)
        sandbox.phases_ms["launch"] = (asyncio.get_running_loop().time() - began) * 1000
        return sandbox

    async def keep(self, runtime: Runtime, saved: SavedMachine, count: int) -> None:
        """Keep ``count`` QEMUs waiting from now on, for this saved machine and all others."""
        self.size = count
        queue = self._queues.setdefault(saved.key, deque())
        while len(queue) < count:
            memory, scratch = saved.memory_fd, saved.scratch_fd
            queue.append(await self._launcher.launch(runtime, Start.RESTORED, memory_fd=memory, scratch_fd=scratch))

    def forget(self, key: str) -> None:
        """End those that wait for this saved machine: the next of its key has other memory."""
        for sandbox in self._queues.pop(key, ()):
            self._background(sandbox.close())

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _expect_again(self, runtime: Runtime, saved: SavedMachine, start: Start) -> None:
        """What started cold may do so again: wait for it; of snapshots, for those of the latest few versions."""
        self._queues.setdefault(saved.key, deque())
        if start is Start.SNAPSHOT:
            self._snapshots = [key for key in self._snapshots if key != saved.key] + [saved.key]
            while len(self._snapshots) > SNAPSHOTS:
                self.forget(self._snapshots.pop(0))
        self._refill(runtime, saved, start)

    def _refill(self, runtime: Runtime, saved: SavedMachine, start: Start) -> None:
        async def refill() -> None:
            await asyncio.sleep(REFILL_AFTER_S)
            queue = self._queues.get(saved.key)
            if queue is None or self._launcher.closing or saved.closed or len(queue) >= self.size:
                return
            try:
                with saved.held():
                    sandbox = await self._launcher.launch(
                        runtime, start, memory_fd=saved.memory_fd, scratch_fd=saved.scratch_fd
                    )
            except (SandboxError, CapacityError, HostError) as error:
                log.warning("no machine could be launched ahead: %s", error)
                return
            if saved.closed or self._queues.get(saved.key) is not queue:
                await sandbox.close()
            else:
                queue.append(sandbox)

        self._background(refill())

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
