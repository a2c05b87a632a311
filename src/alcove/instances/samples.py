"""What pods use now: one look at the runtime and at their interfaces, for ``alcove stats`` and for Prometheus alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from alcove.instances.cri_config import CONTAINER, UID


@dataclass(frozen=True, slots=True)
class ContainerUse:
    """``cpu_ns`` is since the container's start."""

    name: str
    cpu_ns: int = 0
    memory_bytes: int = 0
    disk_bytes: int = 0


def by_pod(stats: Iterable[Mapping[str, Any]]) -> dict[str, list[ContainerUse]]:
    """Return what CRI's ListContainerStats tells by pods' uids, containers by name."""
    found: dict[str, list[ContainerUse]] = {}
    for one in stats:
        labels = (one["attributes"] or {}).get("labels") or {}
        if UID in labels and CONTAINER in labels:
            found.setdefault(labels[UID], []).append(_use(labels[CONTAINER], one))
    return {uid: sorted(uses, key=lambda use: use.name) for uid, uses in found.items()}


def _use(name: str, one: Mapping[str, Any]) -> ContainerUse:
    return ContainerUse(
        name,
        _value(one["cpu"], "usage_core_nano_seconds"),
        _value(one["memory"], "working_set_bytes"),
        _value(one["writable_layer"], "used_bytes"),
    )


def _value(group: Mapping[str, Any] | None, name: str) -> int:
    return int(((group or {}).get(name) or {}).get("value", 0))
