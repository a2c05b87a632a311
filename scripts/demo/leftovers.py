"""What a stopped server may not leave on the machine: looked for in the kernel, not asked of it."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from alcove.host.files import instance_tag

# The kernel ends a killed process and its namespaces a moment after the killer has gone on.
GRACE_S = 3.0


def leftovers(state: Path, run: Path) -> list[str]:
    """Return what is there of the server with these folders, in words."""
    give_up = time.monotonic() + GRACE_S
    while True:
        found = [*_processes(state), *_files(state, run), *_kernel_objects(instance_tag(state))]
        if not found or time.monotonic() > give_up:
            return found
        time.sleep(0.1)


def _processes(state: Path) -> Iterator[str]:
    """Processes that name the state folder in their arguments, or have their root in it."""
    for path in Path("/proc").glob("[0-9]*"):
        if int(path.name) == os.getpid():
            continue
        try:
            command = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            root = os.readlink(path / "root")
        except OSError:
            continue
        if str(state) in command or root.startswith(str(state)):
            yield f"process {path.name}: {command[:100]}"


def _files(state: Path, run: Path) -> Iterator[str]:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        if str(state) in line:
            yield f"mount: {line}"
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            backing = path.read_text().strip()
        except OSError:
            continue
        if backing.startswith(str(state)):
            yield f"loop device {path.parts[3]}: {backing}"
    for path in (run / "api.sock", run / "daemon.pid"):
        if path.exists():
            yield f"file: {path}"


def _kernel_objects(tag: str) -> Iterator[str]:
    namespace = Path(f"/run/netns/alcove-{tag}")
    if namespace.exists():
        yield f"network namespace: {namespace}"
    for path in Path("/sys/fs/cgroup").glob(f"**/alcove-{tag}"):
        yield f"cgroup: {path}"
    for argv in (["ip", "-o", "link"], ["nft", "list", "tables"]):
        listed = subprocess.run(argv, capture_output=True, text=True).stdout
        yield from (f"{argv[0]}: {line}" for line in listed.splitlines() if tag in line)
