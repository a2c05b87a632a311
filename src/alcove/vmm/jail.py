"""The jail in which each machine's VMM runs.

One folder, built once for a version of QEMU, holds the program, its libraries and firmware and nothing else. A VMM
starts with new mount, network, IPC and UTS namespaces, joins its cgroup, is chrooted into the folder and becomes an
unprivileged user of its own without groups or capabilities, before QEMU's first instruction. QEMU then adds its
seccomp filter. Every file, socket, tap and memory it works with is inherited as a descriptor.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from alcove.errors import HostError
from alcove.host.files import building, private_folder

PROGRAM = Path("/usr/bin/qemu-system-x86_64")
FIRMWARE = ("bios-256k.bin", "linuxboot_dma.bin", "kvmvapic.bin")
# QEMU loads its emulation as a module when it starts.
MODULES = ("/usr/lib/x86_64-linux-gnu/qemu/accel-tcg-x86_64.so",)
_FIRMWARE_FOLDERS = (Path("/usr/share/qemu"), Path("/usr/share/seabios"))
# Users of machines: ranges that no distribution's tool hands out, one for each instance on the host.
_FIRST_USER = 2_000_000
_INSTANCES = 4096
USERS = 65_536

# No file grows beyond 12 GiB, whatever a guest that has broken out asks for: the largest scratch disk has 10.2. Pods
# may have larger disks.
LARGEST_FILE = 12 << 30
# The shell joins the cgroups while it is still root in the host's view, so that no instruction of QEMU's runs outside
# of them. /proc shows the process itself alone, for /proc/self/fd; in a mount namespace of its own, it vanishes with
# the process.
_LAUNCH = """
root=$1 user=$2 groups=$3 blocks=$4; shift 4
ulimit -c 0
ulimit -f "$blocks"
for file in $groups; do echo $$ > "$file" || exit 71; done
mount -t proc -o nosuid,nodev,noexec,hidepid=2,subset=pid proc "$root/proc" || exit 71
exec chroot --userspec="$user:$user" --groups= "$root" "$@"
"""


@dataclass(frozen=True, slots=True)
class Jail:
    """The built folder, and the version of the QEMU in it."""

    root: Path
    digest: str

    def command(
        self, arguments: Sequence[str], *, user: int, cgroup_files: Sequence[Path], largest_file: int = LARGEST_FILE
    ) -> list[str]:
        """Return the argv that starts QEMU with ``arguments`` in the jail as ``user``; no file grows beyond
        ``largest_file`` bytes.
        """
        return [
            "/usr/bin/unshare", "--mount", "--net", "--ipc", "--uts", "--",
            "/bin/sh", "-c", _LAUNCH, "alcove-jail",
            str(self.root), str(user), " ".join(map(str, cgroup_files)), str(largest_file // 512),
            str(PROGRAM), *arguments,
        ]  # fmt: skip


def machine_users(tag: str) -> range:
    """Return the users of the machines of the instance with this tag (hexadecimal)."""
    first = _FIRST_USER + int(tag, 16) % _INSTANCES * USERS
    return range(first, first + USERS)


def build_jail(folder: Path) -> Jail:
    """Build (or find) the jail in ``folder``. Raises ``HostError`` where QEMU is missing."""
    if not PROGRAM.exists():
        raise HostError("QEMU is not installed", hint="apt-get install qemu-system-x86")
    files = _files()
    digest = hashlib.sha256()
    for path in files:
        status = path.stat()
        digest.update(f"{path} {status.st_size} {status.st_mtime_ns}\n".encode())
    name = digest.hexdigest()[:16]
    # Absolute: the VMM starts in another working folder than ours.
    root = private_folder(folder).resolve() / name
    if not root.exists():
        with building(root) as work:
            for path in files:
                target = work / path.relative_to("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, target)
            for empty in ("proc", "dev", "tmp"):
                (work / empty).mkdir(exist_ok=True)
            if Path("/dev/kvm").exists():
                status = os.stat("/dev/kvm")
                os.mknod(work / "dev/kvm", 0o666 | stat.S_IFCHR, status.st_rdev)
                os.chmod(work / "dev/kvm", 0o666)  # noqa: S103 - every VMM has a user of its own
            for base, _, _ in os.walk(work):
                os.chmod(base, 0o755)  # noqa: S103 - below a folder that is root's alone
    # The VMM's user must pass through the parents of the chroot only by way of the chroot itself: they stay 0700.
    return Jail(root, name)


def remove_other_jails(kept: Jail) -> None:
    """Remove the jails of other QEMUs; only where no machine runs in them."""
    for root in kept.root.parent.iterdir():
        if root != kept.root:
            shutil.rmtree(root, ignore_errors=True)


def _files() -> list[Path]:
    listing = subprocess.run(["/usr/bin/ldd", str(PROGRAM)], capture_output=True, text=True, check=True).stdout
    libraries = {Path(found) for found in re.findall(r"(/\S+) \(0x", listing)}
    firmware = []
    for name in FIRMWARE:
        found = next((base / name for base in _FIRMWARE_FOLDERS if (base / name).exists()), None)
        if found is None:
            raise HostError(f"QEMU's firmware {name} is missing", hint="apt-get install seabios qemu-system-data")
        firmware.append(found)
    modules = [Path(name) for name in MODULES if Path(name).exists()]
    return [PROGRAM, *sorted(libraries), *modules, *firmware]
