"""The agent of a pod's guest: what every agent does, and containers.

Apart from the agent of functions, whose templates this must not make larger. All modules are imported, crun's copy is
made and every path is taken once (``rehearse``) before a template is saved.
"""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Callable
from typing import Any

from alcove.guest import files, kernel, pod_cgroup, rehearsal, setup, sysctl, volumes
from alcove.guest.agent import Agent
from alcove.guest.containers import Containers
from alcove.guest.crun import Crun
from alcove.guest.forwards import Forwards
from alcove.guest.nfs import NfsMounts
from alcove.guest.places import CONTAINERS, DISKS, FILES, HOME, IMAGES, NFS, SCRATCH, SHARES
from alcove.guest.port import Port, find_port
from alcove.wire.streams import CHANNEL

_FILES = "mode=755,size=256m,nr_inodes=262144"


class Pod:
    """Gives an agent the operations of a pod's."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self.containers = Containers(agent, Crun())
        self.forwards = Forwards(agent, Port(find_port(CHANNEL)))
        agent.on_data = self.containers.feed
        self.nfs = NfsMounts(agent)
        agent.on_child = self._ended
        agent.later["mount_nfs"] = self.nfs.mount
        agent.on_full = self.containers.throttle
        agent.add_ops(self.containers.ops())
        agent.add_ops(
            {
                "limits": pod_cgroup.limit,
                "mount_image": volumes.mount_image,
                "unmount_image": volumes.unmount_image,
                "mount_disk": volumes.mount_disk,
                "mount_memory": volumes.mount_memory,
                "mount_share": volumes.mount_share,
                "mount_scratch": self._mount_scratch,
                "put_files": self._put_files,
                "read_file": files.read_file,
                "sysctl": sysctl.set_values,
                "rehearse": self._rehearse,
            }
        )

    def _ended(self, pid: int, status: int) -> None:
        if not self.nfs.ended(pid, status):
            self.containers.ended(pid, status)

    def _mount_scratch(self, request: dict[str, Any]) -> None:
        """The disk of what containers write; ``path`` is ours to say, whatever is asked for."""
        volumes.mount_scratch(volumes.device_in(request), SCRATCH)
        with contextlib.suppress(OSError):
            os.rmdir(f"{SCRATCH}/lost+found")

    def _put_files(self, request: dict[str, Any]) -> None:
        self._with_copy(request, lambda tar: files.put_files(request, tar))

    def _rehearse(self, request: dict[str, Any]) -> None:
        self._with_copy(request, lambda tar: rehearsal.rehearse(self.containers, tar))

    def _with_copy(self, request: dict[str, Any], act: Callable[[int], None]) -> None:
        copy = self._agent.take_copy(int(request["stream"]))
        try:
            act(copy)
        finally:
            os.close(copy)


def set_up() -> None:
    """Folders and groups that containers need."""
    for folder in (HOME, IMAGES, DISKS, SHARES, NFS, FILES, CONTAINERS, SCRATCH):
        os.mkdir(folder, 0o711)
    # /run itself lets nothing be executed, which scripts of a ConfigMap are; containers' writes are kept out of it.
    kernel.mount("tmpfs", FILES, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, _FILES)
    # ::1, whatever addresses the pod's network has.
    with contextlib.suppress(OSError), open("/proc/sys/net/ipv6/conf/lo/disable_ipv6", "w") as file:
        file.write("0")
    pod_cgroup.set_up()


def main() -> None:
    setup.set_up()
    set_up()
    agent = Agent()
    Pod(agent)
    # Collecting garbage writes to every object, which after a fork or a restore copies its page.
    gc.collect()
    gc.freeze()
    agent.serve()
