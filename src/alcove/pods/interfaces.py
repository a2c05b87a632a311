"""What a CNI plugin made in a pod's namespace: its interfaces with addresses, routes, MAC and MTU, read by netlink."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from typing import Any

_ARPHRD_ETHER = 1
_RT_TABLE_MAIN = 254
_RTPROT_KERNEL = 2
_RTN_UNICAST = 1
_SCOPE_LINK = 253
_IFF_UP = 1


@dataclass(frozen=True, slots=True)
class Route:
    """``to`` is a network; ``via`` None is a route to neighbours."""

    to: str
    via: str | None = None
    priority: int = 0

    def to_json(self) -> dict[str, Any]:
        return {"to": self.to, "via": self.via, "priority": self.priority}


@dataclass(frozen=True, slots=True)
class Interface:
    """An Ethernet interface. Routes that the kernel makes by itself from the addresses are not among ``routes``."""

    name: str
    index: int
    mac: str
    mtu: int
    addresses: tuple[str, ...] = ()
    routes: tuple[Route, ...] = ()

    def guest_config(self, dns: tuple[str, ...] = ()) -> dict[str, Any]:
        """Return what the guest's agent needs to take the interface's place."""
        return {
            "mac": self.mac,
            "mtu": self.mtu,
            "addresses": list(self.addresses),
            "routes": [route.to_json() for route in self.routes],
            "dns": list(dns),
        }

    def to_json(self) -> dict[str, Any]:
        return {**self.guest_config(), "name": self.name, "index": self.index}

    @staticmethod
    def from_json(document: dict[str, Any]) -> Interface:
        return Interface(
            document["name"],
            int(document["index"]),
            document["mac"],
            int(document["mtu"]),
            tuple(document["addresses"]),
            tuple(Route(**route) for route in document["routes"]),
        )


def read_interfaces(route: Any) -> list[Interface]:
    """Return the Ethernet interfaces that have an address and are up, in the kernel's order. ``route`` is an
    ``IPRoute`` in the pod's namespace.
    """
    addresses = _addresses(route)
    routes = _routes(route)
    found = []
    for link in route.get_links():
        index = link["index"]
        if link["ifi_type"] != _ARPHRD_ETHER or not link["flags"] & _IFF_UP or index not in addresses:
            continue
        found.append(
            Interface(
                link.get_attr("IFLA_IFNAME"),
                index,
                link.get_attr("IFLA_ADDRESS"),
                link.get_attr("IFLA_MTU"),
                tuple(addresses[index]),
                tuple(routes.get(index, ())),
            )
        )
    return found


def _addresses(route: Any) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for address in route.get_addr():
        text = address.get_attr("IFA_LOCAL") or address.get_attr("IFA_ADDRESS")
        if text and not ipaddress.ip_address(text).is_link_local:
            found.setdefault(address["index"], []).append(f"{text}/{address['prefixlen']}")
    return found


def _routes(route: Any) -> dict[int, list[Route]]:
    """By interface; those that need no gateway come first: the others are reached by them."""
    found: dict[int, list[Route]] = {}
    for entry in route.get_routes(table=_RT_TABLE_MAIN):
        if entry["proto"] == _RTPROT_KERNEL or entry["type"] != _RTN_UNICAST:
            continue
        out = entry.get_attr("RTA_OIF")
        if out is not None:
            everywhere = "0.0.0.0" if entry["family"] == socket.AF_INET else "::"
            to = f"{entry.get_attr('RTA_DST') or everywhere}/{entry['dst_len']}"
            found.setdefault(out, []).append(
                Route(to, entry.get_attr("RTA_GATEWAY"), entry.get_attr("RTA_PRIORITY") or 0)
            )
    return {out: sorted(routes, key=lambda one: one.via is not None) for out, routes in found.items()}
