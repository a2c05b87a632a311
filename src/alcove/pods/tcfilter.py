"""The network model ``tcfilter``: all that reaches the pod's interface is handed to a tap, and the other way round.

The interface keeps its addresses, so that whoever made it still finds what it made; its kernel sees none of the
packets. The paper's conflict: a second ingress queue on one device is refused, so this model and a plugin that shapes
ingress on the same interface exclude each other.
"""

from __future__ import annotations

import contextlib
import errno
from typing import Any

from alcove.errors import HostError
from alcove.pods.interfaces import Interface

_INGRESS = 0xFFFF0000
_ETH_P_ALL = 3


def tap_name(number: int) -> str:
    return f"alctap{number}"


def connect(route: Any, interface: Interface, number: int) -> None:
    """Give the interface's traffic to the tap of that number, which is in the pod's namespace already."""
    from pyroute2 import NetlinkError

    try:
        tap = route.link_lookup(ifname=tap_name(number))[0]
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
        if error.code == errno.EEXIST:
            raise HostError(
                f"{interface.name} has an ingress queue already, made by a plugin of the pod's network",
                hint="choose the network model macvtap (annotation io.alcove.network-model)",
            ) from error
        raise HostError(f"{interface.name} cannot be taken over: {error}") from error


def disconnect(route: Any, interface: Interface, number: int) -> None:
    """Undo ``connect``; the tap went with its machine, unless that is being ended still."""
    from pyroute2 import NetlinkError

    for tap in route.link_lookup(ifname=tap_name(number)):
        with contextlib.suppress(NetlinkError):
            route.link("del", index=tap)
    with contextlib.suppress(NetlinkError):
        route.tc("del", "ingress", interface.index, _INGRESS)
