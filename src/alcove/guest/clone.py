"""Clone safety: what makes a restored machine unlike every other, before tenant code moves."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from typing import Any

from alcove.guest import kernel
from alcove.guest.nic import Nic

# A pod's machine may have several.
_MORE_CARDS = 3
_BOOT_ID = "/proc/sys/kernel/random/boot_id"


class Personality:
    """This machine's own entropy, clock, names and NIC. Its files are opened once, before a template is saved."""

    def __init__(self) -> None:
        self.nic: Nic | None = None
        # A card is filled with buffers when it is set up, which takes long under emulation: not after a restore.
        with contextlib.suppress(OSError):
            self.nic = Nic("eth0")
        self._more: list[Nic] = []
        with contextlib.suppress(OSError):
            while len(self._more) < _MORE_CARDS:
                self._more.append(Nic(f"eth{len(self._more) + 1}"))
        self._random = os.open("/dev/urandom", os.O_WRONLY | os.O_CLOEXEC)
        self._machine_id = _create("/run/machine-id")
        self._boot_id = _create("/run/boot-id")
        # The kernel's boot id cannot be changed: a file with ours is mounted over it.
        kernel.mount("/run/boot-id", _BOOT_ID, "none", kernel.MS_BIND)

    def assume(self, request: dict[str, Any]) -> None:
        """Entropy first, then clock, names and NIC (the control channel's ``personalise``)."""
        kernel.add_entropy(self._random, bytes.fromhex(request["entropy"]))
        time.clock_settime_ns(time.CLOCK_REALTIME, int(request["time_ns"]))
        socket.sethostname(request["hostname"])
        # Both have always the same length.
        os.pwrite(self._machine_id, f"{request['machine_id']}\n".encode(), 0)
        os.pwrite(self._boot_id, f"{request['boot_id']}\n".encode(), 0)
        if self.nic is not None and request["network"] is not None:
            self.nic.configure(request["network"])
        for card, network in zip(self._more, request.get("more_networks") or (), strict=False):
            card.configure(network)


def _create(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
