"""The first process of the pod's own process namespace, for containers that share one: it waits, and reaps orphans."""

from __future__ import annotations

import os
import signal

from alcove.guest import kernel

# It ignores the ends of children, so the kernel keeps none of them for it.
_WAITS = ["/usr/bin/busybox", "sleep", "2147483647"]


class PodInit:
    """Begun when the first container asks; where it is killed, so is everything in its namespace."""

    def __init__(self) -> None:
        self._pid = 0

    def namespace(self) -> str:
        """Return the path of the namespace."""
        if not self._pid:
            self._pid = _begin()
        return f"/proc/{self._pid}/ns/pid"

    def ended(self, pid: int) -> None:
        if pid == self._pid:
            self._pid = 0


def _begin() -> int:
    """Start it in a new namespace; the caller's own children after it are in the old one again."""
    ours = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        kernel.unshare(kernel.CLONE_NEWPID)
        try:
            pid = os.fork()
            if pid == 0:
                _become()
        finally:
            kernel.set_namespace(ours, kernel.CLONE_NEWPID)
    finally:
        os.close(ours)
    return pid


def _become() -> None:
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        os.setsid()
        os.setpriority(os.PRIO_PROCESS, 0, 0)
        os.execve(_WAITS[0], _WAITS, {})  # noqa: S606 - no shell is wanted
    finally:
        os._exit(127)
