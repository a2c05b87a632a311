"""A container made, started, entered and removed before a template is saved, and once more in a machine that waits:
crun, the kernel's paths and, under emulation, their translation are warm in every pod that is restored from it.
Whatever a pod's first container takes and this one does not is slow for every pod.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any

from alcove.guest import files, kernel
from alcove.guest.containers import Containers
from alcove.guest.places import FILES, IMAGES
from alcove.guest.refused import Operation

_NAME = "alcove-rehearsal"
_SHOWN = f"{FILES}/{_NAME}"
_CAPABILITIES = ["CAP_CHOWN", "CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_NET_BIND_SERVICE", "CAP_MKNOD"]


def rehearse(containers: Containers, archive: int) -> None:
    """Leave nothing behind but what is warm, and the pod's process namespace. ``archive`` is a tar of files, which the
    container is shown. Layers that are mounted under our name are used too, below the guest's own. Raises ``Refused``.
    """
    layer = _layer()
    try:
        files.put_files({"path": _NAME}, archive)
        _live(containers.ops(), [f"{_SHOWN}/{name}" for name in os.listdir(_SHOWN)])
    finally:
        with contextlib.suppress(OSError):
            kernel.unmount(layer, kernel.MNT_DETACH)
        os.rmdir(layer)
        with contextlib.suppress(OSError):
            os.rmdir(os.path.dirname(layer))


def _live(ops: dict[str, Operation], shown: list[str]) -> None:
    ops["create_container"]({"id": _NAME, "image": _NAME, "spec": _spec(shown), "pid": "pod"})
    try:
        ops["start_container"]({"id": _NAME})
        name = {"id": _NAME, "exec": "again"}
        ops["exec_create"]({**name, "process": _process("true")})
        ops["exec_start"](name)
        ops["container_stats"]({"id": _NAME})
    finally:
        ops["delete_container"]({"id": _NAME})


def _layer() -> str:
    """Make an image of the guest's own root."""
    os.makedirs(f"{IMAGES}/{_NAME}", exist_ok=True)
    layer = f"{IMAGES}/{_NAME}/{len(os.listdir(f'{IMAGES}/{_NAME}')) + 1}"
    os.mkdir(layer)
    kernel.mount("/", layer, "none", kernel.MS_BIND)
    return layer


def _process(*words: str) -> dict[str, Any]:
    names = ("bounding", "effective", "permitted")
    return {
        "args": list(words),
        "cwd": "/",
        "env": ["PATH=/usr/bin:/bin"],
        "user": {"uid": 0, "gid": 0, "additionalGids": [0]},
        "noNewPrivileges": True,
        "capabilities": dict.fromkeys(names, _CAPABILITIES),
    }


def _spec(shown: list[str]) -> dict[str, Any]:
    """Return a configuration as containerd's are, in what costs time; the files ``shown`` are where none were."""
    binds = [(f"/etc/{_NAME}-{number}", "bind", path, ["rbind", "rprivate"]) for number, path in enumerate(shown)]
    kinds: tuple[tuple[str, str, list[str]], ...] = (
             ("/proc", "proc", []), ("/dev", "tmpfs", ["nosuid", "mode=755", "size=65536k"]),
             ("/dev/pts", "devpts", ["newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
             ("/dev/shm", "tmpfs", ["nosuid", "nodev", "mode=1777"]), ("/dev/mqueue", "mqueue", ["nosuid"]),
             ("/sys", "sysfs", ["nosuid", "noexec", "nodev", "ro"]),
             ("/sys/fs/cgroup", "cgroup", ["nosuid", "noexec", "nodev", "ro"]))  # fmt: skip
    mounts = [*((at, kind, kind, how) for at, kind, how in kinds), *binds]
    rules = [{"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"}]
    return {
        "ociVersion": "1.0.2",
        "process": _process("sleep", "100"),
        "root": {"path": "rootfs"},
        "mounts": [{"destination": at, "type": kind, "source": what, "options": how} for at, kind, what, how in mounts],
        "linux": {
            "namespaces": [{"type": "mount"}, {"type": "cgroup"}],
            "resources": {"devices": rules, "memory": {"limit": 64 << 20}, "cpu": {"shares": 128}},
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/acpi", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
            "seccomp": {
                "defaultAction": "SCMP_ACT_ALLOW",
                "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
                "syscalls": [{"names": ["keyctl", "add_key", "bpf", "mount"], "action": "SCMP_ACT_ERRNO"}],
            },
        },
    }
