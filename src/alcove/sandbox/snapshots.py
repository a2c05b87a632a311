"""Snapshots of published versions: a machine saved after the version's init code has run in it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from alcove.errors import SandboxError
from alcove.host.memory import copy_sparse, create_memory
from alcove.host.threads import to_the_end
from alcove.sandbox.protocol import Start, Workload
from alcove.sandbox.shelf import Shelf
from alcove.sandbox.templates import Templates, save
from alcove.sandbox.vm_launcher import MEMORY_MIB, Launcher
from alcove.vmm.spec import MIB
from alcove.vmm.template import MachineStore, SavedMachine, machine_key

# Each start from a snapshot copies what the init code has left in /tmp.
SCRATCH_MIB = 64


class Snapshots:
    """Owner of the folder of snapshots; ``limit_bytes`` is how much memory they may take while ready to restore."""

    def __init__(self, launcher: Launcher, templates: Templates, folder: Path, *, limit_bytes: int) -> None:
        self.shelf = Shelf(MachineStore(folder), limit_bytes=limit_bytes)
        self._launcher = launcher
        self._templates = templates
        self._unwanted: set[str] = set()

    def key(self, workload: Workload) -> str:
        """Return the name of the version's snapshot: template, code, and all that its init code may have read."""
        return machine_key(
            template=self._templates.key(workload.runtime, workload.kernel),
            tenant=workload.tenant,
            arn=workload.arn,
            version=workload.version,
            code=workload.code.digest,
            handler=workload.handler,
            memory_mib=workload.memory_mib,
            environment=dict(workload.environment),
            scratch_mib=workload.scratch_mib,
            logging=[workload.logging.format, workload.logging.level],
        )

    async def take(self, workload: Workload) -> None:
        """Run the version's init code in a machine of its own and save it, unless that was done.

        Raises ``InitError`` where the code fails.
        """
        # Its digest is part of the key.
        await self._launcher.images.get(workload.runtime)
        key = self.key(workload)
        async with self.shelf.locks.held(key):
            self._unwanted.discard(key)
            if key not in self.shelf:
                await self._make(workload, key)
            if key in self._unwanted:
                self._unwanted.discard(key)
                await self.shelf.drop(key)

    async def drop(self, workload: Workload) -> None:
        """Remove it; one that is being taken is removed as soon as it is there."""
        key = self.key(workload)
        if key in self.shelf.locks:
            self._unwanted.add(key)
        await self.shelf.drop(key)

    async def discard(self, saved: SavedMachine) -> None:
        """Drop a snapshot that does not fit, unless another has taken its place."""
        if self.shelf.get(saved.key) is saved:
            await self.shelf.drop(saved.key)

    async def retain(self, workloads: Iterable[Workload]) -> None:
        """Remove the snapshots of all other versions, and of templates that are gone."""
        await self.shelf.retain({self.key(workload) for workload in workloads})

    async def _make(self, workload: Workload, key: str) -> SavedMachine:
        template = await self._templates.get(workload.runtime, kernel=workload.kernel)
        memory = create_memory(f"alcove-{key[:8]}", MEMORY_MIB * MIB)
        try:
            with template.held():
                await to_the_end(copy_sparse, template.memory_fd, memory)
                state = template.state()
            try:
                sandbox = await self._launcher.launch(
                    workload.runtime,
                    Start.RESTORED,
                    memory_fd=memory,
                    scratch_fd=template.scratch_fd,
                    share=True,
                    network=workload.network,
                )
                try:
                    await sandbox.restore(state)
                    await sandbox.load(workload)
                    saved_state, scratch = await save(sandbox)
                finally:
                    await sandbox.close()
            finally:
                os.close(state)
            try:
                _check_scratch(scratch)
                facts = {"arn": workload.arn, "version": workload.version, "template": template.key}
                return await self.shelf.save(key, memory, saved_state, facts, scratch)
            finally:
                os.close(scratch)
        except BaseException:
            os.close(memory)
            raise


def _check_scratch(fd: int) -> None:
    """Raises ``SandboxError`` where the scratch disk holds too much to be copied at each start."""
    if os.fstat(fd).st_blocks * 512 > SCRATCH_MIB * MIB:
        raise SandboxError(f"its init code leaves more than {SCRATCH_MIB} MiB in /tmp")
