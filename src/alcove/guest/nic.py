"""The machine's network card, and what a clone changes of it.

After a restore each path through the kernel runs for the first time, which costs more than what it does: all that is
the same in every clone is set before a template is saved, and the rest takes one ioctl and one netlink message.
Sources: rtnetlink(7), netdevice(7).
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from typing import Any

_SIOCSIFHWADDR, _SIOCSIFMTU, _SIOCSIFFLAGS, _SIOCSIFNAME = 0x8924, 0x8922, 0x8914, 0x8923
_IFF_UP, _IFF_RUNNING = 0x1, 0x40
_RTM_NEWADDR, _RTM_DELADDR, _RTM_NEWROUTE = 20, 21, 24
_NLM_F_REQUEST, _NLM_F_REPLACE, _NLM_F_CREATE = 0x1, 0x100, 0x400
_NLMSG_ERROR = 2
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY = 1, 4, 5, 6
_TABLE_MAIN, _PROTOCOL_STATIC, _TYPE_UNICAST = 254, 4, 1
_SCOPE_UNIVERSE, _SCOPE_LINK = 0, 253
# Nobody else has the address: who made the interface has seen to that.
_IFA_F_NODAD = 0x02
_RESOLVER = "/run/resolv.conf"
_IPV6 = "/proc/sys/net/ipv6/conf"


class Nic:
    """A card that is up. Raises ``OSError`` where there is none of this name."""

    def __init__(self, name: str) -> None:
        self.name = name
        bring_up(name)
        self._index = socket.if_nametoindex(name)
        self._netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._netlink.setblocking(False)
        self._address: bytes | None = None
        self._addresses: list[tuple[bytes, int]] = []  # of either family, with the prefix
        self._mtu = 0
        self._resolver = ""

    def configure(self, network: dict[str, Any]) -> None:
        """Set DNS, MTU, MAC and, of a function, the /32 address and a default route by an on-link gateway; of a pod the
        ``addresses`` (``10.1.2.3/24``) and ``routes`` (``{to, via, priority}``, in an order in which each can be
        added; without ``via`` to neighbours).
        """
        resolver = "".join(f"nameserver {server}\n" for server in network["dns"])
        for word in ("search", "options"):
            if network.get(word):
                resolver += f"{word} {' '.join(network[word])}\n"
        if resolver != self._resolver:
            with open(_RESOLVER, "w") as file:
                file.write(resolver)
            self._resolver = resolver
        if network["mtu"] != self._mtu:
            self._request(_SIOCSIFMTU, struct.pack("i20x", network["mtu"]))
            self._mtu = network["mtu"]
        if network.get("name", self.name) != self.name:
            self._rename(network["name"])
        hardware = bytes.fromhex(network["mac"].replace(":", ""))
        self._request(_SIOCSIFHWADDR, struct.pack("H6s16x", 1, hardware))
        if "addresses" in network:
            self._settle(network)
            return
        self._move(socket.inet_aton(network["address"].partition("/")[0]), socket.inet_aton(network["gateway"]))

    def _move(self, address: bytes, gateway: bytes) -> None:
        if address == self._address:
            return
        self.release()
        out = _attribute(_RTA_OIF, struct.pack("i", self._index))
        to_gateway, default = _route(32, _SCOPE_LINK), _route(0, _SCOPE_UNIVERSE)
        self._send(
            _message(_RTM_NEWADDR, self._place(address)),
            _message(_RTM_NEWROUTE, to_gateway + _attribute(_RTA_DST, gateway) + out),
            _message(_RTM_NEWROUTE, default + _attribute(_RTA_GATEWAY, gateway) + out),
        )
        self._address = address

    def _settle(self, network: dict[str, Any]) -> None:
        """Take the addresses and routes of the place that the machine takes."""
        self.release()
        if any(":" in text for text in network["addresses"]):
            # Until there are such addresses the card has none, and sends nothing of its own.
            for setting, value in (("accept_ra", "0"), ("disable_ipv6", "0")):
                with open(f"{_IPV6}/{self.name}/{setting}", "w") as file:
                    file.write(value)
        for text in network["addresses"]:
            address, prefix = _network(text)
            self._addresses.append((address, prefix))
            self._send(_message(_RTM_NEWADDR, self._place(address, prefix)))
        for route in network["routes"]:
            self._send(_message(_RTM_NEWROUTE, self._way(route)))

    def _rename(self, name: str) -> None:
        """Which the kernel does of a card that is down."""
        self.take_down()
        self._request(_SIOCSIFNAME, name.encode().ljust(24, b"\0"))
        self.name = name
        bring_up(name)

    def _way(self, route: dict[str, Any]) -> bytes:
        to, prefix = _network("0.0.0.0/0" if route["to"] == "default" else route["to"])
        via, priority = route.get("via"), route.get("priority")
        body = _route(prefix, _SCOPE_UNIVERSE if via else _SCOPE_LINK, _family(to))
        body += _attribute(_RTA_DST, to) if prefix else b""
        body += _attribute(_RTA_GATEWAY, _packed(via)) if via else b""
        body += _attribute(_RTA_PRIORITY, struct.pack("I", priority)) if priority else b""
        return body + _attribute(_RTA_OIF, struct.pack("i", self._index))

    def release(self) -> None:
        """Give up the addresses; their routes go with them."""
        while self._addresses:
            self._send(_message(_RTM_DELADDR, self._place(*self._addresses.pop())))
        if self._address is not None:
            self._send(_message(_RTM_DELADDR, self._place(self._address)))
            self._address = None

    def take_down(self) -> None:
        self._request(_SIOCSIFFLAGS, struct.pack("H22x", 0))

    def _place(self, address: bytes, prefix: int = 32) -> bytes:
        family = _family(address)
        flags = _IFA_F_NODAD if family == socket.AF_INET6 else 0
        place = struct.pack("BBBBI", family, prefix, flags, _SCOPE_UNIVERSE, self._index)
        return place + _attribute(_IFA_LOCAL, address) + _attribute(_IFA_ADDRESS, address)

    def _request(self, number: int, value: bytes) -> None:
        fcntl.ioctl(self._netlink, number, self.name.encode().ljust(16, b"\0") + value)

    def _send(self, *messages: bytes) -> None:
        """Send; the kernel carries messages out before it returns, and answers those that fail alone."""
        self._netlink.send(b"".join(messages))
        first = 0
        while True:
            try:
                answer = self._netlink.recv(4096)
            except BlockingIOError:
                break
            kind, code = struct.unpack_from("4xH10xi", answer)
            if kind == _NLMSG_ERROR:
                first = first or -code
        if first:
            raise OSError(first, os.strerror(first), self.name)


def bring_up(name: str) -> None:
    """Set a network device up. Raises ``OSError`` where there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH22x", name.encode(), _IFF_UP | _IFF_RUNNING))


def _network(text: str) -> tuple[bytes, int]:
    """Return address and prefix of ``10.1.2.0/24`` or ``fd00::/64``."""
    address, _, prefix = text.partition("/")
    packed = _packed(address)
    return packed, int(prefix or 8 * len(packed))


def _packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def _family(address: bytes) -> int:
    return socket.AF_INET if len(address) == 4 else socket.AF_INET6


def _message(kind: int, body: bytes) -> bytes:
    flags = _NLM_F_REQUEST | _NLM_F_CREATE | _NLM_F_REPLACE
    return struct.pack("IHHII", 16 + len(body), kind, flags, 0, 0) + body


def _route(prefix: int, scope: int, family: int = socket.AF_INET) -> bytes:
    return struct.pack("BBBBBBBBI", family, prefix, 0, 0, _TABLE_MAIN, _PROTOCOL_STATIC, scope, _TYPE_UNICAST, 0)


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)
