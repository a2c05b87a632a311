"""The host's disk under the scratch disks of its machines.

Quotas bound each machine; together they may promise more than the disk has, as sparse files do. Where the disk runs
short in earnest, the machine that holds most of it is ended, as the kernel does with memory: its neighbours and the
daemon's own files keep their room.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from alcove.sandbox.vm import VmSandbox

log = logging.getLogger(__name__)

MIB = 1 << 20
# Looked at this often, a disk loses at most what few machines write in that time (vm_launcher.SCRATCH_LIMITS).
EVERY_S = 0.5
RESERVE_MIB = 1024
# Ending a machine that holds less frees nothing worth it.
WORTH_MIB = 64


def held(sandbox: VmSandbox) -> int:
    """Return the bytes of the host's disk that the sandbox's scratch disk takes."""
    fd = sandbox.resources.scratch_fd
    return 0 if fd is None else os.fstat(fd).st_blocks * 512


def largest(sandboxes: Iterable[VmSandbox]) -> VmSandbox | None:
    """Return the one to end: it holds most, and enough; None where there is none."""
    found = max(sandboxes, key=held, default=None)
    return None if found is None or held(found) < WORTH_MIB * MIB else found


class ScratchGuard:
    """Watches the file system of ``folder`` while it is open."""

    def __init__(self, folder: Path, sandboxes: Iterable[VmSandbox], reserve_mib: int = RESERVE_MIB) -> None:
        self._folder = folder
        self._sandboxes = sandboxes
        self._reserve = reserve_mib * MIB
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> ScratchGuard:
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            await self.check()

    async def check(self) -> VmSandbox | None:
        """End the largest machine where the disk is short; return it."""
        try:
            if shutil.disk_usage(self._folder).free >= self._reserve:
                return None
        except OSError:
            return None
        sandbox = largest(one for one in list(self._sandboxes) if not one.ended)
        if sandbox is not None:
            log.error(
                "the host's disk is short: sandbox %s is ended, its /tmp holds %d MiB", sandbox.id, held(sandbox) // MIB
            )
            await sandbox.end("out_of_disk")
        return sandbox
