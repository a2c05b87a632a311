"""From the OCI configuration that containerd wrote for this host to what a container in the guest is started with.

Nothing is done here: ``convert`` says which of the host's files are copied in, which disks and shares are attached, and
what the guest's ``crun`` is told. What would reach into the host (hooks, namespaces of others, the host's network) is
refused or taken out; the operator alone lets folders of the host into a pod (decision 24).
"""

from __future__ import annotations

import copy
import posixpath
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from alcove.shim.address import digest

FILES, DISKS, SHARES = "/run/alcove/files", "/run/alcove/disks", "/run/alcove/shares"
NFS = "/run/alcove/nfs"
HOST_PATHS = "io.alcove.host-paths"
EMPTY_DIR = "io.alcove.empty-dir."
NFS_VOLUME = "io.alcove.nfs."
DISK_BYTES = "io.alcove.disk-bytes"
# An emptyDir without a limit: thin, so it costs what is written. The pod's own quotas bound it, not the host's disk.
DEFAULT_EMPTY_DIR_BYTES = 10 * 1024**3

_EMPTY_DIR_PATH = re.compile(r"/kubernetes\.io~empty-dir/([^/]+)((?:/[^/]+)*)$")
# The key is what names the folder that stands for the volume; the value is "10.0.0.1:/path" or "ro,10.0.0.1:/path".
_NFS_KEY = re.compile(r"[0-9a-f]{16}")
_NFS_SOURCE = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9][-A-Za-z0-9.]*)):(/.*)", re.DOTALL)
_MOST_NFS = 64
_BYTES = re.compile(r"[0-9]{1,15}")
_PROJECTED = re.compile(r"/kubernetes\.io~(?:configmap|secret|projected|downward-api)/")
# Where kubelet has the file that a container tells its end in.
_TERMINATION_LOG = re.compile(r"/pods/[^/]+/containers/[^/]+/[^/]+$")
_POD_FILES = frozenset({"/etc/hosts", "/etc/hostname", "/etc/resolv.conf"})
# The pod's are the guest's own.
_SHARED_NAMESPACES = frozenset({"network", "ipc", "uts"})
_POD_SYSCTLS = ("net.", "kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue.")


# The guest's crun refuses configurations of versions that it does not know, such as containerd 2.x writes; of what
# newer ones have it takes no notice.
GUEST_VERSION = "1.0.2"


class SpecError(ValueError):
    """The configuration asks for what a pod in a machine of its own cannot have."""


class HostFacts(Protocol):
    """What this host has at a path."""

    def kind(self, path: str) -> str:
        """``file``, ``folder``, ``memory`` (a folder that is a tmpfs), ``other`` or ``missing``."""

    def capacity(self, path: str) -> int:
        """The size of the file system at a path, in bytes."""


class CopyIn(NamedTuple):
    """A file or folder of the host that is copied to ``FILES/<container>/<name>``."""

    source: str
    name: str


class Disk(NamedTuple):
    """An emptyDir, at ``DISKS/<name>``: ``bytes`` of disk or, where ``memory``, of the guest's memory."""

    name: str
    bytes: int
    memory: bool


class Share(NamedTuple):
    """A folder of the host that is shared with the guest at ``SHARES/<name>``."""

    source: str
    read_only: bool
    name: str
    # Mounts below it are read-only too.
    recursive: bool
    # What the host mounts below it later is there too.
    follows: bool


class Nfs(NamedTuple):
    """A volume of an NFS server's, at ``NFS/<name>``. ``server`` is a name or an address."""

    server: str
    path: str
    read_only: bool
    options: list[str]
    name: str


class TerminationLog(NamedTuple):
    """What the container writes at ``guest`` is copied to the host's file when it has ended."""

    guest: str
    host: str


class Plan(NamedTuple):
    spec: dict[str, Any]
    copies: list[CopyIn]
    disks: list[Disk]
    shares: list[Share]
    nfs: list[Nfs]
    sysctls: dict[str, str]
    # ``pod``: the container sees the processes of the others.
    pid_mode: str
    termination_log: TerminationLog | None


