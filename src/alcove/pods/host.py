"""What a pod owns on the host, from before its launch on; ``free`` frees everything, whoever made it.

The folder holds the pod's record, its sockets and its disks; it goes last, for by it a later daemon finds the rest.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alcove.errors import HostError, SandboxGone
from alcove.host.cgroup import Cgroup
from alcove.host.process import ProcessIdentity
from alcove.host.threads import to_the_end
from alcove.pods import network
from alcove.pods.model import PodSpec
from alcove.pods.network import Takeover
from alcove.pods.shares import Shares
from alcove.pods.slots import Slots
from alcove.pods.taps import PodTap
from alcove.sandbox.protocol import SandboxId
from alcove.sandbox.record import RecordStore
from alcove.sandbox.users import MachineUsers
from alcove.vmm.machine import Machine


def new_pod_id() -> SandboxId:
    """Return an id for a pod's machine: the pod's own name is a client's, and no path is made of it."""
    return SandboxId("p-" + secrets.token_hex(6))


@dataclass(slots=True)
class PodHost:
    """See the module's docstring. ``step`` is how far it has come: ``launching``, ``waiting`` for a pod (``spec`` is
    nobody's then), ``starting``, ``running``.
    """

    id: SandboxId
    spec: PodSpec
    folder: Path
    cgroup: Cgroup
    user: int
    records: RecordStore
    step: str = "launching"
    takeover: Takeover | None = None
    slots: Slots = field(default_factory=Slots)
    shares: Shares = field(default_factory=Shares)
    machine: Machine | None = None
    process: ProcessIdentity | None = None
    kernel: str = ""
    taps: list[PodTap] = field(default_factory=list)

    @property
    def agent_socket(self) -> Path:
        return self.folder / "agent.sock"

    @property
    def streams_socket(self) -> Path:
        return self.folder / "streams.sock"

    @property
    def monitor_socket(self) -> Path:
        return self.folder / "qmp.sock"

    def running(self) -> Machine:
        """Return the machine. Raises ``SandboxGone`` where there is none."""
        if self.machine is None:
            raise SandboxGone("the machine is not running")
        return self.machine

    def drop_taps(self) -> None:
        """Close our descriptors; those that a machine holds stay."""
        while self.taps:
            self.taps.pop().close()

    def record(self) -> None:
        """Write down what this pod is, so that a later daemon can adopt or reap it."""
        self.records.write(
            self.id,
            {
                "step": self.step,
                "spec": self.spec.to_json(),
                "user": self.user,
                "takeover": self.takeover.to_json() if self.takeover else None,
                "slots": self.slots.to_json(),
                "shares": self.shares.to_json(),
                "process": self.process.to_json() if self.process else None,
                "kernel": self.kernel,
            },
        )

    @staticmethod
    def from_record(id: SandboxId, record: dict[str, Any], tag: str, records: RecordStore) -> PodHost:
        """Return what an earlier daemon wrote down. Raises ``KeyError``, ``TypeError``, ``ValueError``."""
        takeover, process = record["takeover"], record["process"]
        return PodHost(
            id,
            PodSpec.from_json(record["spec"]),
            records.folder / id,
            Cgroup(tag, id),
            int(record["user"]),
            records,
            step=str(record["step"]),
            takeover=Takeover.from_json(takeover) if takeover else None,
            slots=Slots.from_json(record["slots"]),
            shares=Shares.from_json(record["shares"]),
            process=ProcessIdentity.from_json(process) if process else None,
            kernel=str(record["kernel"]),
        )

    async def free(self, users: MachineUsers) -> None:
        """Free all of it; what is gone already is no error."""
        if self.machine is not None:
            await self.machine.kill()
            self.machine = None
        self.drop_taps()
        await to_the_end(self.cgroup.kill_all)
        await self.shares.reap()
        if self.takeover is not None:
            with contextlib.suppress(HostError, OSError):
                await to_the_end(network.disconnect, self.takeover)
        await to_the_end(self.cgroup.remove)
        await to_the_end(self.records.remove, self.id)
        users.free(self.user)


def open_read_only(path: Path | str) -> int:
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
