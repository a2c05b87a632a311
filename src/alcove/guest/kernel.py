"""System calls that Python's standard library lacks, bound once.

Sources: mount(2), umount2(2), prctl(2), random(4), rtnetlink(7), netdevice(7).
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct

_libc = ctypes.CDLL(None, use_errno=True)
_mount = _libc.mount
_umount2 = _libc.umount2
_prctl = _libc.prctl

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND = 1, 2, 4, 8, 32, 4096
MNT_DETACH = 2
_PR_SET_NO_NEW_PRIVS = 38
_RNDADDENTROPY = 0x40085203
_RNDRESEEDCRNG = 0x5207
_SIOCSIFHWADDR, _SIOCSIFMTU, _SIOCGIFINDEX = 0x8924, 0x8922, 0x8933
_SIOCSIFADDR, _SIOCSIFNETMASK = 0x8916, 0x891C
_RTM_NEWROUTE = 24
_SIOCSIFFLAGS, _IFF_UP, _IFF_RUNNING = 0x8914, 0x1, 0x40
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_REPLACE, _NLM_F_CREATE = 0x1, 0x4, 0x100, 0x400


def _check(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def mount(source: str, target: str, kind: str, flags: int = 0, data: str = "") -> None:
    _check(_mount(source.encode(), target.encode(), kind.encode(), flags, data.encode() or None), target)


def unmount(target: str, flags: int = 0) -> None:
    _check(_umount2(target.encode(), flags), target)


def forbid_new_privileges() -> None:
    _check(_prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")


def add_entropy(entropy: bytes) -> None:
    """Credit ``entropy`` to the kernel's pool and have every generator reseed from it at once."""
    fd = os.open("/dev/urandom", os.O_WRONLY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, _RNDADDENTROPY, struct.pack("ii", len(entropy) * 8, len(entropy)) + entropy)
        fcntl.ioctl(fd, _RNDRESEEDCRNG)
    finally:
        os.close(fd)


def set_up_nic(name: str, mac: str, address: str, gateway: str, mtu: int) -> None:
    """Give a NIC that is up its MAC, its /32 address and a default route by an on-link gateway."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        padded = name.encode().ljust(16, b"\0")
        hardware = struct.pack("H6s", 1, bytes.fromhex(mac.replace(":", "")))
        fcntl.ioctl(control, _SIOCSIFHWADDR, padded + hardware + bytes(16))
        fcntl.ioctl(control, _SIOCSIFMTU, padded + struct.pack("i20x", mtu))
        # These replace the address that a snapshot was saved with; netlink would add a second one beside it.
        for request, value in ((_SIOCSIFADDR, address.partition("/")[0]), (_SIOCSIFNETMASK, "255.255.255.255")):
            place = struct.pack("HH4s16x", socket.AF_INET, 0, socket.inet_aton(value))
            fcntl.ioctl(control, request, padded + place)
        answer = fcntl.ioctl(control, _SIOCGIFINDEX, padded + bytes(24))
        (index,) = struct.unpack_from("i", answer, 16)
    route = socket.inet_aton(gateway)
    create = _NLM_F_CREATE | _NLM_F_REPLACE
    # Family, destination bits, source bits, TOS, table main, protocol static, scope, type unicast, flags.
    host = struct.pack("BBBBBBBBI", socket.AF_INET, 32, 0, 0, 254, 4, 253, 1, 0)
    host += _attribute(1, route) + _attribute(4, struct.pack("i", index))
    default = struct.pack("BBBBBBBBI", socket.AF_INET, 0, 0, 0, 254, 4, 0, 1, 0)
    default += _attribute(5, route) + _attribute(4, struct.pack("i", index))
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        for number, body in enumerate((host, default)):
            flags = _NLM_F_REQUEST | _NLM_F_ACK | create
            netlink.send(struct.pack("IHHII", 16 + len(body), _RTM_NEWROUTE, flags, number, 0) + body)
            (code,) = struct.unpack_from("i", netlink.recv(4096), 16)
            if code:
                raise OSError(-code, os.strerror(-code), f"{name}, route {number}")


def bring_up(name: str) -> None:
    """Set a network device up. Raises ``OSError`` where there is none."""
    _set_flags(name, _IFF_UP | _IFF_RUNNING)


def take_down(name: str) -> None:
    """Set a network device down; its routes go with it. Raises ``OSError`` where there is none."""
    _set_flags(name, 0)


def _set_flags(name: str, flags: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH22x", name.encode(), flags))


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)
