"""What went through pods' interfaces: the counters of ``eth0`` in each pod's network namespace.

They begin with the namespace and only grow; a machine that took the interface over (``pods.network``) is counted there
too, for it is the host's end. Blocking: for threads.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

_CLONE_NEWNET = 0x40000000
# CRI has every pod's interface so.
_INTERFACE = "eth0"


@dataclass(frozen=True, slots=True)
class Traffic:
    received_bytes: int = 0
    sent_bytes: int = 0


def read(namespaces: Mapping[str, str]) -> dict[str, Traffic]:
    """Return the counters by the keys of ``namespaces``, which has paths; none for a namespace that is gone."""
    with ThreadPoolExecutor(1, thread_name_prefix="alcove-traffic") as own:
        # The thread is in another namespace after it, and ends.
        return own.submit(_read, namespaces).result()


def _read(namespaces: Mapping[str, str]) -> dict[str, Traffic]:
    libc = ctypes.CDLL(None, use_errno=True)
    found = {}
    for key, path in namespaces.items():
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            if not libc.setns(fd, _CLONE_NEWNET) and (counted := parse(_table())) is not None:
                found[key] = counted
        finally:
            os.close(fd)
    return found


def _table() -> str:
    return Path("/proc/thread-self/net/dev").read_text()


def parse(table: str) -> Traffic | None:
    """Return the counters of the pod's interface in a table as proc(5) has it, or None where it is not there."""
    for line in table.splitlines():
        name, colon, numbers = line.partition(":")
        if colon and name.strip() == _INTERFACE:
            columns = numbers.split()
            return Traffic(int(columns[0]), int(columns[8]))
    return None
