"""A container of a pod: its processes, and in which order their ends are told.

containerd wants the exits of a container's other processes before that of its first one. The sandbox's container (CRI's
``pause``) is no process in the guest: it stands for the machine, and ends with it.
"""

from __future__ import annotations

from typing import Any

from alcove.shim.loop import Loop, Timer
from alcove.shim.process import Process
from alcove.shim.spec import TerminationLog
from alcove.wire.ttrpc import ALREADY_EXISTS, NOT_FOUND, Failure

MAX_EXECS = 1024


class Container:
    def __init__(self, loop: Loop, request: dict[str, Any], *, sandbox: bool) -> None:
        self._loop = loop
        self.id: str = request["id"]
        self.bundle: str = request["bundle"]
        self.rootfs: list[dict[str, Any]] = request["rootfs"]
        self.sandbox = sandbox
        self.init = Process(loop, self.id, "", request)
        self.execs: dict[str, Process] = {}
        # The image's device in the guest, once attached; whether the agent has been asked to make the container.
        self.device: str | None = None
        self.made = False
        self.termination_log: TerminationLog | None = None
        # The first process has ended, and the others not yet.
        self.ending: int | None = None
        self.patience: Timer | None = None
        # When SIGKILL was sent to the first process; 0: not yet.
        self.killed_at = 0.0

    def process(self, exec_id: str) -> Process:
        """Raises ``Failure``."""
        if not exec_id:
            return self.init
        found = self.execs.get(exec_id)
        if found is None:
            raise Failure(NOT_FOUND, f"process {exec_id} does not exist in container {self.id}")
        return found

    def add_exec(self, request: dict[str, Any]) -> Process:
        """Raises ``Failure``."""
        name = request["exec_id"]
        if name in self.execs or len(self.execs) >= MAX_EXECS:
            raise Failure(ALREADY_EXISTS, f"process {name} exists already, or {MAX_EXECS} others do")
        process = self.execs[name] = Process(self._loop, self.id, name, request)
        return process

    def running_execs(self) -> list[Process]:
        return [process for process in self.execs.values() if process.running]

    def processes(self) -> list[Process]:
        """All of them, in the order in which their ends are told."""
        return [*self.execs.values(), self.init]
