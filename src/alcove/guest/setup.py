"""First acts of the agent as PID 1: file systems, kernel settings, itself."""

from __future__ import annotations

import contextlib
import glob
import os
import signal

from alcove.guest import cgroup
from alcove.guest.kernel import MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_REMOUNT, mount
from alcove.guest.nic import bring_up

_GUARDED = MS_NOSUID | MS_NODEV

# The tenant may do what it likes in its machine, but its kernel need not make it easy to break.
_SETTINGS = {
    "kernel/dmesg_restrict": "1",
    "kernel/kptr_restrict": "2",
    "kernel/unprivileged_bpf_disabled": "1",
    "kernel/sysrq": "0",
    "user/max_user_namespaces": "0",
    "vm/panic_on_oom": "0",
    "vm/overcommit_memory": "1",
}
# The host's kernel has a scheduler, accounts and limits: in the guest they would only add to each request's way. What
# containers have read and written, their control groups count.
_DISK_SETTINGS = {"scheduler": "none", "iostats": "0", "wbt_lat_usec": "0"}
_SCRATCH = "mode=1777,size=512m,nr_inodes=262144"


def set_up() -> None:
    mount("proc", "/proc", "proc", MS_REMOUNT | _GUARDED | MS_NOEXEC, "hidepid=2")
    mount("cgroup2", cgroup.ROOT, "cgroup2", _GUARDED | MS_NOEXEC)
    mount("tmpfs", "/run", "tmpfs", _GUARDED | MS_NOEXEC, "mode=755,size=16m")
    mount("tmpfs", "/tmp", "tmpfs", _GUARDED, _SCRATCH)
    for folder in ("/dev/shm", "/dev/pts"):
        os.makedirs(folder, exist_ok=True)
    mount("tmpfs", "/dev/shm", "tmpfs", _GUARDED, "mode=1777,size=64m")
    mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620")
    for link, target in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        with contextlib.suppress(FileExistsError):
            os.symlink(target, f"/dev/{link}")
    for name, value in _SETTINGS.items():
        # A kernel without the feature has no setting for it either.
        with contextlib.suppress(FileNotFoundError):
            _write(f"/proc/sys/{name}", value)
    # Disks and ports are root's alone (devtmpfs makes them 0600); what everybody may use stays as it is.
    cgroup.set_up()
    _write("/proc/self/oom_score_adj", "-1000")
    # The agent answers even while the tenant's processes want every cycle. A control group for it would add a level to
    # each choice of the scheduler's.
    os.setpriority(os.PRIO_PROCESS, 0, -20)
    bring_up("lo")
    for disk in glob.glob("/sys/block/vd*"):
        for name, value in _DISK_SETTINGS.items():
            # Without the feature, or without a use of it, the kernel refuses.
            with contextlib.suppress(OSError):
                _write(f"{disk}/queue/{name}", value)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGPIPE, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _write(path: str, value: str) -> None:
    with open(path, "w") as file:
        file.write(value)
