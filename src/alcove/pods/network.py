"""A pod's network: its machine takes over what a CNI plugin made in the pod's namespace.

What is there is read, written down by the caller, changed by one of two models, and put back when the pod ends. Nothing
here outlives the namespace: where that is gone, so is all of this.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from alcove.errors import InvalidRequest
from alcove.host.netns import namespace_id, open_namespace, within
from alcove.pods import loopback, macvtap, tcfilter
from alcove.pods.interfaces import Interface, read_interfaces
from alcove.pods.model import NetworkModel

T = TypeVar("T")

_MODELS = {
    NetworkModel.TC_FILTER: (tcfilter.connect, tcfilter.disconnect),
    NetworkModel.MACVTAP: (macvtap.connect, macvtap.disconnect),
}


@dataclass(frozen=True, slots=True)
class Takeover:
    """What is taken over, and how; enough to undo it. ``identity`` tells the namespace from a later one at its path."""

    path: str
    identity: tuple[int, int]
    model: NetworkModel
    interface: Interface

    def to_json(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "identity": list(self.identity),
            "model": str(self.model),
            "interface": self.interface.to_json(),
        }

    @staticmethod
    def from_json(document: dict[str, Any]) -> Takeover:
        device, inode = document["identity"]
        return Takeover(
            document["path"],
            (int(device), int(inode)),
            NetworkModel(document["model"]),
            Interface.from_json(document["interface"]),
        )


def plan(path: str, model: NetworkModel) -> Takeover | None:
    """Return what there is to take over, None where the namespace has no interface. Changes nothing. Blocking."""
    namespace = open_namespace(path)
    try:
        found = within(namespace, lambda: _with_route(read_interfaces))
        if not found:
            return None
        if len(found) > 1:
            names = ", ".join(one.name for one in found)
            raise InvalidRequest(f"the pod's network has several interfaces ({names}): a machine has one")
        return Takeover(path, namespace_id(namespace), model, found[0])
    finally:
        os.close(namespace)


def connect(takeover: Takeover) -> int:
    """Carry it out; return the descriptor for the machine. Undone again where it fails. Blocking."""
    do, undo = _MODELS[takeover.model]

    def work(route: Any) -> int:
        undo(route, takeover.interface)
        try:
            return do(route, takeover.interface)
        except BaseException:
            undo(route, takeover.interface)
            raise

    namespace = open_namespace(takeover.path)
    try:
        return within(namespace, lambda: _with_route(work))
    finally:
        os.close(namespace)


def disconnect(takeover: Takeover) -> None:
    """Put the namespace back as it was, if it is still there. Blocking."""
    _, undo = _MODELS[takeover.model]

    def work(route: Any) -> None:
        undo(route, takeover.interface)
        loopback.undo()

    _inside(takeover, work, None)


def statistics(takeover: Takeover) -> dict[str, Any]:
    """Return what went through the pod's interface; empty where it is gone. Blocking."""

    def read(route: Any) -> dict[str, Any]:
        for link in route.get_links(takeover.interface.index):
            counts = link.get_attr("IFLA_STATS64") or {}
            names = ("bytes", "packets", "errors", "dropped")
            return {f"{way}_{name}": counts.get(f"{way}_{name}", 0) for way in ("rx", "tx") for name in names}
        return {}

    return {"name": takeover.interface.name, **_inside(takeover, read, {})}


def _inside(takeover: Takeover, work: Callable[[Any], T], otherwise: T) -> T:
    try:
        namespace = open_namespace(takeover.path)
    except InvalidRequest:
        return otherwise
    try:
        if namespace_id(namespace) != takeover.identity:
            return otherwise
        return within(namespace, lambda: _with_route(work))
    finally:
        os.close(namespace)


def _with_route(work: Callable[[Any], T]) -> T:
    from pyroute2 import IPRoute

    with IPRoute() as route:
        return work(route)
