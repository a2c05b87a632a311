"""The ports of sandboxes: what ``Network`` makes ahead and attaches to a tenant's bridge."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(slots=True)
class Tap:
    """A port made ahead. QEMU inherits ``fd``; the tap lives as long as some process holds it open."""

    name: str
    fd: int
    address: str
    mac: str
    gateway: str
    dns: tuple[str, ...]
    mtu: int
    index: int = 0
    tenant: str | None = None

    def guest_config(self) -> dict[str, Any]:
        """Return what the guest's agent needs to set up its NIC."""
        return {
            "mac": self.mac,
            "address": f"{self.address}/32",
            "gateway": self.gateway,
            "dns": list(self.dns),
            "mtu": self.mtu,
        }


@dataclass(slots=True)
class Veth(Tap):
    """A container's port: one end of a pair, the other is ``eth0`` in a namespace of the container's own."""

    namespace: str = ""

    @property
    def namespace_path(self) -> Path:
        return Path("/run/netns") / self.namespace