def convert(spec: Mapping[str, Any], *, container_id: str, annotations: Mapping[str, str], facts: HostFacts) -> Plan:
    """Return what it takes to start the container in the guest. ``annotations`` are the pod's. Raises ``SpecError``."""
    if any(spec.get("hooks", {}).values()):
        raise SpecError("hooks would run on the host: a pod in a machine of its own has none")
    guest = copy.deepcopy(dict(spec))
    guest["ociVersion"] = GUEST_VERSION
    for name in ("hooks", "hostname", "domainname"):
        guest.pop(name, None)
    guest["root"] = {"path": "rootfs", "readonly": bool(spec.get("root", {}).get("readonly"))}
    for name in ("apparmorProfile", "selinuxLabel"):
        guest.get("process", {}).pop(name, None)
    linux = guest.setdefault("linux", {})
    pid_mode = _convert_linux(linux)
    mounts = _Mounts(container_id, annotations, facts)
    guest["mounts"] = [mounts.convert(mount) for mount in spec.get("mounts", [])]
    sysctls = _take_sysctls(linux)
    return Plan(
        guest, mounts.copies, mounts.disks, mounts.shares, mounts.nfs, sysctls, pid_mode, mounts.termination_log
    )


def nfs_volumes(annotations: Mapping[str, str]) -> list[Nfs]:
    """Return those that a pod's annotations name, to be mounted before there is a container. Raises ``SpecError``."""
    keys = [key.removeprefix(NFS_VOLUME) for key in annotations if key.startswith(NFS_VOLUME)]
    if len(keys) > _MOST_NFS or not all(map(_NFS_KEY.fullmatch, keys)):
        raise SpecError(f"a pod has at most {_MOST_NFS} NFS volumes, each named by the digest of a path")
    return [_nfs_volume(key, annotations[NFS_VOLUME + key]) for key in keys]


def resolver(spec: Mapping[str, Any]) -> str | None:
    """Return the host's file by which the pod's containers find names, None where there is none."""
    found = (mount for mount in spec.get("mounts") or [] if mount.get("destination") == "/etc/resolv.conf")
    return next((str(mount["source"]) for mount in found), None)


def netns(spec: Mapping[str, Any]) -> str | None:
    """Return the path of the pod's network namespace, ``None`` for one without network. Raises ``SpecError``."""
    for namespace in spec.get("linux", {}).get("namespaces", []):
        if namespace.get("type") == "network":
            return namespace.get("path") or None
    raise SpecError("hostNetwork is not possible for a pod in a machine of its own")


def machine_size(spec: Mapping[str, Any]) -> tuple[float, int, int]:
    """Return processors, MiB of memory and MiB of writable disk that a pod asks for; 0 is the default."""
    annotations = spec.get("annotations", {})
    resources = spec.get("linux", {}).get("resources", {})
    cpu, memory = resources.get("cpu", {}), resources.get("memory", {})
    quota = _number(annotations.get("io.kubernetes.cri.sandbox-cpu-quota"), cpu.get("quota"))
    period = _number(annotations.get("io.kubernetes.cri.sandbox-cpu-period"), cpu.get("period")) or 100_000
    memory_bytes = _number(annotations.get("io.kubernetes.cri.sandbox-memory"), memory.get("limit"))
    cpus = _number(annotations.get("io.alcove.cpus"), 0) or max(0.0, quota / period)
    memory_mib = int(_number(annotations.get("io.alcove.memory-mib"), 0)) or max(0, int(memory_bytes)) >> 20
    return cpus, memory_mib, int(_number(annotations.get("io.alcove.disk-mib"), 0))


def disk_limit(spec: Mapping[str, Any]) -> int:
    """Return what a container may write to its root, in bytes; 0 is all that its pod has. Raises ``SpecError``."""
    text = str((spec.get("annotations") or {}).get(DISK_BYTES, "0"))
    if not _BYTES.fullmatch(text):
        raise SpecError(f"the annotation {DISK_BYTES} is not a number of bytes")
    return int(text)


