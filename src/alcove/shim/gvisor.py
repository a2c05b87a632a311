"""``runsc`` as containerd's shim for runc has a runtime: what it starts for containers of the tier ``gvisor``.

Two things are made up for. runsc takes a network namespace for the host's where it finds ``net/core/rmem_default``,
which newer kernels have in each: that is hidden from it. And all containers of a pod live in one process of the host's,
whose end is none of theirs: for each container but the sandbox's a process is left here that waits for it, ends as it
ends, and is told as its own.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

PROGRAM = "/usr/bin/runsc"
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
# As in sandbox/oci_runtime.py; mounts of the host's still arrive (slave).
_HIDE = 'mount -t tmpfs -o ro,size=4k alcove /proc/sys/net && exec "$@"'
_HIDING = ("/usr/bin/unshare", "--mount", "--propagation", "slave", "--", "/bin/sh", "-c", _HIDE, "alcove-hide")
_FLAGS = ("--platform=ptrace", "--network=sandbox", "--file-access-mounts=shared", "--overlay2=none")
_KIND, _SANDBOX, _MEMBER = "io.kubernetes.cri.container-type", "sandbox", "container"
_SANDBOX_ID = "io.kubernetes.cri.sandbox-id"
_LIMITS = {
    "io.kubernetes.cri.sandbox-cpu-period": ("cpu", "period"),
    "io.kubernetes.cri.sandbox-cpu-quota": ("cpu", "quota"),
    "io.kubernetes.cri.sandbox-memory": ("memory", "limit"),
}
# What runsc's own kernel and file server take beside the containers.
_OVERHEAD_BYTES = 96 << 20
_KILLED = 128 + 9
_MESSAGE = 65536
_MOST_FDS = 1024


def main(words: Sequence[str]) -> None:
    """Carry out runc's command line. Does not return."""
    command = Command(words)
    carry_out = {"create": _create, "start": _start, "kill": _kill, "delete": _delete}.get(command.action)
    if carry_out is not None:
        sys.exit(carry_out(command))
    argv = command.argv()
    os.execve(argv[0], argv, _ENVIRONMENT)  # noqa: S606 (argv is a list)


class Command:
    """``globals`` stand before the ``action``, ``rest`` after it; the last word of ``rest`` is the container."""

    def __init__(self, words: Sequence[str]) -> None:
        at = _action_at(words)
        self.globals = list(words[:at])
        self.action = words[at] if at < len(words) else ""
        self.rest = list(words[at + 1 :])

    def argv(self, *, hiding: bool = False) -> list[str]:
        return [*(_HIDING if hiding else ()), PROGRAM, *_FLAGS, *self.globals, self.action, *self.rest]

    def option(self, name: str) -> str:
        return self.rest[self.rest.index(name) + 1] if name in self.rest else ""

    def without(self, name: str) -> Command:
        at = self.rest.index(name)
        return Command([*self.globals, self.action, *self.rest[:at], *self.rest[at + 2 :]])

    @property
    def bundle(self) -> str:
        """The container's folder: its log lies there."""
        return os.path.dirname(self.globals[self.globals.index("--log") + 1])

    def pid(self) -> int:
        """Return what was told as the container's process. Raises ``OSError``, ``ValueError``."""
        with open(f"{self.bundle}/init.pid") as file:
            return int(file.read())

    @property
    def started(self) -> str:
        """A pipe that is opened for writing when the container has been started, or is gone."""
        return f"{self.bundle}/started"

    @property
    def _config(self) -> str:
        return f"{self.bundle}/config.json"

    def annotation(self, name: str) -> str:
        with open(self._config, "rb") as file:
            return str((json.load(file).get("annotations") or {}).get(name, ""))

    def bound_sandbox(self) -> None:
        """All of the pod runs in its sandbox's group: give that what the pod's containers may take together."""
        with open(self._config, "rb") as file:
            spec = json.load(file)
        limit(spec)
        with open(self._config, "w") as file:
            json.dump(spec, file)


def limit(spec: dict[str, Any]) -> None:
    annotations = spec.get("annotations") or {}
    resources = spec.setdefault("linux", {}).setdefault("resources", {})
    for name, (group, field) in _LIMITS.items():
        value = int(annotations.get(name) or 0)
        if value > 0:
            extra = _OVERHEAD_BYTES if group == "memory" else 0
            resources.setdefault(group, {})[field] = value + extra


def _action_at(words: Sequence[str]) -> int:
    """runc's global options have values of their own, or follow an equals sign; two of them are switches."""
    at = 0
    while at < len(words) and words[at].startswith("-"):
        switch = "=" in words[at] or words[at] in ("--debug", "--systemd-cgroup")
        at += 1 if switch else 2
    return at


