"""What a virtual machine owns on the host: process, cgroup, tap, user id, folder and scratch disk; and their end."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from alcove.errors import SandboxError, SandboxGone
from alcove.host.cgroup import Cgroup
from alcove.host.files import unnamed_file
from alcove.host.memory import copy_sparse
from alcove.host.network import Network, Tap
from alcove.host.threads import to_the_end
from alcove.sandbox.protocol import SandboxId
from alcove.sandbox.record import RecordStore
from alcove.vmm.machine import Machine


@dataclass(slots=True)
class VmResources:
    """What a VM owns on the host, from before its launch on."""

    id: SandboxId
    folder: Path
    cgroup: Cgroup
    user: int
    tap: Tap | None = None
    machine: Machine | None = None
    # Its scratch disk, a file without a name; QEMU holds it too.
    scratch_fd: int | None = None
    # How much processor time stands for the same work: 1 with hardware virtualisation.
    cpu_scale: float = 1.0

    def copy_scratch(self, source: int, size: int) -> None:
        """Make the scratch disk, a file of ``size`` with the data of ``source``. Raises ``CapacityError``."""
        self.scratch_fd = unnamed_file(self.folder, size)
        copy_sparse(source, self.scratch_fd)

    def duplicate_scratch(self) -> int:
        if self.scratch_fd is None:
            raise SandboxGone("its scratch disk is another daemon's")
        return os.dup(self.scratch_fd)

    def close_scratch(self) -> None:
        """Let go of the scratch disk: it goes with its machine."""
        if self.scratch_fd is not None:
            os.close(self.scratch_fd)
            self.scratch_fd = None


async def destroy(resources: VmResources, network: Network | None, records: RecordStore) -> None:
    """Free all that a VM owns; never raises for what is gone already."""
    if resources.machine is not None:
        await resources.machine.kill()
    resources.close_scratch()
    await to_the_end(resources.cgroup.kill_all)
    if resources.tap is not None and network is not None:
        with contextlib.suppress(SandboxError):
            await network.release(resources.tap)
    await to_the_end(resources.cgroup.remove)
    records.remove(resources.id)
