"""The network model ``macvtap``: a child of the pod's interface in bridge mode, which the machine holds by its tap.

The machine has the interface's MAC, so the interface gets another; its addresses are cleared, for two that answer for
one address is none. Both come back when the pod is undone. ``/dev/tapN`` is named by an index that each namespace
counts for itself: the node is made here, by the numbers that the namespace's own sysfs tells, and is gone at once.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import secrets
import stat
import struct
import tempfile
from pathlib import Path
from typing import Any

from alcove.errors import HostError
from alcove.pods.interfaces import Interface

_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
_IFF_ALLMULTI = 0x200
_CLONE_NEWNS = 0x20000
_MS_REC, _MS_PRIVATE = 16384, 1 << 18
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_RDONLY = 2, 4, 8, 1


def tap_name(number: int) -> str:
    return f"alcmtap{number}"


def connect(route: Any, interface: Interface, number: int) -> int:
    """Return the descriptor of the machine's end. For a thread that ends afterwards: it leaves the mounts of all
    others.
    """
    from pyroute2 import NetlinkError

    try:
        for address in interface.addresses:
            _address(route, "del", interface, address)
        other = "02:" + ":".join(f"{octet:02x}" for octet in secrets.token_bytes(5))
        route.link("set", index=interface.index, address=other)
        route.link(
            "add",
            ifname=tap_name(number),
            kind="macvtap",
            link=interface.index,
            macvtap_mode="bridge",
            address=interface.mac,
            mtu=interface.mtu,
        )
        # Its own filter knows no multicast group that the guest has joined, as IPv6 does to find its neighbours.
        index = route.link_lookup(ifname=tap_name(number))[0]
        route.link("set", index=index, flags=_IFF_ALLMULTI, change=_IFF_ALLMULTI, state="up")
        return _open(tap_name(number))
    except (NetlinkError, OSError) as error:
        raise HostError(f"{interface.name} cannot be taken over by macvtap: {error}") from error


def disconnect(route: Any, interface: Interface, number: int) -> None:
    """Undo ``connect``, whatever of it was done."""
    from pyroute2 import NetlinkError

    for child in route.link_lookup(ifname=tap_name(number)):
        with contextlib.suppress(NetlinkError):
            route.link("del", index=child)
    with contextlib.suppress(NetlinkError):
        route.link("set", index=interface.index, address=interface.mac)
    for address in interface.addresses:
        with contextlib.suppress(NetlinkError):
            _address(route, "replace", interface, address)
    for one in interface.routes:
        with contextlib.suppress(NetlinkError):
            via = {"gateway": one.via} if one.via else {"scope": "link"}
            route.route("replace", dst=one.to, oif=interface.index, priority=one.priority, **via)


def _address(route: Any, verb: str, interface: Interface, address: str) -> None:
    text, _, length = address.partition("/")
    route.addr(verb, index=interface.index, address=text, prefixlen=int(length))


def _open(tap: str) -> int:
    """Open the tap by a node of our own. It takes a sysfs of the thread's network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    with tempfile.TemporaryDirectory(prefix="alcove-macvtap-") as name:
        if libc.unshare(_CLONE_NEWNS) or libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None):
            raise OSError(ctypes.get_errno(), "a mount namespace")
        flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC | _MS_RDONLY
        if libc.mount(b"sysfs", name.encode(), b"sysfs", flags, None):
            raise OSError(ctypes.get_errno(), "sysfs")
        try:
            (numbers,) = Path(name, "class/net", tap, "macvtap").glob("tap*/dev")
            major, minor = map(int, numbers.read_text().split(":"))
        finally:
            libc.umount2(name.encode(), 2)
        node = Path(name) / "tap"
        os.mknod(node, 0o600 | stat.S_IFCHR, os.makedev(major, minor))
        fd = os.open(node, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", b"", _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR))
    except BaseException:
        os.close(fd)
        raise
    return fd
