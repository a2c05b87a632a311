"""The tenant's processes: started as its user in its cgroup, their output forwarded, their ends reported exactly."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import time
from collections.abc import Callable
from typing import Any

from alcove.guest import cgroup, kernel

TENANT_USER = 1000
CHUNK = 32 * 1024
# The agent keeps its own processes alive where the kernel has to choose; the tenant's start from zero.
_OOM_NEUTRAL = b"0"
_OPEN_FILES = 4096


class Process:
    """One process of the tenant's. ``outputs`` maps our ends of its pipes to 1 (stdout) or 2 (stderr)."""

    __slots__ = ("deadline", "number", "outputs", "pid", "report", "runtime", "timed_out", "waiters")

    def __init__(self, number: int, pid: int, outputs: dict[int, int], runtime: bool) -> None:
        self.number = number
        self.pid = pid
        self.outputs = outputs
        self.runtime = runtime
        self.deadline: float | None = None
        self.timed_out = False
        self.report: dict[str, Any] | None = None
        self.waiters: list[int] = []


class ProcessTable:
    """All processes that were started, by number. ``keep`` of those that ended are remembered."""

    def __init__(self, keep: int = 64) -> None:
        self._keep = keep
        self._next = 0
        self._oom_kills = 0
        self.by_number: dict[int, Process] = {}

    def start(
        self,
        child: Callable[[], None],
        *,
        runtime: bool = False,
        stdin: int | None = None,
        keep_fd: int | None = None,
        timeout_s: float | None = None,
    ) -> Process:
        """Fork; the child becomes the tenant's, sees only ``stdin`` (or nothing) and ``keep_fd``, and calls
        ``child``.
        """
        pipes = [os.pipe2(os.O_CLOEXEC) for _ in range(2)]
        # A signal that comes before the child is the tenant's waits until it is.
        unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            pid = os.fork()
        except OSError:
            signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
            for fd in (*pipes[0], *pipes[1]):
                os.close(fd)
            raise
        if pid == 0:
            try:
                _become_tenant(pipes[0][1], pipes[1][1], stdin, keep_fd)
                child()
            except BaseException as error:
                os.write(2, f"alcove: cannot start: {error}\n".encode())
            os._exit(126)
        signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
        for _, write in pipes:
            os.close(write)
        for read, _ in pipes:
            os.set_blocking(read, False)
        process = Process(self.number(), pid, {pipes[0][0]: 1, pipes[1][0]: 2}, runtime)
        if timeout_s is not None:
            process.deadline = time.monotonic() + timeout_s
        self.by_number[process.number] = process
        return process

    def number(self) -> int:
        """Return a number that no process has had."""
        self._next += 1
        return self._next

    def reap(self, other: Callable[[int, int], None] = lambda pid, status: None) -> list[Process]:
        """Collect every child that has ended, ours or an orphan's; return those of ours, reported. ``other`` is told of
        each, with its wait status.
        """
        ended = []
        kills = cgroup.out_of_memory_kills()
        killed_for_memory = kills > self._oom_kills
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            other(pid, status)
            for process in self.by_number.values():
                if process.pid == pid and process.report is None:
                    process.report = self._report(process, status, killed_for_memory)
                    ended.append(process)
        if any(process.report and process.report["reason"] == "out_of_memory" for process in ended):
            # Noted only with a process to blame: the kernel counts before the process has ended.
            self._oom_kills = kills
        self._forget_old()
        return ended

    def _report(self, process: Process, status: int, killed_for_memory: bool) -> dict[str, Any]:
        code = os.waitstatus_to_exitcode(status)
        reason = "exited" if code >= 0 else "signal"
        if process.timed_out:
            reason = "timeout"
        elif killed_for_memory and code == -signal.SIGKILL:
            reason = "out_of_memory"
        return {
            "process": process.number,
            "runtime": process.runtime,
            "reason": reason,
            "code": code if code >= 0 else None,
            "signal": -code if code < 0 else None,
        }

    def _forget_old(self) -> None:
        ended = [number for number, process in self.by_number.items() if process.report is not None]
        for number in ended[: -self._keep or None]:
            del self.by_number[number]

    def expire(self) -> float | None:
        """Kill what has outstayed its time; return the seconds until the next deadline, or None."""
        now = time.monotonic()
        soonest = None
        for process in self.by_number.values():
            if process.deadline is None or process.report is not None:
                continue
            left = process.deadline - now
            if left <= 0:
                process.timed_out = True
                process.deadline = None
                self.signal(process, signal.SIGKILL)
            elif soonest is None or left < soonest:
                soonest = left
        return soonest

    def signal(self, process: Process, number: int) -> None:
        """Signal the process's whole session; it may be gone."""
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            # It has not begun its session yet. Its number is its own until it is reaped.
            if process.report is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, number)


def _become_tenant(stdout: int, stderr: int, stdin: int | None, keep_fd: int | None) -> None:
    """Turn a fresh child into a process of the tenant's: cgroup, session, limits, user, descriptors."""
    cgroup.join()
    fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
    os.write(fd, _OOM_NEUTRAL)
    os.close(fd)
    os.setsid()
    if stdin is None:
        stdin = os.open("/dev/null", os.O_RDONLY)
    for source, target in ((stdin, 0), (stdout, 1), (stderr, 2)):
        os.dup2(source, target)
    low = 3
    if keep_fd is not None:
        os.closerange(low, keep_fd)
        low = keep_fd + 1
    os.closerange(low, _OPEN_FILES)
    for number in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
    os.setpriority(os.PRIO_PROCESS, 0, 0)
    kernel.forbid_new_privileges()
    os.setgroups([])
    os.setresgid(TENANT_USER, TENANT_USER, TENANT_USER)
    os.setresuid(TENANT_USER, TENANT_USER, TENANT_USER)
