"""What the host tells the agent of a pod's machine, before a shim is its client."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from alcove.pods.host import PodHost
from alcove.pods.interfaces import Interface
from alcove.sandbox import vm

MOUNT_SCRATCH: dict[str, Any] = {"op": "mount_scratch", "device": "vdb", "path": "/run/alcove/scratch"}
GUEST_PIDS = 4096


def personality(host: PodHost, interfaces: Sequence[Interface]) -> dict[str, Any]:
    """Return the operation that makes a machine this pod and no other."""
    networks = [network_config(one) for one in interfaces]
    operation = vm.personality(host.id, networks[0] if networks else None, host.spec.hostname)
    return {**operation, "more_networks": networks[1:]} if len(networks) > 1 else operation


def network_config(interface: Interface) -> dict[str, Any]:
    """Return the interface's place in the guest; ``address`` and ``gateway`` are for agents that know one of each."""
    first = next((one for one in interface.addresses if ":" not in one), None)
    gateway = next((one.via for one in interface.routes if one.via and ":" not in one.via), None)
    config = {**interface.guest_config(), "name": interface.name}
    if first is not None:
        config |= {"address": first, "gateway": gateway or first.partition("/")[0]}
    return config


def limits(host: PodHost) -> dict[str, Any]:
    return {"op": "limits", "memory_mib": host.spec.memory_mib, "pids": GUEST_PIDS}
