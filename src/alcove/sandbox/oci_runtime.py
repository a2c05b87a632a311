"""The programs that start containers: runc and runsc, driven by their command lines (blocking: for threads)."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alcove.errors import HostError
from alcove.host.files import private_folder
from alcove.sandbox.protocol import Isolation

TIMEOUT_S = 30
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
# The launcher joins its groups while it is still a shell, so that none of its processes is ever outside of them.
_JOIN = 'for file in $1; do echo $$ > "$file" || exit 71; done; shift; exec "$@"'
# runsc 20221219 takes a namespace for the host's where it finds net/core/rmem_default, which newer kernels have in
# each. It is hidden from runsc alone; mounts of the host's still arrive (slave).
_HIDE = 'mount -t tmpfs -o ro,size=4k alcove /proc/sys/net && exec "$@"'
_HIDING = ("/usr/bin/unshare", "--mount", "--propagation", "slave", "--", "/bin/sh", "-c", _HIDE, "alcove-hide")
# file-access-mounts=shared: what the host mounts in the folders of a running container must be looked up anew.
RUNSC_FLAGS = (
    *("--platform=ptrace", "--ignore-cgroups", "--network=sandbox", "--file-access-mounts=shared"),
    *("--overlay2=none",),
)


@dataclass(frozen=True, slots=True)
class OciRuntime:
    """One program with its flags, and what it is started through.

    ``own_cgroups``: it joins cgroupsPath itself; else what it starts inherits the launcher's groups.
    """

    program: str
    prefix: tuple[str, ...]
    flags: tuple[str, ...]
    state: Path
    own_cgroups: bool

    def _argv(self, *arguments: str) -> list[str]:
        return [self.program, "--root", str(self.state), *self.flags, *arguments]

    def run(
        self,
        id: str,
        bundle: Path,
        *,
        cgroup_files: Sequence[Path],
        channel: int,
        stdout: int,
        stderr: int,
    ) -> int:
        """Start the container of the bundle, detached; return the host's pid of its first process."""
        pid_file, log = bundle / "pid", bundle / "runtime.log"
        argv = self._argv(
            *("--log", str(log), "--log-format", "json"),
            *("run", "--detach", "--bundle", str(bundle), "--pid-file", str(pid_file), id),
        )
        groups = " ".join(map(str, cgroup_files))
        joined = ["/bin/sh", "-c", _JOIN, "alcove-join", groups, *self.prefix, *argv]
        code = _run(joined, stdin=channel, stdout=stdout, stderr=stderr)
        if code is None:
            raise HostError(f"{self.program} did not start a container in {TIMEOUT_S} s")
        if code:
            raise HostError(f"{self.program} failed ({code}): {_last_words(log)}", hint="run: alcove doctor")
        return int(pid_file.read_text())

    def delete(self, id: str) -> None:
        """Forget a container whose processes are dead; what is unknown is no error.

        runc removes the groups that it made. runsc keeps nothing but its state files, and would wait a second
        for the dead.
        """
        if self.own_cgroups:
            _run(self._argv("delete", "--force", id))
        # A start that was killed halfway leaves a folder that runc itself does not accept.
        shutil.rmtree(self.state / id, ignore_errors=True)
        for file in self.state.glob(f"{id}_sandbox:*"):
            file.unlink(missing_ok=True)


def _run(
    argv: Sequence[str],
    *,
    stdin: int = subprocess.DEVNULL,
    stdout: int = subprocess.DEVNULL,
    stderr: int = subprocess.DEVNULL,
) -> int | None:
    """Run a command to its end; return its exit code, or None where it was killed for taking too long.

    ``subprocess`` waits with a time limit by looking every 50 ms; a pidfd tells at once.
    """
    child = subprocess.Popen(
        argv, stdin=stdin, stdout=stdout, stderr=stderr, env=_ENVIRONMENT, start_new_session=True, cwd="/"
    )
    pidfd = os.pidfd_open(child.pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        if not poll.poll(TIMEOUT_S * 1000):
            child.kill()
            child.wait()
            return None
        return child.wait()
    finally:
        os.close(pidfd)


def _last_words(log: Path) -> str:
    try:
        lines = [json.loads(line) for line in log.read_text().splitlines()[-5:]]
    except (OSError, ValueError):
        return "no explanation"
    words: list[Any] = [line.get("msg", "") for line in lines if line.get("level") in ("error", "warning")]
    return "; ".join(map(str, words))[-500:] or "no explanation"


def find_runtime(isolation: Isolation, run: Path) -> OciRuntime:
    """Return the program of this tier, its state below ``run``. Raises ``HostError`` where it is not installed."""
    name = "runsc" if isolation is Isolation.GVISOR else "runc"
    program = shutil.which(name, path=_ENVIRONMENT["PATH"])
    if program is None:
        raise HostError(f"{name} is not installed", hint=f"apt-get install {name}")
    if not os.path.exists("/dev/loop-control"):
        raise HostError("loop devices do not work here", hint="modprobe loop")
    state = private_folder(run / name)
    if isolation is Isolation.GVISOR:
        return OciRuntime(program, _HIDING, RUNSC_FLAGS, state, own_cgroups=False)
    return OciRuntime(program, (), (), state, own_cgroups=True)
