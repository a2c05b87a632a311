"""The agent: PID 1 of every VM, and the host's hands inside of it.

One thread, one loop. It carries out the control channel's operations (docs/architecture.md), starts the language
runtime, forwards what the tenant's processes print, reports how they end, and reaps orphans. It holds no secret: the
tenant's code runs as another user, in another cgroup, and finds nothing here. Standard library only; every module is
imported before a template is saved.
"""

from __future__ import annotations

import base64
import contextlib
import gc
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from alcove.guest import cgroup, clone, kernel, setup
from alcove.guest.memory import MemoryPeak
from alcove.guest.port import RETRY_S, Port, find_port
from alcove.guest.processes import CHUNK, TENANT_USER, Process, ProcessTable
from alcove.guest.refused import Operation, Refused
from alcove.guest.runtimes import python as python_runtime
from alcove.guest.runtimes.java_command import command as java_command
from alcove.wire.frame import PROTOCOL_VERSION, Frame, FrameError, Kind, document

VERSION = "1"
_COMMANDS = {
    "nodejs18": ["/usr/bin/node", "/opt/alcove/alcove/guest/runtimes/node.js"],
    "java17": java_command("/usr/lib/jvm/java-17-openjdk-amd64/bin/java", "/opt/alcove/java"),
    "php8.2": [
        *("/usr/bin/php8.2", "-c", "/opt/alcove/alcove/guest/runtimes/php.ini"),
        "/opt/alcove/alcove/guest/runtimes/php.php",
    ],
    "provided": ["/usr/bin/python3.11", "-I", "-S", "-B", "-X", "utf8", "/opt/alcove/start", "provided"],
}
_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "TZ": ":UTC", "HOME": "/tmp"}
# The loader reads it when a runtime starts, long before there is code.
_LIBRARIES = {"LD_LIBRARY_PATH": "/var/task/lib:/opt/lib"}
# Where a runtime that is exec'd finds its channel.
CHANNEL_FD = 3


