"""A pod's network: its machine takes over what a CNI plugin made in the pod's namespace.

What is there is read, written down by the caller, changed by one of two models, and put back when the pod ends. Nothing
here outlives the namespace: where that is gone, so is all of this. Blocking: for threads.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from alcove.errors import InvalidRequest
from alcove.host.netns import namespace_id, open_namespace, within
from alcove.pods import loopback, macvtap, tcfilter
from alcove.pods.interfaces import Interface, read_interfaces
from alcove.pods.model import NetworkModel
from alcove.pods.taps import PodTap, TapYard

T = TypeVar("T")

# Each is a card of the machine's, with a template of its own for each number of them.
MOST_INTERFACES = 4
_UNDO = {NetworkModel.TC_FILTER: tcfilter.disconnect, NetworkModel.MACVTAP: macvtap.disconnect}


@dataclass(frozen=True, slots=True)
class Takeover:
    """What is taken over, and how; enough to undo it. ``identity`` tells the namespace from a later one at its path."""

    path: str
    identity: tuple[int, int]
    model: NetworkModel
    interfaces: tuple[Interface, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "identity": list(self.identity),
            "model": str(self.model),
            "interfaces": [one.to_json() for one in self.interfaces],
        }

    @staticmethod
    def from_json(document: dict[str, Any]) -> Takeover:
        device, inode = document["identity"]
        return Takeover(
            document["path"],
            (int(device), int(inode)),
            NetworkModel(document["model"]),
            tuple(map(Interface.from_json, document["interfaces"])),
        )


def plan(path: str, model: NetworkModel) -> Takeover | None:
    """Return what there is to take over, None where the namespace has no interface. Changes nothing."""
    with _namespace(path) as namespace:
        found = within(namespace, lambda: _with_route(read_interfaces))
        if len(found) > MOST_INTERFACES:
            names = ", ".join(one.name for one in found)
            raise InvalidRequest(f"the pod's network has more than {MOST_INTERFACES} interfaces: {names}")
        return Takeover(path, namespace_id(namespace), model, tuple(found)) if found else None


def connect_taps(takeover: Takeover, yard: TapYard, taps: Sequence[PodTap]) -> None:
    """Carry it out for taps that the machine holds already, one for each interface. Undone again where it fails."""
    with _namespace(takeover.path) as namespace:
        within(namespace, lambda: _with_route(lambda route: _undo(takeover, route)))
        for number, tap in enumerate(taps):
            yard.move(tap, namespace, tcfilter.tap_name(number))

        def work(route: Any) -> None:
            with _undone(takeover, route):
                for number, interface in enumerate(takeover.interfaces):
                    tcfilter.connect(route, interface, number)

        within(namespace, lambda: _with_route(work))


def open_macvtaps(takeover: Takeover) -> list[PodTap]:
    """Carry it out by macvtap; return the ends for the machine. Undone again where it fails."""

    def work(route: Any) -> list[PodTap]:
        _undo(takeover, route)
        taps: list[PodTap] = []
        with _undone(takeover, route):
            try:
                for number, interface in enumerate(takeover.interfaces):
                    taps.append(PodTap(macvtap.tap_name(number), macvtap.connect(route, interface, number)))
            except BaseException:
                for tap in taps:
                    tap.close()
                raise
        return taps

    with _namespace(takeover.path) as namespace:
        return within(namespace, lambda: _with_route(work))


def disconnect(takeover: Takeover) -> None:
    """Put the namespace back as it was, if it is still there."""

    def work(route: Any) -> None:
        _undo(takeover, route)
        loopback.undo()

    _inside(takeover, work, None)


def statistics(takeover: Takeover) -> list[dict[str, Any]]:
    """Return what went through each of the pod's interfaces; none where they are gone."""

    def read(route: Any) -> list[dict[str, Any]]:
        links = {link["index"]: link for link in route.get_links()}
        return [_traffic(one, links[one.index]) for one in takeover.interfaces if one.index in links]

    return _inside(takeover, read, [])


def _traffic(interface: Interface, link: Any) -> dict[str, Any]:
    counts = link.get_attr("IFLA_STATS64") or {}
    names = ("bytes", "packets", "errors", "dropped")
    values = {f"{way}_{name}": counts.get(f"{way}_{name}", 0) for way in ("rx", "tx") for name in names}
    return {"name": interface.name, **values}


def _undo(takeover: Takeover, route: Any) -> None:
    for number, interface in enumerate(takeover.interfaces):
        _UNDO[takeover.model](route, interface, number)


@contextlib.contextmanager
def _undone(takeover: Takeover, route: Any) -> Iterator[None]:
    try:
        yield
    except BaseException:
        _undo(takeover, route)
        raise


@contextlib.contextmanager
def _namespace(path: str) -> Iterator[int]:
    namespace = open_namespace(path)
    try:
        yield namespace
    finally:
        os.close(namespace)


def _inside(takeover: Takeover, work: Callable[[Any], T], otherwise: T) -> T:
    try:
        with _namespace(takeover.path) as namespace:
            if namespace_id(namespace) != takeover.identity:
                return otherwise
            return within(namespace, lambda: _with_route(work))
    except InvalidRequest:
        return otherwise


def _with_route(work: Callable[[Any], T]) -> T:
    from pyroute2 import IPRoute

    with IPRoute() as route:
        return work(route)
