"""A pod: one machine, its containers, and what is told of them.

Everything that happens to a process comes through here: its start, its output, its end, the end of the machine under
it. Starts and ends are told in the order in which the agent tells them, for both are handled as they arrive, not when
some coroutine gets its turn.
"""

from __future__ import annotations

import time
from typing import Any

from alcove.shim import machine as machines
from alcove.shim import spec as oci
from alcove.shim.agent import AgentError
from alcove.shim.container import Container
from alcove.shim.events import Publisher
from alcove.shim.log import Log
from alcove.shim.loop import Loop
from alcove.shim.machine import Machine
from alcove.shim.node import Node
from alcove.shim.process import KILLED, Process, exit_status, timestamp
from alcove.shim.provision import Provisioner
from alcove.wire import event_messages, task_messages
from alcove.wire.ttrpc import FAILED_PRECONDITION, NOT_FOUND, Failure

# What a process has not read of its standard input waits in the guest, so much of it; the rest waits in the FIFO.
STDIN_WINDOW = 256 * 1024
# How long the end of a first process waits for the ends of the others, which the agent has been asked to kill.
_LAST_EXITS_S = 5.0
# How long SIGKILL may take. A process that waits for a server which is away (NFS) has not to end, nor has a guest that
# obeys nobody: where nothing else runs in the pod, the machine is ended under it. An agent that is only slow has some
# more time to answer, and tells of ends before it does.
KILL_S, SLOW_S = 10.0, 20.0


