"""What a container or a machine uses, as containerd reads it. The guest's numbers are the guest's word, bounded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alcove.wire import cgroup_messages
from alcove.wire.protobuf import Message

_MAX = (1 << 64) - 1
_MAX_DISKS = 64
_UNLIMITED = _MAX


def of_container(reply: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``Metrics`` of the agent's ``container_stats``."""
    memory, pids = _part(reply, "memory"), _part(reply, "pids")
    numbers = _known(cgroup_messages.MEMORY, _part(memory, "stat"))
    numbers["usage"] = _number(memory.get("current"))
    numbers["usage_limit"] = _limit(memory.get("max"))
    numbers["max_usage"] = _number(memory.get("peak"))
    numbers["swap_usage"] = _number(memory.get("swap_current"))
    disks = reply.get("io")
    return {
        "memory": numbers,
        "memory_events": _known(cgroup_messages.MEMORY_EVENTS, _part(memory, "events")),
        "cpu": _known(cgroup_messages.CPU, _part(reply, "cpu")),
        "pids": {"current": _number(pids.get("current")), "limit": _limit(pids.get("max"))},
        "io": {"usage": [_known(cgroup_messages.IO_ENTRY, disk) for disk in _objects(disks)]},
    }


def of_machine(reply: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``Metrics`` of the node service's ``pod_stats``."""
    machine = _part(reply, "machine")
    known = {field.name for field in cgroup_messages.NETWORK.fields}
    networks = []
    for found in _objects(reply.get("network")):
        numbers = {name: _number(value) for name, value in found.items() if name in known and name != "name"}
        networks.append({"name": str(found.get("name", "")), **numbers})
    return {
        "memory": {"usage": _number(machine.get("rss_bytes"))},
        "cpu": {"usage_usec": _number(machine.get("cpu_ns")) // 1000},
        "network": networks,
    }


def _part(reply: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = reply.get(name)
    return part if isinstance(part, dict) else {}


def _objects(items: Any) -> list[dict[str, Any]]:
    return [item for item in items[:_MAX_DISKS] if isinstance(item, dict)] if isinstance(items, list) else []


def _known(table: Message, numbers: Mapping[str, Any]) -> dict[str, Any]:
    names = {field.name for field in table.fields}
    return {name: _number(value) for name, value in numbers.items() if name in names}


def _number(value: Any) -> int:
    return min(max(value, 0), _MAX) if isinstance(value, int) else 0


def _limit(value: Any) -> int:
    """cgroups say ``max`` where there is no limit."""
    return _number(value) if isinstance(value, int) else _UNLIMITED