def exec_process(process: Mapping[str, Any]) -> dict[str, Any]:
    """Return the OCI process of an exec as the guest's ``crun`` is told it."""
    return {name: value for name, value in process.items() if name not in ("apparmorProfile", "selinuxLabel")}


def guest_resources(resources: Mapping[str, Any]) -> dict[str, Any]:
    """Return the limits without those that name the host's devices, processors or memory nodes."""
    kept = {name: value for name, value in resources.items() if name not in ("network", "rdma", "hugepageLimits")}
    if "cpu" in kept:
        names = ("shares", "quota", "period", "burst", "idle")
        kept["cpu"] = {name: value for name, value in kept["cpu"].items() if name in names}
    return kept


def _number(*candidates: Any) -> float:
    """Return the first that is a number; annotations are text, and may be anything."""
    for candidate in candidates:
        try:
            return float(candidate)
        except (TypeError, ValueError):
            continue
    return 0.0


def _convert_linux(linux: dict[str, Any]) -> str:
    for name in ("mountLabel", "intelRdt", "cgroupsPath"):
        linux.pop(name, None)
    # The host may have the first kind of cgroups, whose containers see them all; the guest has the second.
    pid_mode, namespaces = "pod", [{"type": "cgroup"}]
    for namespace in linux.get("namespaces", []):
        kind = namespace.get("type")
        if kind in _SHARED_NAMESPACES or kind == "cgroup":
            continue
        if kind == "pid" and namespace.get("path"):
            continue
        if kind == "pid":
            pid_mode = "container"
        namespaces.append({"type": kind})
    linux["namespaces"] = namespaces
    if "resources" in linux:
        linux["resources"] = guest_resources(linux["resources"])
    return pid_mode


def _take_sysctls(linux: dict[str, Any]) -> dict[str, str]:
    """Take out those that belong to namespaces which the pod shares with its guest."""
    settings: dict[str, str] = linux.get("sysctl") or {}
    shared = {name: value for name, value in settings.items() if name.startswith(_POD_SYSCTLS)}
    linux["sysctl"] = {name: value for name, value in settings.items() if name not in shared}
    return shared


