"""What this machine has and lacks, found out without changing anything.

Each probe returns a ``Check``. ``mend`` is the command that mends what is missing; ``needed_by``
says what does not work without it: ``all``, or the names of isolation tiers.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_ALL = ("all",)
MIB = 1 << 20
# The guest image with the folder it is built in, templates, and some packages.
DISK_NEEDED_MIB = 3072
# The server, a machine of each runtime waiting, and one at work.
MEMORY_NEEDED_MIB = 1024


@dataclass(frozen=True, slots=True)
class Check:
    """One finding; ``found`` says what was seen, whether it is well or not."""

    name: str
    ok: bool
    found: str
    mend: str = ""
    needed_by: tuple[str, ...] = _ALL


@dataclass(frozen=True, slots=True)
class Program:
    """A program that tiers run; ``version`` are the arguments that make it print its version."""

    name: str
    package: str
    version: tuple[str, ...]
    needed_by: tuple[str, ...]


_CONTAINERS = ("gvisor", "process")
PROGRAMS = (
    Program("qemu-system-x86_64", "qemu-system-x86", ("--version",), ("vm",)),
    Program("mksquashfs", "squashfs-tools", ("-version",), _ALL),
    Program("ip", "iproute2", ("-V",), _ALL),
    Program("nft", "nftables", ("--version",), _ALL),
    Program("sysctl", "procps", ("--version",), _ALL),
    Program("runsc", "runsc", ("--version",), ("gvisor",)),
)
_RUNC = Program("runc", "runc", ("--version",), ("process",))
_CRUN = Program("crun", "crun", ("--version",), ("process",))


def check_root() -> Check:
    user = os.geteuid()
    return Check("root", user == 0, f"user {user}", "run as root: sudo -i")


def check_disk(folder: Path) -> Check:
    """Look at the file system that ``folder`` is on, or would be on."""
    here = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(here).free // MIB
    return Check(
        "disk",
        free >= DISK_NEEDED_MIB,
        f"{free} MiB free for {folder}, {DISK_NEEDED_MIB} MiB needed",
        f"free space there, or choose another folder: --state (df -h {here})",
    )


def check_memory(meminfo: Path = Path("/proc/meminfo")) -> Check:
    values = dict(re.findall(r"^(\w+):\s+(\d+) kB$", meminfo.read_text(), re.MULTILINE))
    free, total = int(values["MemAvailable"]) // 1024, int(values["MemTotal"]) // 1024
    return Check(
        "memory",
        free >= MEMORY_NEEDED_MIB,
        f"{free} of {total} MiB available, {MEMORY_NEEDED_MIB} MiB needed",
        "stop what uses the memory (ps aux --sort -rss | head)",
    )


def check_program(program: Program) -> Check:
    path = shutil.which(program.name, path=_PATH)
    mend = f"apt-get install {program.package}"
    if path is None:
        return Check(program.name, False, "not installed", mend, program.needed_by)
    return Check(program.name, True, _version(path, program.version), mend, program.needed_by)


def check_container_runtime() -> Check:
    """The process tier needs runc or crun; crun 1.8 refuses cgroups in hybrid mode."""
    runc, crun = check_program(_RUNC), check_program(_CRUN)
    both = f"runc: {runc.found}; crun: {crun.found}"
    usable = runc.ok or (crun.ok and cgroup_mode() == "unified")
    return Check("runc or crun", usable, both, "apt-get install runc", ("process",))


def cgroup_mode(root: Path = Path("/sys/fs/cgroup")) -> str:
    """Return ``unified`` (v2), ``hybrid`` (v1 beside a v2 mount), ``legacy`` (v1) or ``none``."""
    if (root / "cgroup.controllers").exists():
        return "unified"
    if (root / "unified" / "cgroup.controllers").exists():
        return "hybrid"
    return "legacy" if (root / "memory").is_dir() else "none"


def check_cgroups(root: Path = Path("/sys/fs/cgroup")) -> Check:
    mode = cgroup_mode(root)
    if mode == "unified":
        found = set((root / "cgroup.controllers").read_text().split())
    else:
        found = {path.name for path in root.iterdir()} if root.is_dir() else set()
    missing = sorted({"cpu", "memory", "pids"} - found)
    text = mode + (f", without {', '.join(missing)}" if missing else "")
    return Check("cgroups", not missing, text, "mount -t cgroup2 none /sys/fs/cgroup")


def check_tun(path: Path = Path("/dev/net/tun")) -> Check:
    return _check_device("tun", path, "modprobe tun", ("vm",))


def check_loop(path: Path = Path("/dev/loop-control")) -> Check:
    return _check_device("loop devices", path, "modprobe loop", _CONTAINERS)


def _check_device(name: str, path: Path, mend: str, needed_by: tuple[str, ...]) -> Check:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return Check(name, False, f"{path}: {error.strerror}", mend, needed_by)
    return Check(name, True, f"{path} opens", mend, needed_by)


def check_squashfs(filesystems: Path = Path("/proc/filesystems")) -> Check:
    """The host mounts code packages for containers; a VM's guest kernel has its own squashfs."""
    mend = "modprobe squashfs"
    if "squashfs" in filesystems.read_text().split():
        return Check("squashfs", True, "in the kernel", mend, _CONTAINERS)
    modprobe = shutil.which("modprobe", path=_PATH)
    if modprobe and _run([modprobe, "--dry-run", "--quiet", "squashfs"]) is not None:
        return Check("squashfs", True, "a module, to be loaded", mend, _CONTAINERS)
    return Check("squashfs", False, "this kernel can't mount it", mend, _CONTAINERS)


def check_nftables() -> Check:
    """Whether rules can be listed: the program being there does not prove it."""
    program = shutil.which("nft", path=_PATH)
    mend = "apt-get install nftables; modprobe nf_tables"
    if program is None:
        return Check("nftables", False, "nft is not installed", mend)
    listed = _run([program, "list", "tables"])
    if listed is None:
        return Check("nftables", False, "the kernel has no tables for nft", mend)
    return Check("nftables", True, "rules can be listed", mend)


def check_port(host: str, port: int) -> Check:
    """Whether a server could listen there now."""
    name, mend = f"port {port}", f"see who has it (ss -ltnp 'sport = :{port}') or choose --listen"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            text = "in use" if error.errno == errno.EADDRINUSE else str(error.strerror)
            return Check(name, False, f"{host}: {text}", mend)
    return Check(name, True, f"{host}: free", mend)


def check_host(state: Path) -> list[Check]:
    """Every check but that of the port, which a running server rightly holds."""
    return [
        check_root(),
        check_disk(state),
        check_memory(),
        check_cgroups(),
        check_tun(),
        check_nftables(),
        check_squashfs(),
        check_loop(),
        *map(check_program, PROGRAMS),
        check_container_runtime(),
    ]


def _version(path: str, arguments: tuple[str, ...]) -> str:
    shown = _run([path, *arguments]) or ""
    numbers = re.search(r"(?:^|[\sv-])(\d+\.[\w.+:~-]*\d)", shown)
    return numbers[1] if numbers else "installed, of unknown version"


def _run(argv: list[str]) -> str | None:
    """Return what the command prints, or None where it fails or hangs."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=10, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return None
    # mksquashfs -version exits with 1 on some releases; what it printed counts.
    return done.stdout + done.stderr if done.returncode == 0 or "version" in done.stdout else None
