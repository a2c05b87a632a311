"""The network model ``tcfilter``: all that reaches the pod's interface is handed to a tap, and the other way round.

The interface keeps its addresses, so that whoever made it still finds what it made; its kernel sees none of the
packets. The paper's conflict: a second ingress queue on one device is refused, so this model and a plugin that shapes
ingress on the same interface exclude each other.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import Any

from alcove.errors import HostError
from alcove.host.ports import open_tap
from alcove.pods.interfaces import Interface

TAP = "alctap0"
_INGRESS = 0xFFFF0000
_ETH_P_ALL = 3


def connect(route: Any, interface: Interface) -> int:
    """Return the descriptor of a tap that has the interface's traffic."""
    from pyroute2 import NetlinkError

    fd = open_tap(TAP)
    try:
        tap = route.link_lookup(ifname=TAP)[0]
        route.link("set", index=tap, mtu=interface.mtu, state="up")
        for source, target in ((interface.index, tap), (tap, interface.index)):
            route.tc("add", "ingress", source, _INGRESS)
            redirect = {"kind": "mirred", "direction": "egress", "action": "redirect", "ifindex": target}
            route.tc(
                "add-filter",
                "u32",
                source,
                parent=_INGRESS,
                prio=1,
                protocol=_ETH_P_ALL,
                target=0,
                keys=["0x0/0x0+0"],
                action=[redirect],
            )
    except NetlinkError as error:
        os.close(fd)
        if error.code == errno.EEXIST:
            raise HostError(
                f"{interface.name} has an ingress queue already, made by a plugin of the pod's network",
                hint="choose the network model macvtap (annotation io.alcove.network-model)",
            ) from error
        raise HostError(f"{interface.name} cannot be taken over: {error}") from error
    except BaseException:
        os.close(fd)
        raise
    return fd


def disconnect(route: Any, interface: Interface) -> None:
    """Undo ``connect``; the tap went with its machine, unless that is being ended still."""
    from pyroute2 import NetlinkError

    for tap in route.link_lookup(ifname=TAP):
        with contextlib.suppress(NetlinkError):
            route.link("del", index=tap)
    with contextlib.suppress(NetlinkError):
        route.tc("del", "ingress", interface.index, _INGRESS)
