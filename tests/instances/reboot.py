"""A host that loses its power and starts again, as far as one server's things go: no process, mount, network, cgroup or
file in ``/run`` is there any more, and the boot has another id. What lies on the disk is as it was.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from tests.instances.plane import Plane

from alcove.host.files import instance_tag

_CGROUPS = Path("/sys/fs/cgroup")
_NETNS = Path("/run/netns")
# Where containerd's shim for runc has what lasts until the host starts anew.
_RUNC = (Path("/run/containerd/runc/k8s.io"), Path("/run/containerd/s"))


class Host:
    """``lose_power``, then ``boot``. What was there when this was made is others'."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self._others = set(_temporary())

    def lose_power(self) -> None:
        assert self._plane.process is not None
        tag = instance_tag(self._plane.state)
        killed = [self._plane.process.pid, *self._processes(tag)]
        # First who would notice the end of the others.
        for pid in killed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._plane.process.wait()
        _until(lambda: not any(_lives(pid) for pid in killed))
        self._unmount()
        self._remove_networks(tag)
        for path in set(_temporary()) - self._others:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        _until(lambda: _remove_cgroups(tag))
        for path in self._plane.run.iterdir():
            if path != self._plane.log:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    def boot(self) -> None:
        self._plane.boot = self._plane.state / "boot_id.test"
        self._plane.boot.write_text(f"{uuid.uuid4()}\n")
        self._plane.start()

    def _processes(self, tag: str) -> list[int]:
        """Return containerd, its shims, what they have started, and all in our cgroups."""
        ours = (str(self._plane.run / "containerd"), str(self._plane.state / "containerd"))
        found = [pid for pid in _pids() if any(one in _words(pid) for one in ours)]
        found += [pid for pid in _pids() if _parent(pid) in found and pid not in found]
        for procs in _CGROUPS.glob(f"**/alcove-{tag}/**/cgroup.procs"):
            with contextlib.suppress(OSError):
                found += map(int, procs.read_text().split())
        return found

    def _unmount(self) -> None:
        places = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        named = {str(path) for path in set(_temporary()) - self._others}
        for place in reversed(places):
            if place in named or place.startswith((f"{self._plane.state}/", f"{self._plane.run}/")):
                subprocess.run(["umount", "-l", place], check=True)

    def _remove_networks(self, tag: str) -> None:
        bridge = f"alc{tag}p"
        for line in (f"netns delete alcove-{tag}", f"link delete {bridge}"):
            subprocess.run(["ip", *line.split()], check=False, capture_output=True)
        subprocess.run(["nft", "delete", "table", "inet", bridge], check=False, capture_output=True)


def _temporary() -> Iterator[Path]:
    for folder in (*_RUNC, _NETNS):
        if folder.is_dir():
            yield from folder.iterdir()


def _remove_cgroups(tag: str) -> bool:
    """Whether all are gone: one whose processes have just ended is still held."""
    found = [*_CGROUPS.glob(f"**/alcove-{tag}"), *_CGROUPS.glob("**/k8s.io/*/")]
    for top in found:
        for folder, _, _ in os.walk(top, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(folder)
    return not any(_CGROUPS.glob(f"**/alcove-{tag}"))


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _words(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    return ""


def _stat(pid: int) -> list[str]:
    """Return the fields of proc(5) from the state on; none where it is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return []


def _parent(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[1]) if fields else 0


def _lives(pid: int) -> bool:
    return _stat(pid)[:1] not in ([], ["Z"], ["X"])


def _until(done: object) -> None:
    assert callable(done)
    deadline = time.monotonic() + 30
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.05)
