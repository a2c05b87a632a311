"""The containers of a pod: made, started, entered, stopped and removed at the host's word (docs/architecture.md).

A container's root is an overlay: the image's layers, read-only, and a folder of the scratch disk. Nothing of what is in
it is ever opened here; what it names (mounts' targets, users, programs) is crun's to resolve, inside it.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time
from collections.abc import Callable
from typing import Any, Protocol

from alcove.guest import kernel, pod_cgroup, projects, volumes
from alcove.guest.crun import RANDOMIZED, TIMEOUT_S, Crun, Ends
from alcove.guest.places import CONTAINERS, FILES, IMAGES, SCRATCH
from alcove.guest.pod_init import PodInit
from alcove.guest.refused import Operation, Refused, name_in
from alcove.guest.streams import Streams

MOST = 256
MOST_EXECS = 1024
# How often one that is to end is asked whether others hold it up.
_LOOK_EVERY_MS = 5


class Host(Protocol):
    """The agent's loop and channel."""

    def watch(self, fd: int, mask: int, handler: Callable[[int], None]) -> None: ...
    def unwatch(self, fd: int) -> None: ...
    def number(self) -> int: ...
    def log(self, process: int, stream: int, data: bytes) -> None: ...
    def tell(self, event: dict[str, Any]) -> None: ...
    def collect(self) -> None: ...


class Process:
    """``exec`` None is a container's first. ``pid`` is 0 until it is made, ``ended`` is true once it is reaped."""

    def __init__(self, container: Container, exec: str | None, number: int) -> None:
        self.container = container
        self.exec = exec
        self.number = number
        self.request: dict[str, Any] = {}
        self.pid = 0
        self.ended = False
        self.streams: Streams | None = None

    @property
    def runs(self) -> bool:
        return self.pid != 0 and not self.ended


class Container:
    def __init__(self, id: str) -> None:
        self.id = id
        self.bundle = f"{CONTAINERS}/{id}"
        self.root = f"{CONTAINERS}/{id}/rootfs"
        self.upper = f"{SCRATCH}/{id}"
        # By which the kernel counts what is written to the root; 0 where nobody asks.
        self.project = 0
        # Where the host puts what it is shown of the host's.
        self.files = f"{FILES}/{id}"
        self.processes: dict[str | None, Process] = {}
        self.kills = 0
        self.memory_events = -1


