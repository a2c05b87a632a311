"""Processes that outlive us: started detached, held by pidfd, known again after a restart.

A pid alone is never signalled: it may have been given to another process since. What identifies a process for as long
as the host runs is its pid with its start time (field 22 of /proc/PID/stat, proc(5)) and the boot id.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
import shlex
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)


# Another one each time that the host starts (random(4)).
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    return BOOT_ID.read_text().strip()


def start_time(pid: int) -> int | None:
    """Return the start time in clock ticks since boot, or None where no such process lives."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat[stat.rindex(")") + 2 :].split()
    return None if fields[0] in "ZX" else int(fields[19])


def cpu_ns(pid: int) -> int:
    """Return the processor time that a process has used, all its threads; 0 where it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    fields = stat[stat.rindex(")") + 2 :].split()
    return (int(fields[11]) + int(fields[12])) * 10**9 // os.sysconf("SC_CLK_TCK")


# Children that were let go of while they ran. Whoever adopts one is not its parent and cannot reap it; we still are.
_left: list[subprocess.Popen[bytes]] = []


def _reap_left() -> None:
    _left[:] = [child for child in _left if child.poll() is None]


def _settle(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """Names one process for ever. ``started`` is in clock ticks since boot."""

    pid: int
    started: int
    boot: str

    def to_json(self) -> dict[str, Any]:
        return {"pid": self.pid, "started": self.started, "boot": self.boot}

    @staticmethod
    def from_json(document: dict[str, Any]) -> ProcessIdentity:
        return ProcessIdentity(int(document["pid"]), int(document["started"]), str(document["boot"]))

    def alive(self) -> bool:
        return self.boot == boot_id() and start_time(self.pid) == self.started


class Process:
    """A live process held by its pidfd, child of ours or not."""

    def __init__(self, pid: int, child: subprocess.Popen[bytes] | None = None) -> None:
        self.pid = pid
        self.fd = os.pidfd_open(pid)
        self._child = child
        started = start_time(pid)
        self.identity = ProcessIdentity(pid, started if started is not None else -1, boot_id())

    @classmethod
    def adopt(cls, identity: ProcessIdentity) -> Process | None:
        """Return the process if it still lives, else None."""
        try:
            process = cls(identity.pid)
        except (ProcessLookupError, OSError):
            return None
        if process.identity != identity:
            process.release()
            return None
        return process

    def exited(self) -> bool:
        if self.fd < 0:
            return not self.identity.alive()
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        return bool(poll.poll(0))

    def signal(self, number: int) -> None:
        """Send a signal; to nobody where the process has ended or was released."""
        if self.fd < 0:
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.fd, number)

    async def wait(self) -> int | None:
        """Wait for its end; return the exit code where it is our child."""
        if self.fd >= 0 and not self.exited():
            loop = asyncio.get_running_loop()
            ended: asyncio.Future[None] = loop.create_future()
            fd = os.dup(self.fd)
            loop.add_reader(fd, _settle, ended)
            try:
                await ended
            finally:
                loop.remove_reader(fd)
                os.close(fd)
        return self.reap()

    def reap(self) -> int | None:
        return self._child.wait() if self._child is not None else None

    def release(self) -> None:
        """Let go of it. A child that still runs is left running, and reaped when a later one is started or left."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        if self._child is not None and self._child.poll() is None:
            _left.append(self._child)
            self._child = None


def spawn(argv: Sequence[str], *, pass_fds: Sequence[int] = (), output: int = subprocess.DEVNULL) -> Process:
    """Start a process in a session of its own, with an empty environment; its output goes to ``output``.

    The command is logged so that it can be pasted into a shell.
    """
    log.debug("spawn: %s", shlex.join(argv))
    _reap_left()
    child = subprocess.Popen(
        list(argv),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        pass_fds=tuple(pass_fds),
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"},
        start_new_session=True,
        cwd="/",
    )
    return Process(child.pid, child)
