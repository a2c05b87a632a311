"""The command line and environment that containerd starts a shim with; flags are written as Go writes them."""

from __future__ import annotations

import os

from alcove.shim.address import FOLDER

# As in ``shim/node.py``, which ``start`` does not import.
NODE = "/run/alcove/pods.sock"
_FLAGS = ("namespace", "address", "publish-binary", "id", "bundle", "socket")
_SWITCHES = ("debug", "v", "info", "version", "help", "h")


class Arguments:
    """``node`` and ``sockets``: the node service's socket, and the folder where shims listen."""

    __slots__ = ("action", "address", "bundle", "events", "id", "namespace", "node", "sockets", "switches")

    def __init__(self, words: list[str]) -> None:
        """Raises ``ValueError``."""
        values, self.switches, rest = _parse(words)
        self.action = rest[0] if rest else ""
        self.namespace = values.get("namespace") or os.environ.get("NAMESPACE") or "default"
        self.id = values.get("id", "")
        self.bundle = values.get("bundle", "")
        self.address = values.get("address") or os.environ.get("GRPC_ADDRESS", "")
        self.events = os.environ.get("TTRPC_ADDRESS") or f"{self.address}.ttrpc"
        self.node = os.environ.get("ALCOVE_PODS_SOCKET") or NODE
        self.sockets = os.environ.get("ALCOVE_SHIM_FOLDER") or FOLDER


def _parse(words: list[str]) -> tuple[dict[str, str], set[str], list[str]]:
    values: dict[str, str] = {}
    switches: set[str] = set()
    waiting = list(words)
    while waiting and waiting[0].startswith("-"):
        name, separator, value = waiting.pop(0).lstrip("-").partition("=")
        if name in _SWITCHES:
            switches.add(name)
        elif name not in _FLAGS:
            raise ValueError(f"unknown flag -{name}")
        elif not separator and not waiting:
            raise ValueError(f"flag -{name} needs a value")
        else:
            values[name] = value if separator else waiting.pop(0)
    return values, switches, waiting