class Containers:
    def __init__(self, host: Host, crun: Crun) -> None:
        self._host = host
        self._crun = crun
        self._init = PodInit()
        self._full = False
        self._trash = 0
        self._projects = 0
        self._by_id: dict[str, Container] = {}
        self._by_pid: dict[int, Process] = {}
        self._by_number: dict[int, Process] = {}

    def ops(self) -> dict[str, Operation]:
        return {
            "create_container": self._create,
            "start_container": self._start,
            "exec_create": self._exec_create,
            "exec_start": self._exec_start,
            "signal_container": self._signal,
            "resize": self._resize,
            "close_stdin": lambda request: self._with_streams(request, Streams.close_stdin),
            "ack": lambda request: self._with_streams(request, lambda s: s.acknowledge(int(request["bytes"]))),
            "pause_container": lambda request: pod_cgroup.freeze(self._find(request).id, True),
            "resume_container": lambda request: pod_cgroup.freeze(self._find(request).id, False),
            "update_container": self._update,
            "container_pids": lambda request: {"pids": pod_cgroup.pids(self._find(request).id)},
            "container_stats": lambda request: pod_cgroup.stats(self._find(request).id),
            "delete_container": self._delete,
        }

    # Making

    def _create(self, request: dict[str, Any]) -> dict[str, Any]:
        container = Container(name_in(request, "id"))
        if container.id in self._by_id:
            raise Refused("exists", f"the container {container.id} is there already")
        if len(self._by_id) >= MOST:
            raise Refused("capacity", f"a pod has at most {MOST} containers")
        disk_bytes = int(request.get("disk_bytes") or 0)
        process = container.processes[None] = Process(container, None, self._host.number())
        try:
            self._prepare(container, name_in(request, "image"), limited=disk_bytes > 0)
            _write_spec(container, request, self._namespace(request))
            terminal, stdin = bool(request.get("terminal")), bool(request.get("stdin"))
            ends = self._crun.create(container.id, container.bundle, terminal=terminal, stdin=stdin)
        except BaseException:
            self._clear(container)
            raise
        self._by_id[container.id] = container
        self._adopt(process, ends)
        self._watch_memory(container)
        if disk_bytes > 0:
            # What the overlay and crun have made by now is not the container's.
            projects.limit(container.upper, container.project, disk_bytes)
        return {"process": process.number, "pid": process.pid}

    def _prepare(self, container: Container, image: str, *, limited: bool) -> None:
        """Mount the root; where what is written to it has a limit, it is counted from the beginning.

        What mount(2) takes is one page, so layers are named from the folder that they are in.
        """
        lower = ":".join(volumes.layers(image))
        os.mkdir(container.bundle, 0o700)
        os.mkdir(container.root)
        os.mkdir(container.upper)
        if limited:
            self._projects += 1
            container.project = self._projects
            projects.assign(container.upper, container.project)
        for folder in (f"{container.upper}/data", f"{container.upper}/work"):
            os.mkdir(folder)
        options = f"lowerdir={lower},upperdir={container.upper}/data,workdir={container.upper}/work"
        os.chdir(f"{IMAGES}/{image}")
        try:
            kernel.mount("overlay", container.root, "overlay", kernel.MS_NOATIME, options)
        finally:
            os.chdir("/")

    def _namespace(self, request: dict[str, Any]) -> dict[str, str]:
        if request.get("pid") == "container":
            return {"type": "pid"}
        return {"type": "pid", "path": self._init.namespace()}

    def _adopt(self, process: Process, ends: Ends) -> None:
        process.pid = ends.pid
        number, id = process.number, process.container.id
        process.streams = Streams(
            self._host,
            ends.outputs,
            ends.stdin,
            lambda stream, data: self._host.log(number, stream, data),
            lambda count: self._host.tell({"event": "stdin", "id": id, "process": number, "bytes": count}),
            full=self._full,
        )
        self._by_pid[process.pid] = self._by_number[number] = process

    def _start(self, request: dict[str, Any]) -> None:
        container = self._find(request)
        if not container.processes[None].runs:
            raise Refused("not_found", "the container has ended")
        self._crun.start(container.id)

    def _exec_create(self, request: dict[str, Any]) -> dict[str, Any]:
        container, name = self._find(request), name_in(request, "exec")
        known = container.processes.get(name)
        if known is not None and not known.ended:
            raise Refused("exists", f"the process {name} is there already")
        if len(container.processes) > MOST_EXECS:
            raise Refused("capacity", f"a container has at most {MOST_EXECS} processes that were added")
        process = container.processes[name] = Process(container, name, self._host.number())
        process.request = request
        return {"process": process.number, "pid": 0}

    def _exec_start(self, request: dict[str, Any]) -> dict[str, Any]:
        container = self._find(request)
        process = container.processes.get(name_in(request, "exec"))
        if process is None or process.pid:
            raise Refused("not_found", f"no process {request['exec']} waits to be started")
        if pod_cgroup.frozen(container.id):
            # It would stand still before it has begun, and crun with it.
            raise Refused("paused", "the container is paused")
        asked, process.request = process.request, {}
        terminal, stdin = bool(asked.get("terminal")), bool(asked.get("stdin"))
        document = {**asked["process"], "terminal": terminal}
        try:
            ends = self._crun.execute(container.id, container.bundle, document, terminal=terminal, stdin=stdin)
        except BaseException:
            del container.processes[process.exec]
            raise
        self._adopt(process, ends)
        return {"process": process.number, "pid": process.pid}

    # Running

    def _find(self, request: dict[str, Any]) -> Container:
        found = self._by_id.get(str(request["id"]))
        if found is None:
            raise Refused("not_found", f"no container is named {request['id']!r}")
        return found

    def _signal(self, request: dict[str, Any]) -> None:
        """Signal one process or, where ``all``, every one of the container."""
        container, number = self._find(request), int(request["signal"])
        if request.get("all"):
            pod_cgroup.signal_all(container.id, number)
            return
        process = container.processes.get(request.get("exec"))
        if process is None or not process.runs:
            raise Refused("not_found", "the process has ended, or never was")
        # Our child: until it is reaped its number is nobody else's.
        os.kill(process.pid, number)

    def _resize(self, request: dict[str, Any]) -> None:
        self._with_streams(request, lambda s: s.resize(int(request["width"]), int(request["height"])))

    def _with_streams(self, request: dict[str, Any], act: Callable[[Streams], None]) -> None:
        process = self._by_number.get(int(request["process"]))
        # One that has ended meanwhile wants nothing more.
        if process is not None and process.streams is not None:
            act(process.streams)

    def feed(self, number: int, data: bytes) -> None:
        """Bytes for a process's standard input."""
        process = self._by_number.get(number)
        if process is not None and process.streams is not None:
            process.streams.feed(data)

    def throttle(self, full: bool) -> None:
        """The channel is full, or has room again."""
        self._full = full
        for process in list(self._by_number.values()):
            if process.streams is not None:
                process.streams.throttle(full)

    def _update(self, request: dict[str, Any]) -> None:
        container = self._find(request)
        self._crun.update(container.id, container.bundle, request["resources"])

    # Ends

    def ended(self, pid: int, status: int) -> None:
        """A child of the agent's has ended: tell what it printed last, then its end."""
        process = self._by_pid.pop(pid, None)
        if process is None:
            self._init.ended(pid)
            return
        process.ended = True
        if process.exec is None:
            # What shares the pod's processes ends with its container too.
            pod_cgroup.signal_all(process.container.id, signal.SIGKILL)
        self._tell_memory(process.container)
        if process.streams is not None:
            process.streams.finish()
        del self._by_number[process.number]
        code = os.waitstatus_to_exitcode(status)
        self._host.tell(
            {
                "event": "container_exit",
                "id": process.container.id,
                "exec": process.exec,
                "process": process.number,
                "code": code if code >= 0 else None,
                "signal": -code if code < 0 else None,
                "time_ns": time.time_ns(),
            }
        )

    def _delete(self, request: dict[str, Any]) -> None:
        """What is not there is no error."""
        container = self._by_id.get(str(request["id"]))
        if container is None:
            return
        pod_cgroup.signal_all(container.id, signal.SIGKILL)
        for process in list(container.processes.values()):
            if process.runs:
                os.kill(process.pid, signal.SIGKILL)
        for process in list(container.processes.values()):
            self._await_end(process)
        self._crun.delete(container.id)
        if container.memory_events >= 0:
            self._host.unwatch(container.memory_events)
            os.close(container.memory_events)
        del self._by_id[container.id]
        self._clear(container)

    def _await_end(self, process: Process) -> None:
        """Wait until it has been reaped. Raises ``Refused``.

        Whoever else ends meanwhile is reaped too: the first process of a namespace ends after all others, those that
        nobody knows as well, such as what is left of a crun that a container has held up.
        """
        if not process.runs:
            return
        handle = os.pidfd_open(process.pid)
        try:
            poll = select.poll()
            poll.register(handle, select.POLLIN)
            deadline = time.monotonic() + TIMEOUT_S
            while process.runs:
                poll.poll(_LOOK_EVERY_MS)
                self._host.collect()
                if process.runs and time.monotonic() > deadline:
                    raise Refused("failed", "the container's processes do not end")
        finally:
            os.close(handle)

    def _clear(self, container: Container) -> None:
        """Take the root away, and the files that it was shown; what was written is removed beside everything else, for
        it may be large and deep.
        """
        with contextlib.suppress(OSError):
            kernel.unmount(container.root, kernel.MNT_DETACH)
        self._trash += 1
        trash = [f"{base}/.trash-{self._trash}" for base in (SCRATCH, CONTAINERS, FILES)]
        for source, target in zip((container.upper, container.bundle, container.files), trash, strict=True):
            with contextlib.suppress(OSError):
                os.rename(source, target)
        os.posix_spawn("/bin/rm", ["rm", "-rf", "--one-file-system", *trash], {})

    # Memory

    def _watch_memory(self, container: Container) -> None:
        """The kernel tells of changes of ``memory.events`` as of something exceptional (cgroup-v2.rst)."""
        with contextlib.suppress(OSError):
            path = f"{pod_cgroup.folder(container.id)}/memory.events"
            container.memory_events = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self._host.watch(container.memory_events, select.EPOLLPRI, lambda events: self._tell_memory(container))

    def _tell_memory(self, container: Container) -> None:
        with contextlib.suppress(OSError):
            # Until it is read it goes on telling.
            os.pread(container.memory_events, 4096, 0)
        kills = pod_cgroup.out_of_memory_kills(container.id)
        if kills > container.kills:
            container.kills = kills
            self._host.tell({"event": "oom", "id": container.id})


def _write_spec(container: Container, request: dict[str, Any], pids: dict[str, str]) -> None:
    spec = request["spec"]
    spec["root"] = {**(spec.get("root") or {}), "path": container.root}
    spec["process"]["terminal"] = bool(request.get("terminal"))
    # As crun itself: no hooks, whoever asked for them.
    spec.pop("hooks", None)
    linux = spec.setdefault("linux", {})
    linux["cgroupsPath"] = f"{pod_cgroup.POD}/{container.id}"
    linux["personality"] = linux.get("personality") or RANDOMIZED
    namespaces = [entry for entry in linux.get("namespaces") or [] if entry.get("type") not in ("pid", "network")]
    linux["namespaces"] = [*namespaces, pids]
    with open(f"{container.bundle}/config.json", "w") as file:
        file.write(json.dumps(spec))
