"""The ports of sandboxes: what ``Network`` makes ahead and attaches to a tenant's bridge."""

from __future__ import annotations

import fcntl
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR = 0x0002, 0x1000, 0x4000


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

    def close(self) -> None:
        """Close our end; whoever else holds the tap keeps it."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

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


def open_tap(name: str) -> int:
    """Make a tap in the calling thread's network namespace; it lives as long as its descriptor. Raises ``OSError``."""
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR))
    except BaseException:
        os.close(fd)
        raise
    return fd