class Pod:
    def __init__(self, loop: Loop, log: Log, node: Node, events: Publisher, *, id: str) -> None:
        self._loop = loop
        self._log = log
        self.node = node
        self.events = events
        self.id = id
        self.annotations: dict[str, str] = {}
        self.containers: dict[str, Container] = {}
        # The VMM's: what containerd is told as the pid of every process of the pod, for it is no stranger's.
        self.pid = 0
        self._machine: Machine | None = None
        self._provisioner: Provisioner | None = None
        self._by_number: dict[int, Process] = {}

    # The machine

    @property
    def alive(self) -> bool:
        return self._machine is not None

    @property
    def machine(self) -> Machine:
        """Raises ``Failure`` where there is none, or none any more."""
        if self._machine is None:
            raise Failure(FAILED_PRECONDITION, f"the machine of pod {self.id} does not run")
        return self._machine

    @property
    def provisioner(self) -> Provisioner | None:
        return self._provisioner

    async def start(self, spec: dict[str, Any]) -> Provisioner:
        """Start the machine for the pod's first container."""
        self.annotations = dict(spec.get("annotations") or {})
        machine = await machines.start(self._loop, self.node, pod=self.id, spec=spec)
        machine.agent.on_output = self._on_output
        machine.agent.on_event = self._on_event
        machine.agent.on_close = self._on_agent_closed
        if machine.host_paths:
            self.annotations[oci.HOST_PATHS] = "true"
        self._machine = machine
        self.pid = machine.pid
        self._provisioner = Provisioner(self._loop, self.node, machine.agent, self.id)
        return self._provisioner

    async def stop(self) -> None:
        """End the machine, and with it all processes; ask the node service even where none was started."""
        machine = self._machine
        if machine is not None:
            machine.agent.on_close = self._on_machine_end
        await machines.stop(self.node, self.id, machine)
        self._on_machine_end()

    def _on_agent_closed(self) -> None:
        """The machine has died, or broke the protocol: what may be left of it is ended too."""
        if self._machine is not None:
            self._log.warning(f"the machine of pod {self.id} has ended")
            self._on_machine_end()
            self._loop.background(machines.stop(self.node, self.id, None))

    def _on_machine_end(self) -> None:
        if self._machine is None:
            return
        machine, self._machine = self._machine, None
        machine.agent.close()
        # The sandbox's container stands for the machine: its end is told last.
        for container in sorted(self.containers.values(), key=lambda container: container.sandbox):
            if container.ending is None and not container.init.stopped:
                container.ending = KILLED
            self._end_all(container)

    # Processes

    def registered(self, process: Process, number: int) -> None:
        """From now on the agent's ``number`` is this process."""
        process.number = number
        self._by_number[number] = process

    def forget(self, process: Process) -> None:
        if process.number is not None:
            self._by_number.pop(process.number, None)
        if process.stdio is not None:
            process.stdio.close()

    def acknowledge(self, process: Process, count: int) -> None:
        """The agent may send so many bytes more of the process's output."""
        if self._machine is not None and process.number is not None:
            self._machine.agent.notify("ack", process=process.number, bytes=count)

    def started(self, process: Process) -> None:
        process.status = task_messages.RUNNING
        if process.exec_id:
            self.events.publish(
                event_messages.EXEC_STARTED, container_id=process.container_id, exec_id=process.exec_id, pid=self.pid
            )
        else:
            self.events.publish(event_messages.START, container_id=process.container_id, pid=self.pid)
        if process.stdio is not None and process.stdio.input is not None:
            self._loop.background(self._feed(process))

    async def _feed(self, process: Process) -> None:
        """Bring standard input into the guest, until its end or the process's."""
        assert process.stdio is not None
        assert process.stdio.input is not None
        while self._machine is not None and process.number is not None:
            data = await process.stdio.input.read()
            if not data or process.stopped or self._machine is None:
                break
            process.unread += len(data)
            await self._machine.agent.send_data(process.number, data)
            while process.unread >= STDIN_WINDOW and not process.stopped:
                await process.read
        if self._machine is not None and not process.stopped:
            self._machine.agent.notify("close_stdin", process=process.number)

    def _on_output(self, number: int, stream: int, data: bytes) -> None:
        process = self._by_number.get(number)
        if process is not None and process.stdio is not None:
            process.stdio.write(stream, data)

    # Ends

    def _on_event(self, event: dict[str, Any]) -> None:
        kind = event.get("event")
        container = self.containers.get(str(event.get("id")))
        if container is None:
            return
        if kind == "container_exit":
            self._on_exit(container, event)
        elif kind == "oom":
            self.events.publish(event_messages.OOM, container_id=container.id)
        elif kind == "stdin":
            process = self._by_number.get(int(event["process"]))
            if process is not None:
                process.has_read(self._loop, int(event["bytes"]))

    def _on_exit(self, container: Container, event: dict[str, Any]) -> None:
        status = exit_status(event)
        if event.get("exec"):
            process = container.execs.get(str(event["exec"]))
            if process is not None:
                self._end(process, status)
            if container.ending is not None and not container.running_execs():
                self._loop.background(self._end_init(container))
        elif container.ending is None and not container.init.stopped:
            container.ending = status
            self._loop.background(self._end_init(container))

    async def _end_init(self, container: Container) -> None:
        """Tell the end of a container's first process: after the others', and after what it said of it."""
        if container.running_execs():
            if container.patience is None:
                container.patience = self._loop.call_later(_LAST_EXITS_S, lambda: self._end_all(container))
                await self._kill_rest(container)
            return
        if container.termination_log is not None and self._provisioner is not None:
            try:
                await self._provisioner.copy_termination_log(container)
            except (AgentError, TimeoutError, OSError) as error:
                self._log.warning(f"the termination log of {container.id} is lost: {error}")
        self._end_all(container)

    async def _kill_rest(self, container: Container) -> None:
        try:
            await self.machine.agent.request("signal_container", id=container.id, exec=None, signal=9, all=True)
        except (AgentError, TimeoutError, Failure):
            pass

    def _end_all(self, container: Container) -> None:
        if container.patience is not None:
            container.patience.cancel()
        for process in container.running_execs():
            self._end(process, KILLED)
        if not container.init.stopped and container.ending is not None:
            self._end(container.init, container.ending)

    def _end(self, process: Process, status: int) -> None:
        if process.stopped:
            return
        process.stop(status)
        self.events.publish(
            event_messages.EXIT,
            container_id=process.container_id,
            id=process.exec_id or process.container_id,
            pid=self.pid,
            exit_status=process.exit_status,
            exited_at=timestamp(process.exited_at_ns),
        )

    def killed(self, container: Container) -> None:
        """SIGKILL is on its way to the container's first process."""
        container.killed_at = container.killed_at or time.monotonic()
        self._loop.call_later(KILL_S, lambda: self._loop.background(self._end_what_is_unwanted()))

    async def _end_what_is_unwanted(self) -> None:
        if not self._is_unwanted():
            return
        try:
            await self.machine.agent.request("hello", timeout_s=SLOW_S)
        except (AgentError, TimeoutError):
            pass
        if self._is_unwanted():
            self._log.warning(f"SIGKILL does not end what is left of pod {self.id}: its machine is ended")
            await self.stop()

    def _is_unwanted(self) -> bool:
        """Whether all that runs in the pod should have ended long ago."""
        left = [one for one in self.containers.values() if one.init.running and not one.sandbox]
        late = time.monotonic() - KILL_S
        return self.alive and bool(left) and all(0.0 < one.killed_at <= late for one in left)

    def end_unstarted(self, container: Container) -> None:
        """A container that was made and never ran is gone: its end is told like any other."""
        if container.ending is None:
            container.ending = KILLED
        self._end_all(container)

    # Containers

    def container(self, id: str) -> Container:
        """Raises ``Failure``."""
        found = self.containers.get(id)
        if found is None:
            raise Failure(NOT_FOUND, f"container {id} does not exist")
        return found
