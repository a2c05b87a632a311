"""Taps made ahead of the pods that will have them.

A tap is made in a namespace that nobody else enters, so that a machine can be launched with it before its pod is known,
and moved into the pod's namespace then. It lives as long as a descriptor of it: ours, or the machine's.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from alcove.errors import HostError
from alcove.host.netns import within
from alcove.host.ports import open_tap

_CLONE_NEWNET = 0x40000000


@dataclass(slots=True)
class PodTap:
    """``fd`` is ours until ``close``; ``name`` is what it is called where it was made."""

    name: str
    fd: int

    def close(self) -> None:
        """Close our descriptor; the machine's keeps the tap."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class TapYard:
    """The namespace in which taps are made, there from the first on. Blocking: for threads."""

    def __init__(self) -> None:
        self._namespace = -1
        self._count = itertools.count()
        self._making = threading.Lock()

    def make(self) -> PodTap:
        name = f"alct{next(self._count) % 1_000_000_000}"
        with self._making:
            if self._namespace < 0:
                self._namespace = _new_namespace()
        try:
            return PodTap(name, within(self._namespace, lambda: open_tap(name)))
        except OSError as error:
            raise HostError(f"a tap cannot be made: {error}", hint="is /dev/net/tun there? modprobe tun") from error

    def move(self, tap: PodTap, namespace: int, name: str) -> None:
        """Move it into another namespace (a descriptor of one), where it is called ``name``. Raises ``HostError``."""

        def work() -> None:
            from pyroute2 import IPRoute

            with IPRoute() as route:
                index = route.link_lookup(ifname=tap.name)[0]
                route.link("set", index=index, net_ns_fd=namespace, ifname=name)

        from pyroute2 import NetlinkError

        try:
            within(self._namespace, work)
        except (NetlinkError, IndexError) as error:
            raise HostError(f"a tap cannot be moved to its pod: {error}") from error

    def close(self) -> None:
        if self._namespace >= 0:
            os.close(self._namespace)
            self._namespace = -1


def _new_namespace() -> int:
    def enter() -> int:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_CLONE_NEWNET):
            raise HostError(f"no network namespace can be made: {os.strerror(ctypes.get_errno())}")
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    with ThreadPoolExecutor(1, thread_name_prefix="alcove-taps") as own:
        return own.submit(enter).result()