def _create(command: Command) -> int:
    kind = command.annotation(_KIND)
    if kind == _SANDBOX:
        command.bound_sandbox()
    pid_file = command.option("--pid-file")
    if kind != _MEMBER or not pid_file:
        return _run(command.argv(hiding=True))
    os.mkfifo(command.started, 0o600)
    status = _run(command.without("--pid-file").argv(hiding=True))
    if status == 0:
        waiter = os.fork()
        if waiter == 0:
            os._exit(_wait(command))
        _join_sandbox(command, waiter)
        with open(f"{pid_file}.new", "w") as file:
            file.write(str(waiter))
        os.rename(f"{pid_file}.new", pid_file)
    return status


def _join_sandbox(command: Command, waiter: int) -> None:
    """It is counted where the container is: containerd asks the groups of the process that it knows."""
    try:
        with open(f"{os.path.dirname(command.bundle)}/{command.annotation(_SANDBOX_ID)}/init.pid") as file:
            sandbox = int(file.read())
        with open(f"/proc/{sandbox}/cgroup") as file:
            groups = [line.rstrip("\n").split(":", 2)[1:] for line in file]
    except (OSError, ValueError):
        return
    for controllers, path in groups:
        for folder in (controllers.removeprefix("name="), "unified", ""):
            try:
                with open(f"/sys/fs/cgroup/{folder}{path}/cgroup.procs", "w") as procs:
                    procs.write(str(waiter))
                break
            except OSError:
                continue


def _start(command: Command) -> int:
    """runsc gives a member the standard streams of who starts it, not of who made it, as runc does."""
    try:
        streams = _streams_of(command.pid())
    except (OSError, ValueError):
        streams = []
    status = _run(command.argv(hiding=True), file_actions=streams if os.path.exists(command.started) else [])
    _release_waiter(command)
    return status


def _streams_of(pid: int) -> list[tuple[int, int, int]]:
    """Return what makes another process's streams those of a new one. Raises ``OSError``."""
    found = []
    for fd, mode in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        opened = os.open(f"/proc/{pid}/fd/{fd}", mode | os.O_NONBLOCK)
        # Of a description of its own: whoever shares the other sees nothing of it.
        os.set_blocking(opened, True)
        found.append((os.POSIX_SPAWN_DUP2, opened, fd))
    return found


def _delete(command: Command) -> int:
    status = _run(command.argv())
    _release_waiter(command)
    return status


def _kill(command: Command) -> int:
    reader, writer = os.pipe()
    status = _run(command.argv(), file_actions=[(os.POSIX_SPAWN_DUP2, writer, 2)])
    os.close(writer)
    words = os.read(reader, _MESSAGE)
    if status:
        ended = b"not running" in words or _release_waiter(command) or not _waits(command)
        # containerd's shim knows what has ended already by runc's words.
        os.write(2, b"container not running" if ended else words)
    return status


def _waits(command: Command) -> bool:
    """Whether a member's process is still there; a sandbox has its own."""
    try:
        os.kill(command.pid(), 0)
    except (OSError, ValueError):
        return False
    return True


def _release_waiter(command: Command) -> bool:
    """One that still waits for the container's start looks what has become of it; tell whether there is one."""
    try:
        os.close(os.open(command.started, os.O_WRONLY | os.O_NONBLOCK))
    except OSError:
        # A sandbox has none; and one that waits for the end already no longer reads.
        return False
    return True


def _wait(command: Command) -> int:
    """Return what the container ends with. The shim gets us when who made us has ended."""
    os.setsid()
    os.closerange(3, _MOST_FDS)
    if "--console-socket" in command.rest:
        # runsc has its terminal already; who made the container waits until nobody holds these.
        _close_streams()
    os.close(os.open(command.started, os.O_RDONLY))
    _close_streams()
    reader, writer = os.pipe()
    wait = Command([*command.globals, "wait", command.rest[-1]])
    _run(wait.argv(), file_actions=[(os.POSIX_SPAWN_DUP2, writer, 1)])
    os.close(writer)
    try:
        return int(json.loads(os.read(reader, _MESSAGE))["exitStatus"]) & 0xFF
    except (ValueError, KeyError):
        return _KILLED


def _close_streams() -> None:
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)


def _run(argv: list[str], **options: Any) -> int:
    child = os.posix_spawn(argv[0], argv, _ENVIRONMENT, **options)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    main(sys.argv[1:])