class _Mounts:
    def __init__(self, container_id: str, annotations: Mapping[str, str], facts: HostFacts) -> None:
        self._container_id = container_id
        self._annotations = annotations
        self._facts = facts
        self._host_paths = annotations.get(HOST_PATHS) == "true"
        self.copies: list[CopyIn] = []
        self.disks: list[Disk] = []
        self.shares: list[Share] = []
        self.nfs: list[Nfs] = []
        self.termination_log: TerminationLog | None = None

    def convert(self, mount: Mapping[str, Any]) -> dict[str, Any]:
        options = list(mount.get("options") or [])
        if mount.get("type") in ("nfs", "nfs4"):
            return self._nfs_mount(mount, options)
        if mount.get("type") != "bind" and not {"bind", "rbind"} & set(options):
            return dict(mount)
        if mount["destination"] == "/dev/shm":
            return _shared_memory()
        source = self._guest_source(posixpath.normpath(mount["source"]), mount["destination"], options)
        # What the host's mounts do later reaches the guest through the share, or not at all.
        dropped = {"rshared", "shared", "rslave", "slave"}
        if source.startswith(f"{SHARES}/"):
            # The host holds a share read-only. In the guest, mounts below it would be so too, which is what rro asks.
            options = ["ro" if option == "rro" else option for option in options if option != "ro"]
        kept = [option for option in options if option not in dropped]
        return {"destination": mount["destination"], "type": "bind", "source": source, "options": kept}

    def _guest_source(self, source: str, destination: str, options: list[str]) -> str:
        read_only = bool({"ro", "rro"} & set(options))
        if EMPTY_DIR + digest(source) in self._annotations:
            return self._product_empty_dir(source)
        if NFS_VOLUME + digest(source) in self._annotations:
            return self._nfs(_nfs_volume(digest(source), self._annotations[NFS_VOLUME + digest(source)]))
        empty_dir = _EMPTY_DIR_PATH.search(source)
        if empty_dir is not None:
            return self._empty_dir(source, *empty_dir.groups())
        kind = self._facts.kind(source)
        if kind == "missing":
            raise SpecError(f"the mount of {destination} has no source on the host: {source}")
        if destination in _POD_FILES or _PROJECTED.search(source):
            return self._copy(source)
        if kind == "file" and _TERMINATION_LOG.search(source) and not read_only:
            guest = self._copy(source)
            self.termination_log = TerminationLog(guest, source)
            return guest
        if not self._host_paths and kind in ("file", "folder") and read_only:
            return self._copy(source)
        # Refused by the node service where the pod may not have it.
        return self._share(source, read_only, options)

    def _copy(self, source: str) -> str:
        name = str(len(self.copies))
        self.copies.append(CopyIn(source, name))
        return f"{FILES}/{self._container_id}/{name}"

    def _share(self, source: str, read_only: bool, options: list[str]) -> str:
        if {"rshared", "shared"} & set(options):
            raise SpecError(f"{source}: what is mounted in a pod's machine cannot reach the host (Bidirectional)")
        recursive, follows = "rro" in options, bool({"rslave", "slave"} & set(options))
        name = digest(f"{source}:{read_only}:{recursive}:{follows}")
        self.shares.append(Share(source, read_only, name, recursive, follows))
        return f"{SHARES}/{name}"

    def _nfs_mount(self, mount: Mapping[str, Any], options: list[str]) -> dict[str, Any]:
        """``ctr run --mount type=nfs,src=10.0.0.1:/path,dst=/data``."""
        source, access = str(mount.get("source")), "ro" if "ro" in options else "rw"
        kept = [option for option in options if option not in ("bind", "rbind", "ro", "rw")]
        volume = _nfs_volume(digest(f"{source}:{access}:{kept}"), f"{access},{source}", kept)
        return {
            "destination": mount["destination"],
            "type": "bind",
            "source": self._nfs(volume),
            "options": ["rbind", access],
        }

    def _nfs(self, volume: Nfs) -> str:
        if volume not in self.nfs:
            self.nfs.append(volume)
        return f"{NFS}/{volume.name}"

    def _empty_dir(self, source: str, name: str, below: str) -> str:
        volume = source[: len(source) - len(below)] if below else source
        memory = self._facts.kind(volume) == "memory"
        size = self._facts.capacity(volume) if memory else DEFAULT_EMPTY_DIR_BYTES
        return self._disk(Disk(name, size, memory)) + below

    def _product_empty_dir(self, source: str) -> str:
        """``io.alcove.empty-dir.<digest of the path>``: bytes, and ``,memory`` for the guest's memory."""
        name = digest(source)
        size, _, medium = self._annotations[EMPTY_DIR + name].partition(",")
        if not size.isascii() or not size.isdigit() or medium not in ("", "memory"):
            raise SpecError(f"the annotation {EMPTY_DIR}{name} is not a number of bytes")
        return self._disk(Disk(name, int(size) or DEFAULT_EMPTY_DIR_BYTES, medium == "memory"))

    def _disk(self, disk: Disk) -> str:
        if disk not in self.disks:
            self.disks.append(disk)
        return f"{DISKS}/{disk.name}"


def _nfs_volume(name: str, value: str, options: list[str] | None = None) -> Nfs:
    access, comma, rest = value.partition(",")
    given = comma != "" and access in ("ro", "rw")
    found = _NFS_SOURCE.fullmatch(rest if given else value)
    if found is None:
        raise SpecError(f"the NFS volume {value[:80]!r} is not named by a server and a path, as 10.0.0.1:/path")
    address, host, path = found.groups()
    return Nfs(address or host, path, given and access == "ro", options or [], name)


def _shared_memory() -> dict[str, Any]:
    options = ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]
    return {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": options}
