"""Control groups, v1 and v2 alike.

Each sandbox has one group, ``alcove-<tag>/<name>``, in the unified hierarchy or in each of the v1 controllers that
Alcove uses. A group is also the surest list of a sandbox's processes: what is started joins it before its first
instruction, so killing the group after a crash leaves nothing. Sources: cgroups(7),
Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from alcove.errors import HostError

PERIOD_US = 100_000
MIN_QUOTA_US = 1_000
V1_CONTROLLERS = ("cpu", "memory", "pids", "freezer")
_REMOVE_TRIES = 100


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """Where the controllers are mounted. ``unified`` None means v1, with a folder for each controller."""

    unified: Path | None
    controllers: dict[str, Path]

    def folders(self) -> list[Path]:
        return [self.unified] if self.unified is not None else list(dict.fromkeys(self.controllers.values()))


@lru_cache(maxsize=8)
def find_hierarchy(root: Path = Path("/sys/fs/cgroup")) -> Hierarchy:
    """Return this machine's hierarchy. Raises ``HostError`` where a controller is missing."""
    if (root / "cgroup.controllers").exists():
        present = (root / "cgroup.controllers").read_text().split()
        missing = {"cpu", "memory", "pids"} - set(present)
        if missing:
            raise HostError(
                f"the cgroup controllers {', '.join(sorted(missing))} are not there",
                hint="delegate them to this machine's root group",
            )
        return Hierarchy(root, {})
    folders = {name: root / name for name in V1_CONTROLLERS if (root / name).is_dir()}
    missing = set(V1_CONTROLLERS) - set(folders)
    if missing:
        raise HostError(
            f"the cgroup controllers {', '.join(sorted(missing))} are not mounted",
            hint="mount cgroup2 at /sys/fs/cgroup",
        )
    return Hierarchy(None, folders)


