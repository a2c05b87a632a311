"""containerd's task service, version 2: each method takes and returns the dictionaries of ``wire/task_messages.py``."""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable
from typing import Any

from alcove.shim import spec as oci
from alcove.shim import stats
from alcove.shim.container import Container
from alcove.shim.life import Life
from alcove.shim.loop import Loop
from alcove.shim.machine import Machine
from alcove.shim.pod import Pod
from alcove.shim.process import Process, timestamp
from alcove.wire import cgroup_messages, event_messages, task_messages
from alcove.wire.ttrpc import (
    FAILED_PRECONDITION,
    INVALID_ARGUMENT,
    NOT_FOUND,
    UNIMPLEMENTED,
    Failure,
)

Message = dict[str, Any]
# How long the readers of a process that is deleted may take for what they have not read yet.
_DRAIN_S = 2.0
# How long an agent may take to send a signal.
_SIGNAL_S = 10.0
_SIGKILL = 9


class TaskService:
    def __init__(self, loop: Loop, pod: Pod, life: Life) -> None:
        self._loop = loop
        self._pod = pod
        self._life = life

    def method(self, name: str) -> Callable[[Message], Awaitable[Message]] | None:
        return getattr(self, f"_do_{name}", None) if name in task_messages.METHODS else None

    # Life

    async def _do_Create(self, request: Message) -> Message:
        container = await self._life.create(request)
        io = {name: request[name] for name in ("stdin", "stdout", "stderr", "terminal")}
        self._pod.events.publish(
            event_messages.CREATE,
            container_id=container.id,
            bundle=container.bundle,
            rootfs=container.rootfs,
            io=io,
            pid=self._pod.pid,
        )
        return {"pid": self._pod.pid}

    async def _do_Start(self, request: Message) -> Message:
        container = self._pod.container(request["id"])
        process = container.process(request["exec_id"])
        if process.status != task_messages.CREATED:
            raise Failure(FAILED_PRECONDITION, "the process was started already")
        if container.sandbox and process is container.init:
            self._pod.started(process)
        elif process.exec_id:
            await self._start_exec(container, process)
        else:
            agent = self._pod.machine.agent
            await agent.request("start_container", id=container.id, on_reply=lambda reply: self._pod.started(process))
        await self._apply_size(process)
        return {"pid": self._pod.pid}

    async def _start_exec(self, container: Container, process: Process) -> None:
        if container.init.status != task_messages.RUNNING:
            raise Failure(FAILED_PRECONDITION, f"container {container.id} does not run")
        process.stdio = self._life.open_stdio(process)
        name = {"id": container.id, "exec": process.exec_id}
        create = {
            "op": "exec_create",
            **name,
            "process": process.spec,
            "terminal": process.terminal,
            "stdin": bool(process.stdin),
        }

        def on_reply(reply: Message) -> None:
            created, started = reply["replies"]
            process.guest_pid = int(started.get("pid") or 0)
            self._pod.registered(process, int(created["process"]))
            self._pod.started(process)

        ops = [create, {"op": "exec_start", **name}]
        try:
            await self._pod.machine.agent.request("batch", ops=ops, on_reply=on_reply)
        except BaseException:
            process.stdio.close()
            raise

    async def _do_Delete(self, request: Message) -> Message:
        container = self._pod.container(request["id"])
        process = container.process(request["exec_id"])
        if process.running:
            raise Failure(FAILED_PRECONDITION, "a process that runs is not deleted: kill it first")
        if process.exec_id:
            container.execs.pop(process.exec_id, None)
        else:
            await self._life.delete(container)
        await self._drain(process)
        if not process.exec_id:
            self._pod.events.publish(event_messages.DELETE, container_id=container.id, **self._exit_of(process))
        return self._exit_of(process)

    async def _drain(self, process: Process) -> None:
        if process.stdio is not None:
            drained = self._loop.spawn(process.stdio.drained())
            try:
                await self._loop.within(_DRAIN_S, drained)
            except TimeoutError:
                pass
        self._pod.forget(process)

    async def _do_Shutdown(self, request: Message) -> Message:
        await self._life.shut_down()
        return {}

    # What is

    async def _do_State(self, request: Message) -> Message:
        container = self._pod.container(request["id"])
        process = container.process(request["exec_id"])
        return {
            "id": container.id,
            "bundle": container.bundle,
            "pid": self._pod.pid,
            "status": process.status,
            "stdin": process.stdin,
            "stdout": process.stdout,
            "stderr": process.stderr,
            "terminal": process.terminal,
            "exit_status": process.exit_status,
            "exited_at": timestamp(process.exited_at_ns),
            "exec_id": process.exec_id,
        }

    async def _do_Wait(self, request: Message) -> Message:
        process = self._pod.container(request["id"]).process(request["exec_id"])
        await process.exited
        return {"exit_status": process.exit_status, "exited_at": timestamp(process.exited_at_ns)}

    async def _do_Connect(self, request: Message) -> Message:
        return {"shim_pid": os.getpid(), "task_pid": self._pod.pid}

    async def _do_Pids(self, request: Message) -> Message:
        container, machine = self._running(request["id"])
        if container.sandbox:
            return {"processes": [{"pid": self._pod.pid}]}
        reply = await machine.agent.request("container_pids", id=container.id)
        execs = {process.guest_pid: process.exec_id for process in container.running_execs()}
        return {"processes": [_process_info(int(pid), execs.get(int(pid))) for pid in reply["pids"]]}

    async def _do_Stats(self, request: Message) -> Message:
        container, machine = self._running(request["id"])
        if container.sandbox:
            pod_stats = await self._pod.node.request("pod_stats", pod=self._pod.id)
            metrics = stats.of_machine(pod_stats)
        else:
            metrics = stats.of_container(await machine.agent.request("container_stats", id=container.id))
        table = cgroup_messages.METRICS
        return {"stats": {"type_url": table.name, "value": table.encode(metrics)}}

    # What is done to processes

    async def _do_Kill(self, request: Message) -> Message:
        container = self._pod.container(request["id"])
        process = container.process(request["exec_id"])
        if process.stopped:
            raise Failure(NOT_FOUND, "the process has ended already")
        if container.sandbox and process is container.init:
            await self._life.kill_sandbox(container, request["signal"])
            return {}
        if request["signal"] == _SIGKILL and process is container.init:
            self._pod.killed(container)
        fields = {"exec": process.exec_id or None, "signal": request["signal"], "all": request["all"]}
        try:
            await self._pod.machine.agent.request("signal_container", timeout_s=_SIGNAL_S, id=container.id, **fields)
        except TimeoutError:
            # It is on its way; whoever has sent it waits for the end, and then sends a stronger one.
            pass
        return {}

    async def _do_Exec(self, request: Message) -> Message:
        container, _ = self._running(request["id"])
        if container.sandbox:
            raise Failure(UNIMPLEMENTED, "nothing runs in a sandbox's own container: exec into another of the pod")
        spec = _json_of(request["spec"])
        container.add_exec(request).spec = oci.exec_process(spec)
        fields = {"container_id": container.id, "exec_id": request["exec_id"]}
        self._pod.events.publish(event_messages.EXEC_ADDED, **fields)
        return {}

    async def _do_ResizePty(self, request: Message) -> Message:
        process = self._pod.container(request["id"]).process(request["exec_id"])
        process.size = (request["width"], request["height"])
        if process.running:
            await self._apply_size(process)
        return {}

    async def _apply_size(self, process: Process) -> None:
        if process.size is not None and process.terminal and process.number is not None and not process.stopped:
            width, height = process.size
            await self._pod.machine.agent.request("resize", process=process.number, width=width, height=height)

    async def _do_CloseIO(self, request: Message) -> Message:
        process = self._pod.container(request["id"]).process(request["exec_id"])
        if request["stdin"] and process.stdio is not None and process.stdio.input is not None:
            process.stdio.input.close_writer()
        return {}

    # What is done to containers

    async def _do_Pause(self, request: Message) -> Message:
        container, machine = self._running(request["id"])
        await machine.agent.request("pause_container", id=container.id)
        container.init.status = task_messages.PAUSED
        self._pod.events.publish(event_messages.PAUSED, container_id=container.id)
        return {}

    async def _do_Resume(self, request: Message) -> Message:
        container, machine = self._running(request["id"])
        await machine.agent.request("resume_container", id=container.id)
        if container.init.running:
            container.init.status = task_messages.RUNNING
        self._pod.events.publish(event_messages.RESUMED, container_id=container.id)
        return {}

    async def _do_Update(self, request: Message) -> Message:
        container, machine = self._running(request["id"])
        resources = _json_of(request["resources"])
        if container.sandbox or container.id == self._pod.id:
            cpus, memory_mib, _ = oci.machine_size({"linux": {"resources": resources}})
            await self._pod.node.request("update_pod", pod=self._pod.id, cpus=cpus, memory_mib=memory_mib)
        if not container.sandbox:
            limits = oci.guest_resources(resources)
            await machine.agent.request("update_container", id=container.id, resources=limits)
        return {}

    async def _do_Checkpoint(self, request: Message) -> Message:
        raise Failure(UNIMPLEMENTED, "checkpoints of containers are not supported")

    # Help

    def _running(self, id: str) -> tuple[Container, Machine]:
        container = self._pod.container(id)
        if container.init.stopped:
            raise Failure(NOT_FOUND, f"container {id} has ended")
        return container, self._pod.machine

    def _exit_of(self, process: Process) -> Message:
        return {
            "pid": self._pod.pid,
            "exit_status": process.exit_status,
            "exited_at": timestamp(process.exited_at_ns),
        }


def _json_of(any: Message | None) -> Message:
    """Return the object in an ``Any`` of containerd's own kind, whose value is JSON. Raises ``Failure``."""
    try:
        document = json.loads((any or {})["value"])
    except (KeyError, ValueError) as error:
        raise Failure(INVALID_ARGUMENT, "what was sent with the call is not JSON") from error
    if not isinstance(document, dict):
        raise Failure(INVALID_ARGUMENT, "what was sent with the call is no object")
    return document


def _process_info(pid: int, exec_id: str | None) -> Message:
    if exec_id is None:
        return {"pid": pid}
    table = task_messages.PROCESS_DETAILS
    return {"pid": pid, "info": {"type_url": table.name, "value": table.encode({"exec_id": exec_id})}}
