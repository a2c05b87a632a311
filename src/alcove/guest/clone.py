"""Clone safety: what makes a restored machine unlike every other, before tenant code moves."""

from __future__ import annotations

import base64
import os
import socket
import time
from typing import Any

from alcove.guest import kernel

_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_bound = False


def personalise(request: dict[str, Any]) -> None:
    """Entropy first, then clock, names and NIC (the control channel's ``personalise``)."""
    kernel.add_entropy(base64.b64decode(request["entropy"]))
    time.clock_settime_ns(time.CLOCK_REALTIME, int(request["time_ns"]))
    socket.sethostname(request["hostname"])
    _write("/run/machine-id", request["machine_id"] + "\n")
    _write("/run/boot-id", request["boot_id"] + "\n")
    _bind_boot_id()
    network = request["network"]
    if network is not None:
        kernel.set_up_nic("eth0", network["mac"], network["address"], network["gateway"], network["mtu"])
        _write("/run/resolv.conf", "".join(f"nameserver {server}\n" for server in network["dns"]))


def _bind_boot_id() -> None:
    """The kernel's boot id cannot be changed: a file with ours is mounted over it, once, and rewritten at each
    restore.
    """
    global _bound
    if not _bound:
        kernel.mount("/run/boot-id", _BOOT_ID, "none", kernel.MS_BIND)
        _bound = True


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