class Cgroup:
    """One sandbox's group. ``name`` is the sandbox's id, ``tag`` the instance's."""

    def __init__(self, tag: str, name: str, hierarchy: Hierarchy | None = None) -> None:
        self._hierarchy = hierarchy or find_hierarchy()
        self._parents = [folder / f"alcove-{tag}" for folder in self._hierarchy.folders()]
        self._folders = [parent / name for parent in self._parents]

    @staticmethod
    def list_children(tag: str, hierarchy: Hierarchy | None = None) -> list[str]:
        """Return the names of the groups that exist under the instance's parent."""
        names: set[str] = set()
        for folder in (hierarchy or find_hierarchy()).folders():
            with contextlib.suppress(FileNotFoundError):
                names.update(entry.name for entry in (folder / f"alcove-{tag}").iterdir() if entry.is_dir())
        return sorted(names)

    @staticmethod
    def remove_parent(tag: str, hierarchy: Hierarchy | None = None) -> None:
        """Remove the instance's parent group, once it has no children."""
        for folder in (hierarchy or find_hierarchy()).folders():
            with contextlib.suppress(OSError):
                (folder / f"alcove-{tag}").rmdir()

    @property
    def path(self) -> str:
        """The group's path below the hierarchy's root, as OCI runtimes want it."""
        return f"/{self._parents[0].name}/{self._folders[0].name}"

    def create(self) -> None:
        unified = self._hierarchy.unified
        if unified is not None:
            for folder in (unified, self._parents[0]):
                folder.mkdir(exist_ok=True)
                for controller in ("cpu", "memory", "pids"):
                    with contextlib.suppress(OSError):
                        (folder / "cgroup.subtree_control").write_text(f"+{controller}")
        for folder in self._folders:
            folder.mkdir(parents=True, exist_ok=True)

    def procs_files(self) -> list[Path]:
        """Return the files to which a process writes its pid to join."""
        return [folder / "cgroup.procs" for folder in self._folders]

    def add(self, pid: int) -> None:
        for file in self.procs_files():
            file.write_text(str(pid))

    def _file(self, controller: str, name: str) -> Path:
        if self._hierarchy.unified is not None:
            return self._folders[0] / name
        return self._hierarchy.controllers[controller] / self._parents[0].name / self._folders[0].name / name

    def set_limits(
        self,
        *,
        memory_bytes: int | None = None,
        cpu_fraction: float | None = None,
        cpu_shares: int | None = None,
        pids: int | None = None,
    ) -> None:
        """Set what is given. ``cpu_fraction`` is of one processor; ``cpu_shares`` has 1024 for an ordinary
        group (v1's scale).
        """
        v2 = self._hierarchy.unified is not None
        if memory_bytes is not None:
            self._file("memory", "memory.max" if v2 else "memory.limit_in_bytes").write_text(str(memory_bytes))
            swap = self._file("memory", "memory.swap.max" if v2 else "memory.memsw.limit_in_bytes")
            # Not every kernel accounts swap.
            with contextlib.suppress(OSError):
                swap.write_text("0" if v2 else str(memory_bytes))
        if cpu_fraction is not None:
            quota = max(MIN_QUOTA_US, int(PERIOD_US * cpu_fraction))
            if v2:
                self._file("cpu", "cpu.max").write_text(f"{quota} {PERIOD_US}")
            else:
                self._file("cpu", "cpu.cfs_period_us").write_text(str(PERIOD_US))
                self._file("cpu", "cpu.cfs_quota_us").write_text(str(quota))
        if cpu_shares is not None:
            if v2:
                # The scales' conversion is systemd's and runc's.
                weight = max(1, min(10_000, 1 + ((cpu_shares - 2) * 9999) // 262142))
                self._file("cpu", "cpu.weight").write_text(str(weight))
            else:
                self._file("cpu", "cpu.shares").write_text(str(max(2, cpu_shares)))
        if pids is not None:
            self._file("pids", "pids.max").write_text(str(pids))

    def pids(self) -> list[int]:
        found: set[int] = set()
        for file in self.procs_files():
            with contextlib.suppress(FileNotFoundError, OSError):
                found.update(int(line) for line in file.read_text().split())
        return sorted(found)

    def memory_bytes(self) -> int:
        name = "memory.current" if self._hierarchy.unified is not None else "memory.usage_in_bytes"
        return int(self._file("memory", name).read_text())

    def memory_peak(self) -> int | None:
        """Return the most bytes that the group has held; None where the kernel does not say, or it is gone. Cheap: each
        call of a container asks.
        """
        try:
            fd = os.open(self._peak_file, os.O_RDONLY | os.O_CLOEXEC)
            try:
                return int(os.read(fd, 32))
            finally:
                os.close(fd)
        except OSError:
            return None

    @cached_property
    def _peak_file(self) -> str:
        name = "memory.peak" if self._hierarchy.unified is not None else "memory.max_usage_in_bytes"
        return str(self._file("memory", name))

    def oom_kills(self) -> int:
        """Return how many processes the kernel killed here for want of memory."""
        name = "memory.events" if self._hierarchy.unified is not None else "memory.oom_control"
        with contextlib.suppress(FileNotFoundError, OSError):
            for line in self._file("memory", name).read_text().splitlines():
                key, _, value = line.partition(" ")
                if key == "oom_kill":
                    return int(value)
        return 0

    def kill_all(self) -> None:
        """Kill every process in the group and wait until none is left. For a thread: it sleeps."""
        for _ in range(_REMOVE_TRIES):
            kill = self._folders[0] / "cgroup.kill"
            if self._hierarchy.unified is not None and kill.exists():
                with contextlib.suppress(OSError):
                    kill.write_text("1")
            pids = self.pids()
            if not pids:
                return
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)

    def remove(self) -> None:
        """Remove the group. For a thread: a group stays busy for a moment after its last process."""
        for folder in self._folders:
            for _ in range(_REMOVE_TRIES):
                try:
                    folder.rmdir()
                except FileNotFoundError:
                    break
                except OSError as error:
                    if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
                        raise HostError(f"the cgroup {folder} cannot be removed: {error}") from error
                    time.sleep(0.01)
                    continue
                break
