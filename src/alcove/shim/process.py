"""A process of a container: its first one, or one that ``exec`` added. States as containerd knows them."""

from __future__ import annotations

import time
from typing import Any

from alcove.shim.loop import Future, Loop
from alcove.shim.stdio import Stdio
from alcove.wire import task_messages

# What ended by a signal, as shells and containerd tell it.
SIGNALLED = 128
KILLED = SIGNALLED + 9


class Process:
    """``number`` is the agent's name for it, ``guest_pid`` its id in the guest; ``spec`` waits for its start."""

    def __init__(self, loop: Loop, container_id: str, exec_id: str, request: dict[str, Any]) -> None:
        self.container_id = container_id
        self.exec_id = exec_id
        self.stdin: str = request.get("stdin", "")
        self.stdout: str = request.get("stdout", "")
        self.stderr: str = request.get("stderr", "")
        self.terminal: bool = request.get("terminal", False)
        self.spec: dict[str, Any] = {}
        self.number: int | None = None
        self.guest_pid = 0
        self.size: tuple[int, int] | None = None
        # Of its standard input: bytes that the guest has and the process has not read.
        self.unread = 0
        self.read: Future[None] = loop.future()
        self.stdio: Stdio | None = None
        self.status = task_messages.CREATED
        self.exit_status = 0
        self.exited_at_ns = 0
        self.exited: Future[None] = loop.future()

    @property
    def running(self) -> bool:
        return self.status in (task_messages.RUNNING, task_messages.PAUSED)

    @property
    def stopped(self) -> bool:
        return self.status == task_messages.STOPPED

    def stop(self, exit_status: int) -> None:
        """It has ended, now: the host's clock is the one that is believed."""
        self.status = task_messages.STOPPED
        self.exit_status = exit_status
        self.exited_at_ns = time.time_ns()
        if self.stdio is not None:
            self.stdio.end()
        self.exited.set_result(None)
        self.read.set_result(None)

    def has_read(self, loop: Loop, count: int) -> None:
        """The process has taken so much of its standard input."""
        self.unread = max(0, self.unread - count)
        self.read.set_result(None)
        self.read = loop.future()


def exit_status(event: dict[str, Any]) -> int:
    """Return what containerd is told of an agent's ``container_exit``; a guest cannot make it more than a byte."""
    signal = event.get("signal") or 0
    return (SIGNALLED + int(signal) if signal else int(event.get("code") or 0)) & 0xFF


def timestamp(time_ns: int) -> dict[str, int] | None:
    """Return a ``google.protobuf.Timestamp``, or ``None`` for what has not happened."""
    if not time_ns:
        return None
    return {"seconds": time_ns // 1_000_000_000, "nanos": time_ns % 1_000_000_000}
