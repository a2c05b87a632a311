"""``crun``, the OCI runtime that makes containers in the guest: one command at a time, each to its end.

It runs from a sealed copy in memory. From a file it would first make itself such a copy and start anew, lest a
container overwrite it (CVE-2019-5736): each command would take twice as long. The copy is made before a template is
saved.

It is always loaded at the same addresses: the emulator knows translated code by its address, and would translate all of
crun and its libraries for each command, which takes as long as all that it does. Containers' own programs are loaded at
random as ever (``RANDOMIZED``).
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import json
import os
import resource
import select
import signal
import socket
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from alcove.guest import kernel
from alcove.guest.places import CRUN
from alcove.guest.refused import Refused

PROGRAM = "/usr/bin/crun"
# A command waits for nobody; one that a container manages to hold up is ended.
TIMEOUT_S = 30.0
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_DEFAULT_SIGNALS = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
# Of a container's configuration (OCI): what its processes are given, in place of what crun has.
RANDOMIZED = {"domain": "LINUX"}
_WORDS = 2000
_OPEN_FILES = 1024 * 1024


class Ends(NamedTuple):
    """A process that was made, and our ends of its files, as ``Streams`` takes them."""

    pid: int
    outputs: dict[int, int]
    stdin: int | None


class Crun:
    def __init__(self, program: str = PROGRAM, root: str = CRUN) -> None:
        self._root = root
        self._log = f"{root}.log"
        os.makedirs(root, mode=0o700)
        with open(program, "rb") as file:
            self._program = _sealed_copy(file.read())
        self._null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        self._oom = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
        # What a container is allowed at most; without a word it gets what the agent has.
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, _OPEN_FILES))

    def create(self, id: str, bundle: str, *, terminal: bool, stdin: bool) -> Ends:
        """Make the container of ``bundle``, not started yet. Raises ``Refused``."""
        return self._make(bundle, ["create", "--bundle", bundle], id, terminal=terminal, stdin=stdin)

    def execute(self, id: str, bundle: str, process: dict[str, Any], *, terminal: bool, stdin: bool) -> Ends:
        """Start a process (OCI) in a container that runs. Raises ``Refused``."""
        path = f"{bundle}/process.json"
        _write(path, process)
        return self._make(bundle, ["exec", "--detach", "--process", path], id, terminal=terminal, stdin=stdin)

    def start(self, id: str) -> None:
        """Let the container's first process go on, as ``crun start`` does: it waits for a byte. Raises ``Refused``."""
        path = f"{self._root}/{id}/exec.fifo"
        try:
            fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise Refused("failed", "the container was started already, or has ended") from error
        try:
            os.unlink(path)
            os.write(fd, b"\0")
        finally:
            os.close(fd)

    def update(self, id: str, bundle: str, resources: dict[str, Any]) -> None:
        """Change the container's limits (OCI). Raises ``Refused``."""
        path = f"{bundle}/resources.json"
        _write(path, resources)
        self._run(["update", "--resources", path, id])

    def delete(self, id: str) -> None:
        """End and forget the container. Raises ``Refused``."""
        self._run(["delete", "--force", id])

    def _make(self, bundle: str, command: list[str], id: str, *, terminal: bool, stdin: bool) -> Ends:
        pid_file = f"{bundle}/pid"
        command = [*command, "--pid-file", pid_file]
        if terminal:
            with _console(f"{bundle}/console") as listener:
                self._run([*command, "--console-socket", f"{bundle}/console", id])
                master = _receive(listener)
            return Ends(_number(pid_file), {master: 1}, os.dup(master) if stdin else None)
        with contextlib.ExitStack() as stack:
            (theirs_in, ours_in), (ours_out, theirs_out), (ours_err, theirs_err) = (
                stack.enter_context(_pipe()) for _ in range(3)
            )
            self._run([*command, id], (theirs_in if stdin else self._null, theirs_out, theirs_err))
            kept = [os.dup(fd) for fd in (ours_out, ours_err)]
            return Ends(_number(pid_file), {kept[0]: 1, kept[1]: 2}, os.dup(ours_in) if stdin else None)

    def _run(self, arguments: list[str], files: tuple[int, int, int] | None = None) -> None:
        log = os.open(self._log, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            status = self._spawn(arguments, files or (self._null, log, log))
            if status:
                words = os.pread(log, _WORDS, 0).decode(errors="replace").strip()
                raise Refused("failed", words or f"crun {arguments[0]} ended with {status}")
        finally:
            os.close(log)

    def _spawn(self, arguments: list[str], files: tuple[int, int, int]) -> int:
        command = ["crun", "--root", self._root, "--cgroup-manager=cgroupfs", "--log", self._log, *arguments]
        actions = [(os.POSIX_SPAWN_DUP2, fd, target) for target, fd in enumerate(files)]
        with self._as_a_container():
            pid = os.posix_spawn(
                f"/proc/self/fd/{self._program}",
                command,
                _ENVIRONMENT,
                file_actions=actions,
                setsigdef=_DEFAULT_SIGNALS,
                setsigmask=(),
            )
        return os.waitstatus_to_exitcode(reap(pid))

    @contextlib.contextmanager
    def _as_a_container(self) -> Iterator[None]:
        """What a container would inherit of the agent's own privileges is laid down while crun is begun."""
        os.write(self._oom, b"0")
        os.setpriority(os.PRIO_PROCESS, 0, 0)
        kernel.set_personality(kernel.ADDR_NO_RANDOMIZE)
        try:
            yield
        finally:
            kernel.set_personality(kernel.PER_LINUX)
            os.setpriority(os.PRIO_PROCESS, 0, -20)
            os.write(self._oom, b"-1000")


def reap(pid: int) -> int:
    """Wait for a child, and end it where it takes too long; return its wait status."""
    handle = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        deadline = time.monotonic() + TIMEOUT_S
        while not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            if time.monotonic() >= deadline:
                os.kill(pid, signal.SIGKILL)
                break
    finally:
        os.close(handle)
    return os.waitpid(pid, 0)[1]


def _sealed_copy(program: bytes) -> int:
    fd = os.memfd_create("crun", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with os.fdopen(os.dup(fd), "wb") as file:
        file.write(program)
    os.fchmod(fd, 0o555)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    return fd


def _write(path: str, document: dict[str, Any]) -> None:
    with open(path, "w") as file:
        file.write(json.dumps(document))


def _number(path: str) -> int:
    with open(path) as file:
        return int(file.read())


@contextlib.contextmanager
def _pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe2(os.O_CLOEXEC)
    try:
        yield ends
    finally:
        for fd in ends:
            os.close(fd)


@contextlib.contextmanager
def _console(path: str) -> Iterator[socket.socket]:
    """A socket that crun connects to with the terminal's other end."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(1)
        # crun has sent it before it ends.
        listener.settimeout(1)
        yield listener


def _receive(listener: socket.socket) -> int:
    with listener.accept()[0] as connection:
        connection.settimeout(1)
        _, messages, _, _ = connection.recvmsg(256, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC)
    for level, kind, data in messages:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            return int(array.array("i", data[:4])[0])
    raise Refused("failed", "crun sent no terminal")
