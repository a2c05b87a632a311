"""The OCI configuration of a container. A pure function: it reads and changes nothing.

The container has what a function in a VM has: the guest image as a read-only root, an unprivileged user without
capabilities, a small /tmp, no devices but the harmless ones. Source: the OCI runtime specification 1.0.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alcove.sandbox.protocol import Runtime

TENANT_USER = 1000
TMP_MIB = 512
OPEN_FILES = 1024
# The runtime's script keeps PATH and HOME; the rest comes with LOAD.
ENVIRONMENT = ["PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/tmp", "LANG=C.UTF-8"]
# The first process of a namespace is deaf to most signals and inherits orphans: that is the shell, not the runtime.
_INIT = '/bin/sh /opt/alcove/runtime "$1"; exit $?'
# System calls that no function needs and that have opened kernels before.
# fmt: off
DENIED = [
    "acct", "add_key", "bpf", "clock_adjtime", "clock_settime", "create_module",
    "delete_module", "fanotify_init", "finit_module", "fsconfig", "fsmount", "fsopen",
    "fspick", "get_kernel_syms", "get_mempolicy", "init_module", "io_uring_enter",
    "io_uring_register", "io_uring_setup", "ioperm", "iopl", "kcmp", "kexec_file_load",
    "kexec_load", "keyctl", "lookup_dcookie", "mbind", "mount", "mount_setattr", "move_mount",
    "move_pages", "name_to_handle_at", "nfsservctl", "open_by_handle_at", "open_tree",
    "perf_event_open", "personality", "pidfd_getfd", "pivot_root", "process_madvise",
    "process_vm_readv", "process_vm_writev", "ptrace", "query_module", "quotactl",
    "quotactl_fd", "reboot", "request_key", "set_mempolicy", "setdomainname", "sethostname",
    "setns", "settimeofday", "stime", "swapoff", "swapon", "syslog", "umount", "umount2",
    "unshare", "uselib", "userfaultfd", "vhangup", "vm86", "vm86old",
]
# fmt: on
# CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
_NEW_NAMESPACES = 0x7E020000
_AF_INET6 = 10
_EPERM, _ENOSYS, _EAFNOSUPPORT = 1, 38, 97
_ALLOWED_FAMILIES = (1, 2, _AF_INET6, 16)  # UNIX, INET, INET6, NETLINK


@dataclass(frozen=True, slots=True)
class Container:
    """What tells one container from another. ``var`` and ``run`` are folders bound at /var and /run."""

    root: Path
    var: Path
    run: Path
    hostname: str
    cgroup_path: str
    network_namespace: Path | None


def oci_config(container: Container, runtime: Runtime, *, seccomp: bool) -> dict[str, Any]:
    """Return the bundle's config.json. ``seccomp`` is for runtimes whose containers call the host's kernel."""
    namespaces: list[dict[str, str]] = [{"type": name} for name in ("pid", "ipc", "uts", "mount")]
    network = {"type": "network"}
    if container.network_namespace is not None:
        network["path"] = str(container.network_namespace)
    linux: dict[str, Any] = {
        "namespaces": [*namespaces, network],
        "cgroupsPath": container.cgroup_path,
        "resources": {"devices": [{"allow": False, "access": "rwm"}]},
        "maskedPaths": [
            *("/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kallsyms", "/proc/kcore", "/proc/keys"),
            *("/proc/key-users", "/proc/latency_stats", "/proc/modules", "/proc/sched_debug", "/proc/scsi"),
            *("/proc/timer_list", "/proc/timer_stats", "/proc/vmallocinfo", "/proc/pressure"),
        ],
        "readonlyPaths": [f"/proc/{name}" for name in ("bus", "fs", "irq", "sys", "sysrq-trigger")],
    }
    if seccomp:
        linux["seccomp"] = seccomp_profile()
    return {
        "ociVersion": "1.0.2",
        "hostname": container.hostname,
        "root": {"path": str(container.root), "readonly": True},
        "process": {
            "terminal": False,
            "user": {"uid": TENANT_USER, "gid": TENANT_USER},
            "args": ["/bin/sh", "-c", _INIT, "init", str(runtime)],
            "env": ENVIRONMENT,
            "cwd": "/",
            "noNewPrivileges": True,
            "capabilities": {name: [] for name in ("bounding", "effective", "inheritable", "permitted", "ambient")},
            "rlimits": [
                {"type": "RLIMIT_NOFILE", "hard": OPEN_FILES, "soft": OPEN_FILES},
                {"type": "RLIMIT_CORE", "hard": 0, "soft": 0},
            ],
            # The runtime goes first when its group is out of memory, not the host's processes.
            "oomScoreAdj": 500,
        },
        "mounts": _mounts(container),
        "linux": linux,
    }


def _mounts(container: Container) -> list[dict[str, Any]]:
    safe = ["nosuid", "noexec", "nodev"]

    def tmpfs(target: str, *options: str) -> dict[str, Any]:
        return {"destination": target, "type": "tmpfs", "source": "tmpfs", "options": list(options)}

    def bind(target: str, source: Path, *options: str) -> dict[str, Any]:
        return {"destination": target, "type": "bind", "source": str(source), "options": list(options)}

    return [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": safe},
        tmpfs("/dev", "nosuid", "noexec", "mode=755", "size=64k"),
        tmpfs("/dev/shm", *safe, "mode=1777", "size=64m"),
        tmpfs("/tmp", "nosuid", "nodev", "mode=1777", f"size={TMP_MIB}m"),
        # The code is mounted at /var/task of the host's folder when the container runs already.
        bind("/var", container.var, "rbind", "rslave", "ro", "nosuid", "nodev"),
        bind("/run", container.run, "bind", "ro", *safe),
    ]


def seccomp_profile() -> dict[str, Any]:
    """Return the filter: what is dangerous is refused; system calls of other architectures kill."""

    def deny(names: list[str], error: int, *conditions: dict[str, Any]) -> dict[str, Any]:
        rule: dict[str, Any] = {"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": error}
        return rule | {"args": list(conditions)} if conditions else rule

    namespaces = {
        "index": 0, "value": _NEW_NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ",
    }  # fmt: skip
    rules = [
        deny(DENIED, _EPERM),
        # Its flags are in memory, where a filter cannot look; the C library falls back to clone.
        deny(["clone3"], _ENOSYS),
    ]
    # One rule for each namespace flag: a filter tells a masked value, not "any bit of it".
    rules += [
        deny(["clone"], _EPERM, namespaces | {"value": flag, "valueTwo": flag})
        for flag in (1 << bit for bit in range(64))
        if flag & _NEW_NAMESPACES
    ]
    rules += [
        deny(["socket"], _EAFNOSUPPORT, {"index": 0, "value": family, "op": "SCMP_CMP_EQ"})
        for family in range(46)
        if family not in _ALLOWED_FAMILIES
    ]
    return {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": rules}
