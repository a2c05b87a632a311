"""The pod's virtual machine as the shim sees it: started and ended by the node service, spoken to through its agent."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from alcove.shim import spec as oci
from alcove.shim.agent import Agent, AgentError
from alcove.shim.loop import Loop
from alcove.shim.node import Node, NodeError

_STOP_TIMEOUT_S = 20.0
_HOSTNAME = "io.kubernetes.cri.sandbox-hostname"


class Machine:
    """A started machine: ``pid`` is its VMM's on this host."""

    def __init__(self, agent: Agent, pid: int, host_paths: bool) -> None:
        self.agent = agent
        self.pid = pid
        # Whether it may be shown folders of the host.
        self.host_paths = host_paths


async def start(loop: Loop, node: Node, *, pod: str, spec: Mapping[str, Any]) -> Machine:
    """Have the pod's machine started and its agent answer. Raises ``NodeError``, ``AgentError``, ``SpecError``."""
    netns = oci.netns(spec)
    if netns is not None and _is_hosts(netns):
        raise oci.SpecError("hostNetwork is not possible for a pod in a machine of its own")
    cpus, memory_mib, disk_mib = oci.machine_size(spec)
    answer = await node.request(
        "start_pod",
        pod=pod,
        netns=netns,
        hostname=spec.get("hostname") or pod[:63],
        cpus=cpus,
        memory_mib=memory_mib,
        disk_mib=disk_mib,
        annotations=dict(spec.get("annotations") or {}),
        shim={"pid": os.getpid(), "start_time": start_time(os.getpid())},
    )
    try:
        agent = Agent(loop, answer["agent"])
    except OSError as error:
        raise NodeError("failed", f"the agent of the pod's machine cannot be reached: {error}") from error
    agent.greet()
    return Machine(agent, int(answer["machine"]["pid"]), bool(answer.get("host_paths")))


async def stop(node: Node, pod: str, machine: Machine | None) -> None:
    """End the pod's machine and free what it had, as far as can be done without the node service. Never raises.

    Where the service is away, the guest powers itself off; the service, when it is back, finds this shim gone.
    """
    try:
        await node.request("stop_pod", timeout_s=_STOP_TIMEOUT_S, pod=pod)
    except (NodeError, TimeoutError):
        if machine is not None and not machine.agent.closed:
            try:
                await machine.agent.request("shutdown", timeout_s=2)
            except (AgentError, TimeoutError):
                pass
    if machine is not None:
        machine.agent.close()


def start_time(pid: int) -> int:
    """Return when a process was started, in the kernel's ticks: with the pid it names the process for good."""
    with open(f"/proc/{pid}/stat") as file:
        # The name, in parentheses, may have blanks and parentheses itself.
        return int(file.read().rpartition(")")[2].split()[19])


def _is_hosts(netns: str) -> bool:
    try:
        theirs, ours = os.stat(netns), os.stat("/proc/1/ns/net")
    except OSError:
        return False
    return (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino)