class Agent:
    def __init__(self) -> None:
        self._port = Port(find_port("alcove.agent"))
        self._personality = clone.Personality()
        self._peak = MemoryPeak(f"{cgroup.TENANT}/memory.peak")
        self._table = ProcessTable()
        self._copies: dict[int, int] = {}
        self._epoll = select.epoll()
        self._outputs: dict[int, Process] = {}
        # What an agent of another program adds: descriptors to watch, streams of DATA, whom to tell of other children
        # and of a channel that is full.
        self._watched: dict[int, Callable[[int], None]] = {}
        self.on_data: Callable[[int, bytes], None] = lambda stream, data: None
        self.on_child: Callable[[int, int], None] = lambda pid, status: None
        self.on_full: Callable[[bool], None] = lambda full: None
        # Operations that answer later, by the number of the request.
        self.later: dict[str, Callable[[int, dict[str, Any]], None]] = {"wait": self._wait}
        self._paused = False
        self._wake, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        self._epoll.register(self._wake, select.EPOLLIN)
        self._mask = select.EPOLLIN
        self._epoll.register(self._port.fd, self._mask)
        self._retry_at: float | None = None
        # Whoever asked to power off is answered first.
        self._stopping = False
        self._ops: dict[str, Operation] = {
            "hello": self._hello,
            "batch": self._batch,
            "personalise": self._personalise,
            "start_runtime": self._start_runtime,
            "limits": lambda request: cgroup.limit(request["memory_mib"], request["pids"]),
            "memory": lambda request: {"peak_mib": self._peak.mib()},
            "freeze": lambda request: cgroup.freeze(),
            "thaw": lambda request: cgroup.thaw(),
            "mount_code": self._mount_code,
            "spread_code": self._spread_code,
            "unmount_code": lambda request: kernel.unmount(request["path"], kernel.MNT_DETACH),
            "mount_scratch": self._mount_scratch,
            "grow_scratch": lambda request: kernel.grow_ext4(request["path"], request["bytes"]),
            "unmount_scratch": lambda request: kernel.unmount(request["path"]),
            "copy_begin": self._copy_begin,
            "copy_end": self._copy_end,
            "run": self._run,
            "kill": self._kill,
            "disconnect": self._disconnect,
            "release_address": self._release_address,
            "shutdown": self._shutdown,
        }

    # The loop

    def serve(self) -> None:
        while True:
            for fd, events in self._epoll.poll(self._patience()):
                if fd == self._port.fd:
                    self._on_port(events)
                elif fd == self._wake:
                    with contextlib.suppress(BlockingIOError):
                        os.read(fd, 4096)
                    self.collect()
                elif fd in self._outputs:
                    self._forward(fd)
                elif fd in self._watched:
                    self._watched[fd](events)
            self._after()

    def _patience(self) -> float:
        waits = [wait for wait in (self._table.expire(),) if wait is not None]
        if self._retry_at is not None:
            waits.append(max(0.0, self._retry_at - time.monotonic()))
        return min(waits, default=-1)

    def _on_port(self, events: int) -> None:
        if events & select.EPOLLOUT:
            self._port.flush()
        if events & (select.EPOLLIN | select.EPOLLHUP):
            try:
                for frame in self._port.receive():
                    self._carry_out(frame)
            except FrameError as error:
                # The host is trusted: it can only have been cut off in the middle of a frame.
                sys.stderr.write(f"alcove agent: {error}\n")
                self._port.reset()
            if self._port.away:
                # A port whose host is away is readable and hung up without end: look again later.
                self._epoll.unregister(self._port.fd)
                self._retry_at = time.monotonic() + RETRY_S

    def _after(self) -> None:
        if self._stopping and not self._port.wants_write:
            _power_off()
        if self._retry_at is not None:
            if time.monotonic() < self._retry_at:
                return
            self._retry_at = None
            self._mask = select.EPOLLIN
            self._epoll.register(self._port.fd, self._mask)
            # What could not be sent yet is waited for below: an answer to the next host may have come before the
            # kernel had told that it is there.
        mask = select.EPOLLIN | (select.EPOLLOUT if self._port.wants_write else 0)
        if mask != self._mask:
            self._mask = mask
            self._epoll.modify(self._port.fd, mask)
        if self._port.full is not self._paused:
            self._paused = self._port.full
            for fd in self._outputs:
                self._epoll.modify(fd, 0 if self._paused else select.EPOLLIN)
            self.on_full(self._paused)

    # What other programs add

    def add_ops(self, ops: dict[str, Operation]) -> None:
        self._ops |= ops

    def watch(self, fd: int, mask: int, handler: Callable[[int], None]) -> None:
        """Call ``handler`` with what of ``mask`` (of select.EPOLL*) is there; again for another mask."""
        if fd in self._watched:
            self._epoll.modify(fd, mask)
        else:
            self._epoll.register(fd, mask)
        self._watched[fd] = handler

    def unwatch(self, fd: int) -> None:
        if self._watched.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def number(self) -> int:
        """Return a number that no process has had."""
        return self._table.number()

    def log(self, process: int, stream: int, data: bytes) -> None:
        self._port.send(Kind.LOG, process, bytes([stream]) + data)

    def tell(self, event: dict[str, Any]) -> None:
        self._port.send(Kind.EVENT, 0, json.dumps(event).encode())

    def take_copy(self, stream: int) -> int:
        """Return the descriptor, the caller's from now on, of what came as that stream. Raises ``Refused``."""
        fd = self._copies.pop(stream, -1)
        if fd < 0:
            raise Refused("unknown", "no such stream is open")
        return fd

    # Requests

    def _carry_out(self, frame: Frame) -> None:
        if frame.kind is Kind.DATA:
            self._copy_data(frame)
            return
        try:
            if frame.kind is not Kind.REQUEST:
                raise Refused("protocol", f"{frame.kind.name} has no place here")
            request = document(frame.payload)
            later = self.later.get(request["op"])
            if later is not None:
                later(frame.id, request)
                return
            reply = self._do(request)
        except Exception as error:
            code = getattr(error, "code", type(error).__name__)
            self.refuse(frame.id, str(code), str(error) or type(error).__name__)
        else:
            self.answer(frame.id, reply)

    def answer(self, id: int, reply: dict[str, Any]) -> None:
        self._port.send(Kind.REPLY, id, json.dumps(reply).encode())

    def refuse(self, id: int, code: str, message: str) -> None:
        self._port.send(Kind.ERROR, id, json.dumps({"code": code, "message": message}).encode())

    def _do(self, request: dict[str, Any]) -> dict[str, Any]:
        operation = self._ops.get(request["op"])
        if operation is None:
            raise Refused("unknown", f"no operation is named {request['op']!r}")
        return operation(request) or {}

    def _hello(self, request: dict[str, Any]) -> dict[str, Any]:
        self._peak.forget()
        return {
            "protocol": PROTOCOL_VERSION,
            "version": VERSION,
            "kernel": os.uname().release,
            "processes": [number for number, process in self._table.by_number.items() if not process.report],
        }

    def _batch(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"replies": [self._do(op) for op in request["ops"]]}

    def _personalise(self, request: dict[str, Any]) -> None:
        self._peak.forget()
        self._personality.assume(request)

    # Network

    def _disconnect(self, request: dict[str, Any]) -> None:
        if self._personality.nic is not None:
            self._personality.nic.take_down()

    def _release_address(self, request: dict[str, Any]) -> None:
        if self._personality.nic is not None:
            self._personality.nic.release()

    # Disks

    def _mount_code(self, request: dict[str, Any]) -> None:
        flags = kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV
        kernel.mount(f"/dev/{_device(request)}", request["path"], "squashfs", flags)

    def _spread_code(self, request: dict[str, Any]) -> None:
        """Of what is mounted at ``path``, show ``opt`` at ``layers`` and ``task`` at ``path``; our own code stays."""
        path, layers = request["path"], request["layers"]
        ours = os.open(f"{layers}/alcove", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            kernel.mount(f"{path}/opt", layers, "none", kernel.MS_BIND)
            kernel.mount(f"/proc/self/fd/{ours}", f"{layers}/alcove", "none", kernel.MS_BIND)
            kernel.mount(f"{path}/task", path, "none", kernel.MS_BIND)
        finally:
            os.close(ours)

    def _mount_scratch(self, request: dict[str, Any]) -> None:
        device = f"/dev/{_device(request)}"
        if request.get("format"):
            command = ["/sbin/mke2fs", "-q", "-t", "ext4", "-E", "lazy_itable_init=1", "-m", "0", device]
            _run_to_end(command)
        path = request["path"]
        # The inode tables of a sparse file are zeros already; what is deleted is freed on the host.
        flags = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOATIME
        kernel.mount(device, path, "ext4", flags, "noinit_itable,discard")
        with contextlib.suppress(OSError):
            os.rmdir(f"{path}/lost+found")
        os.chown(path, TENANT_USER, TENANT_USER)
        os.chmod(path, 0o1777)  # noqa: S103 - as /tmp is everywhere
        os.sync()

    def _copy_begin(self, request: dict[str, Any]) -> None:
        stream = int(request["stream"])
        if stream in self._copies:
            raise Refused("busy", f"stream {stream} is open already")
        self._copies[stream] = os.memfd_create("alcove-copy", os.MFD_CLOEXEC)

    def _copy_data(self, frame: Frame) -> None:
        fd = self._copies.get(frame.id)
        if fd is not None:
            os.write(fd, frame.payload)
        else:
            self.on_data(frame.id, frame.payload)

    def _copy_end(self, request: dict[str, Any]) -> None:
        fd = self.take_copy(int(request["stream"]))
        try:
            path = request["path"]
            kernel.mount("tmpfs", path, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=755")
            _run_to_end(["/bin/tar", "-x", "-f", f"/proc/self/fd/{fd}", "-C", path, "--no-same-owner"], (fd,))
            kernel.mount("tmpfs", path, "tmpfs", kernel.MS_REMOUNT | kernel.MS_RDONLY | 6)
        finally:
            os.close(fd)

    # Processes

    def _start_runtime(self, request: dict[str, Any]) -> dict[str, Any]:
        runtime = request["runtime"]
        channel = os.open(find_port("alcove.invoke"), os.O_RDWR | os.O_CLOEXEC)
        try:
            if runtime == "python3.11":
                # Forked, not executed: it shares the agent's interpreter, and under emulation its translated code.
                def child() -> None:
                    _reset_interpreter()
                    python_runtime.serve(channel)

                process = self._table.start(child, runtime=True, keep_fd=channel)
            elif runtime in _COMMANDS:
                command = _COMMANDS[runtime]

                def child() -> None:
                    os.dup2(channel, CHANNEL_FD, inheritable=True)
                    environment = {**_ENVIRONMENT, **_LIBRARIES, "ALCOVE_CHANNEL_FD": str(CHANNEL_FD)}
                    os.execve(command[0], command, environment)  # noqa: S606 - no shell is wanted

                process = self._table.start(child, runtime=True, keep_fd=channel)
            else:
                raise Refused("unknown", f"no runtime is named {runtime!r}")
        finally:
            os.close(channel)
        self._watch(process)
        return {"process": process.number}

    def _run(self, request: dict[str, Any]) -> dict[str, Any]:
        argv = [str(word) for word in request["argv"]]
        environment = {**_ENVIRONMENT, **request.get("env", {})}
        stdin = os.memfd_create("alcove-stdin", os.MFD_CLOEXEC)
        try:
            os.write(stdin, base64.b64decode(request.get("stdin") or ""))
            os.lseek(stdin, 0, os.SEEK_SET)

            def child() -> None:
                os.chdir(request.get("cwd") or "/tmp")
                os.execvpe(argv[0], argv, environment)  # noqa: S606 - no shell is wanted

            process = self._table.start(child, stdin=stdin, timeout_s=request.get("timeout_s"))
        finally:
            os.close(stdin)
        self._watch(process)
        return {"process": process.number}

    def _process(self, request: dict[str, Any]) -> Process:
        process = self._table.by_number.get(int(request["process"]))
        if process is None:
            raise Refused("unknown", f"no process has the number {request['process']}")
        return process

    def _kill(self, request: dict[str, Any]) -> None:
        process = self._process(request)
        if process.report is None:
            self._table.signal(process, int(request.get("signal", signal.SIGKILL)))

    def _wait(self, id: int, request: dict[str, Any]) -> None:
        process = self._process(request)
        if process.report is None:
            process.waiters.append(id)
        else:
            self._port.send(Kind.REPLY, id, json.dumps(process.report).encode())

    def _shutdown(self, request: dict[str, Any]) -> None:
        self._stopping = True

    # Output and ends

    def _watch(self, process: Process) -> None:
        for fd in process.outputs:
            self._outputs[fd] = process
            self._epoll.register(fd, 0 if self._paused else select.EPOLLIN)

    def _forward(self, fd: int) -> bool:
        """Forward one chunk; return whether there may be more."""
        process = self._outputs[fd]
        try:
            data = os.read(fd, CHUNK)
        except BlockingIOError:
            return False
        if not data:
            self._drop_output(fd)
            return False
        if process.outputs[fd] == 2:
            # The end of a request is marked on stderr: what was printed to stdout before it must come before it.
            for other, stream in process.outputs.items():
                while stream == 1 and other in self._outputs and not self._port.full and self._forward(other):
                    pass
            # Each marker has its last NUL in one chunk, whatever its pieces; that chunk ends the request for the host.
            if process.runtime and b"\0" in data:
                self._tell_memory()
        self._port.send(Kind.LOG, process.number, bytes([process.outputs[fd]]) + data)
        return True

    def _tell_memory(self) -> None:
        mib = self._peak.risen()
        if mib is not None:
            self._port.send(Kind.EVENT, 0, json.dumps({"event": "memory", "peak_mib": mib}).encode())

    def _drop_output(self, fd: int) -> None:
        self._epoll.unregister(fd)
        del self._outputs[fd]
        os.close(fd)

    def collect(self) -> None:
        """Reap every child that has ended, and tell of those that are known."""
        for process in self._table.reap(self.on_child):
            # What it printed last comes before the report of its end; more than the queue holds is lost with it.
            for fd in process.outputs:
                while fd in self._outputs and not self._port.full and self._forward(fd):
                    pass
                if fd in self._outputs:
                    self._drop_output(fd)
            if process.runtime:
                self._tell_memory()
            event = json.dumps({"event": "exit", **(process.report or {})}).encode()
            self._port.send(Kind.EVENT, 0, event)
            for id in process.waiters:
                self._port.send(Kind.REPLY, id, json.dumps(process.report).encode())


def _power_off() -> None:
    os.sync()
    with open("/proc/sysrq-trigger", "w") as file:
        file.write("o")


def _device(request: dict[str, Any]) -> str:
    name = str(request["device"])
    if not name.isalnum():
        raise Refused("invalid", f"{name!r} is no disk")
    return name


def _run_to_end(argv: list[str], fds: tuple[int, ...] = ()) -> None:
    """Run a program of the image's as root, to its end."""
    actions = [(os.POSIX_SPAWN_DUP2, fd, fd) for fd in fds]
    pid = os.posix_spawn(argv[0], argv, _ENVIRONMENT, file_actions=actions)
    _, status = os.waitpid(pid, 0)
    if status:
        raise Refused("failed", f"{argv[0]} ended with status {os.waitstatus_to_exitcode(status)}")


def _reset_interpreter() -> None:
    """Make the forked interpreter one that has just started, as far as tenant code can tell."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    sys.argv = ["alcove"]
    for name in [name for name in sys.modules if name == "alcove" or name.startswith("alcove.")]:
        if name not in ("alcove", "alcove.wire", "alcove.wire.frame"):
            sys.modules.pop(name, None)


def main() -> None:
    setup.set_up()
    agent = Agent()
    # Collecting garbage writes to every object, which after a fork or a restore copies its page.
    gc.collect()
    gc.freeze()
    agent.serve()
