"""The host's disk under the disks of its machines, functions' and pods'.

Quotas bound each machine; together they may promise more than the disk has, as sparse files do. Where the disk runs
short in earnest, the machine that holds most of it is ended, as the kernel does with memory: its neighbours and the
daemon's own files keep their room.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

log = logging.getLogger(__name__)

MIB = 1 << 20
# Looked at this often, a disk loses at most what few machines write in that time (vm_launcher.SCRATCH_LIMITS).
EVERY_S = 0.5
RESERVE_MIB = 1024
# Ending a machine that holds less frees nothing worth it.
WORTH_MIB = 64


class DiskUser(Protocol):
    """A machine that holds room on the host's disk."""

    @property
    def id(self) -> str: ...
    @property
    def ended(self) -> bool: ...

    def disk_bytes(self) -> int:
        """Return the bytes of the host's disk that its own disks take."""

    async def end(self, reason: str) -> None: ...


def largest(users: Iterable[DiskUser]) -> DiskUser | None:
    """Return the one to end: it holds most, and enough; None where there is none."""
    size, found = max(((one.disk_bytes(), one) for one in users), key=lambda pair: pair[0], default=(0, None))
    return None if size < WORTH_MIB * MIB else found


class ScratchGuard:
    """Watches the file system of ``folder`` while it is open. ``users`` has who says what machines there are."""

    def __init__(
        self, folder: Path, users: Iterable[Callable[[], Iterable[DiskUser]]], reserve_mib: int = RESERVE_MIB
    ) -> None:
        self._folder = folder
        self._users = users
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

    async def check(self) -> DiskUser | None:
        """End the largest machine where the disk is short; return it."""
        try:
            if shutil.disk_usage(self._folder).free >= self._reserve:
                return None
        except OSError:
            return None
        found = largest(one for all_of in self._users for one in list(all_of()) if not one.ended)
        if found is not None:
            log.error(
                "the host's disk is short: %s is ended, its disks hold %d MiB", found.id, found.disk_bytes() // MIB
            )
            await found.end("out_of_disk")
        return found
