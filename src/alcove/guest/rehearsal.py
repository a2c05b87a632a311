"""A container made, started and removed before a template is saved: crun, the kernel's paths and, under emulation,
their translation are warm in every pod that is restored from it.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any

from alcove.guest import kernel
from alcove.guest.containers import Containers
from alcove.guest.places import IMAGES

_NAME = "alcove-rehearsal"
_BUSYBOX = "/usr/bin/busybox"
_CHUNK = 1 << 20
_CAPABILITIES = ["CAP_CHOWN", "CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_NET_BIND_SERVICE", "CAP_MKNOD"]


def rehearse(containers: Containers) -> None:
    """Leave nothing behind but what is warm. Layers that are mounted under our name are used too, below the guest's
    own. Raises ``Refused``.
    """
    ops = containers.ops()
    layer = _layer()
    try:
        ops["create_container"]({"id": _NAME, "image": _NAME, "spec": _spec(), "pid": "container"})
        try:
            ops["start_container"]({"id": _NAME})
            name = {"id": _NAME, "exec": "again"}
            ops["exec_create"]({**name, "process": _process("true")})
            ops["exec_start"](name)
            ops["container_stats"]({"id": _NAME})
        finally:
            ops["delete_container"]({"id": _NAME})
    finally:
        with contextlib.suppress(OSError):
            kernel.unmount(layer, kernel.MNT_DETACH)
        os.rmdir(layer)
        with contextlib.suppress(OSError):
            os.rmdir(os.path.dirname(layer))


def _layer() -> str:
    """Make an image of the guest's own busybox: a folder of memory."""
    os.makedirs(f"{IMAGES}/{_NAME}", exist_ok=True)
    layer = f"{IMAGES}/{_NAME}/{len(os.listdir(f'{IMAGES}/{_NAME}')) + 1}"
    os.mkdir(layer)
    kernel.mount("tmpfs", layer, "tmpfs", kernel.MS_NODEV, "size=8m")
    for folder in ("bin", "dev", "proc", "sys", "tmp"):
        os.mkdir(f"{layer}/{folder}")
    with open(_BUSYBOX, "rb") as source, open(f"{layer}/bin/busybox", "wb") as target:
        # It may send less than it is asked to (sendfile(2)): a program that is cut short dies by SIGBUS.
        while os.sendfile(target.fileno(), source.fileno(), None, _CHUNK):
            pass
    os.chmod(f"{layer}/bin/busybox", 0o755)  # noqa: S103 - a program
    return layer


def _process(*words: str) -> dict[str, Any]:
    names = ("bounding", "effective", "permitted")
    return {
        "args": ["/bin/busybox", *words],
        "cwd": "/",
        "env": ["PATH=/bin"],
        "user": {"uid": 0, "gid": 0},
        "noNewPrivileges": True,
        "capabilities": dict.fromkeys(names, _CAPABILITIES),
    }


def _spec() -> dict[str, Any]:
    """Return a configuration as containerd's are, in what costs time."""
    kinds: tuple[tuple[str, str, list[str]], ...] = (
             ("/proc", "proc", []), ("/dev", "tmpfs", ["nosuid", "mode=755", "size=65536k"]),
             ("/dev/pts", "devpts", ["newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
             ("/dev/shm", "tmpfs", ["nosuid", "nodev", "mode=1777"]), ("/dev/mqueue", "mqueue", ["nosuid"]),
             ("/sys", "sysfs", ["nosuid", "noexec", "nodev", "ro"]),
             ("/sys/fs/cgroup", "cgroup", ["nosuid", "noexec", "nodev", "ro"]))  # fmt: skip
    rules = [{"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"}]
    return {
        "ociVersion": "1.0.2",
        "process": _process("sleep", "100"),
        "root": {"path": "rootfs"},
        "mounts": [{"destination": at, "type": kind, "source": kind, "options": how} for at, kind, how in kinds],
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
