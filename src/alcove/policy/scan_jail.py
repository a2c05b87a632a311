"""Where scanners run: they parse a stranger's code, so they are held like it.

Bubblewrap gives each run namespaces of its own (no network, no other process in sight), a file system of the host's
programs and the code, both read-only, and a small /tmp; setpriv a user that nothing else has, without capabilities;
the cgroup bounds memory and processes, prlimit processor time and files. Nothing executes the code.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from alcove.errors import HostError
from alcove.host.cgroup import Cgroup

CODE = "/code"
# Below the users of machines (vmm/jail.py), in the same range that no distribution's tool hands out.
USER = 1_999_999
MEMORY_BYTES = 1536 << 20
PROCESSES = 64
TIMEOUT_S = 120
OUTPUT_LIMIT = 32 << 20
# The prefix is that of sandboxes: what a crash leaves is reaped with theirs.
_GROUP = "s-checks"
_JOIN = 'for file in $1; do echo $$ > "$file" || exit 125; done; shift; exec "$@"'


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended: the exit status (negative: the signal), and what it printed on stdout."""

    status: int
    output: bytes


class ScanFailed(Exception):
    """A scanner took too long, printed too much, or died."""


def jail_command(command: Sequence[str], tree: Path, binds: Sequence[Path]) -> list[str]:
    """Return the argv that runs ``command`` in the jail; ``binds`` are folders that it reads beside /usr."""
    argv = [
        *("/usr/bin/bwrap", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"),
        *("--die-with-parent", "--new-session", "--clearenv", "--setenv", "PATH", "/usr/bin:/bin"),
        *("--setenv", "LANG", "C.UTF-8", "--setenv", "HOME", "/tmp"),
        *("--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"),
        *("--ro-bind", "/usr", "/usr", "--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64"),
        *("--symlink", "usr/bin", "/bin", "--dev", "/dev"),
        *("--size", str(64 << 20), "--perms", "1777", "--tmpfs", "/tmp"),
    ]
    made: set[Path] = {Path("/"), Path("/usr")}
    for bind in binds:
        # bwrap makes missing parents for root alone.
        for parent in reversed(bind.parents):
            if parent not in made:
                made.add(parent)
                argv += ["--perms", "0755", "--dir", str(parent)]
        argv += ["--ro-bind", str(bind), str(bind)]
    argv += ["--ro-bind", str(tree), CODE, "--chdir", CODE, "--"]
    argv += ["/usr/bin/setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--no-new-privs"]
    argv += ["/usr/bin/prlimit", f"--cpu={TIMEOUT_S}", f"--fsize={64 << 20}", "--core=0", "--nofile=256", "--"]
    return [*argv, *command]


def require_jail() -> None:
    """Raises ``HostError`` where the jail cannot be built."""
    if not os.access("/usr/bin/bwrap", os.X_OK):
        raise HostError("bwrap is missing: code cannot be checked", hint="apt-get install bubblewrap")


def end_jailed(tag: str) -> None:
    """Kill what runs in the jail."""
    Cgroup(tag, _GROUP).kill_all()


def run_jailed(tag: str, command: Sequence[str], tree: Path, binds: Sequence[Path] = ()) -> Ended:
    """Run it to its end, one at a time. For a thread. Raises ``ScanFailed``."""
    cgroup = Cgroup(tag, _GROUP)
    cgroup.kill_all()
    cgroup.create()
    cgroup.set_limits(memory_bytes=MEMORY_BYTES, pids=PROCESSES, cpu_shares=128)
    try:
        files = " ".join(map(str, cgroup.procs_files()))
        return _run(["/bin/sh", "-c", _JOIN, "sh", files, *jail_command(command, tree, binds)])
    finally:
        cgroup.kill_all()
        cgroup.remove()


def _run(argv: Sequence[str]) -> Ended:
    child = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={}, cwd="/"
    )
    try:
        assert child.stdout is not None
        output = _read(child.stdout.fileno())
        return Ended(child.wait(TIMEOUT_S), output)
    except subprocess.TimeoutExpired as error:
        raise ScanFailed("the scanner did not end") from error
    finally:
        child.kill()
        child.wait()
        with contextlib.suppress(OSError):
            if child.stdout is not None:
                child.stdout.close()


def _read(descriptor: int) -> bytes:
    """Return all that comes, bounded in time and size."""
    parts: list[bytes] = []
    size, give_up = 0, time.monotonic() + TIMEOUT_S
    while True:
        left = give_up - time.monotonic()
        if left <= 0 or not select.select([descriptor], [], [], left)[0]:
            raise ScanFailed(f"the scanner took more than {TIMEOUT_S} s")
        part = os.read(descriptor, 1 << 16)
        if not part:
            return b"".join(parts)
        parts.append(part)
        size += len(part)
        if size > OUTPUT_LIMIT:
            raise ScanFailed("the scanner printed too much")
