"""The guest's root file system as a folder: unpacked packages, pruned, with our accounts and links.

What maintainer scripts would have done and the guest needs is done here: certificates, the loader's cache,
alternatives, and bytecode, without which each import would compile anew under emulation.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from alcove.errors import HostError
from alcove.images.guest_packages import PACKAGES, Apt, Package, run, unpack

# Loaded in this order; virtio_ring holds symbols that virtio needs.
MODULES = (
    "virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci", "virtio_mmio",
    "virtio_blk", "squashfs", "virtio_console", "failover", "net_failover", "virtio_net",
)  # fmt: skip
MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
# The loader forgets a folder of LD_LIBRARY_PATH that is not there when a runtime starts, hence the two named lib.
FOLDERS = ("dev", "mnt", "proc", "root", "run", "sys", "tmp", "var/task/lib", "var/opt/lib", "var/tmp", "etc", "home")
PRUNED = (
    "boot", "usr/share/doc", "usr/share/man", "usr/share/info", "usr/share/locale", "usr/share/lintian",
    "usr/share/bug", "usr/share/i18n", "usr/share/bash-completion", "usr/share/menu", "usr/share/pixmaps",
    "usr/share/applications", "usr/share/perl5", "usr/share/debconf", "usr/share/doc-base", "usr/include",
    "usr/lib/x86_64-linux-gnu/gconv", "usr/lib/x86_64-linux-gnu/perl", "usr/lib/x86_64-linux-gnu/perl-base",
    "usr/lib/systemd", "usr/lib/udev", "usr/lib/dpkg", "usr/lib/valgrind", "usr/lib/modules", "usr/lib32",
    "usr/libx32", "etc/systemd", "etc/cron.d", "etc/cron.daily", "etc/cron.weekly", "etc/init.d",
    "etc/logrotate.d", "etc/pam.d", "etc/apt", "etc/dpkg", "etc/terminfo", "etc/skel", "etc/kernel",
    "usr/lib/python3.11/test", "usr/lib/python3.11/idlelib", "usr/lib/python3.11/lib2to3",
    "usr/lib/python3.11/ensurepip", "usr/lib/python3.11/tkinter", "usr/lib/python3.11/turtledemo",
    "var/cache", "var/lib", "var/log", "var/spool", "var/mail", "usr/share/zoneinfo/right",
)  # fmt: skip
ALTERNATIVES = {
    # A container's /var is the one folder where the host mounts what comes while it runs: code, and layers.
    "opt": "var/opt",
    "usr/bin/awk": "gawk",
    "usr/bin/python3": "python3.11",
    "usr/bin/sh": "dash",
    "usr/bin/which": "which.debianutils",
    "usr/lib/ssl/cert.pem": "/etc/ssl/certs/ca-certificates.crt",
    "etc/localtime": "/usr/share/zoneinfo/Etc/UTC",
    "etc/machine-id": "/run/machine-id",
    "etc/mtab": "/proc/self/mounts",
    "etc/resolv.conf": "/run/resolv.conf",
}
NOLOGIN = "/usr/sbin/nologin"
FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/bash\n"
    f"bridge:x:990:990:Alcove runtime interface:/:{NOLOGIN}\n"
    "tenant:x:1000:1000:Workload:/tmp:/bin/bash\n"
    f"nobody:x:65534:65534:nobody:/nonexistent:{NOLOGIN}\n",
    "etc/group": "root:x:0:\ntty:x:5:\nbridge:x:990:\ntenant:x:1000:\nnogroup:x:65534:\n",
    "etc/hosts": "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n",
    "etc/hostname": "alcove\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\nnetworks: files\n"
    "protocols: files\nservices: files\n",
    "etc/timezone": "Etc/UTC\n",
}


def build_base(
    folder: Path,
    progress: Callable[[str], None],
    wanted: Sequence[str] = PACKAGES,
    modules: Sequence[str] = MODULES,
) -> list[Package]:
    """Fill ``folder`` with ``root/``, ``vmlinuz``, ``busybox`` and ``modules/``; return the packages used: those that
    are ``wanted``, and what they need.
    """
    apt_folder = folder / "apt"
    apt = Apt(apt_folder, progress)
    packages = apt.fetch(wanted)
    progress(f"unpacking {len(packages)} packages")
    root = folder / "root"
    for name in MERGED:
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    for package in packages:
        if not package.name.startswith("linux-image-"):
            unpack(apt.archives / package.file, root)
    kernel = next(package for package in packages if package.name.startswith("linux-image-"))
    _take_kernel(apt.archives / kernel.file, folder, modules)
    shutil.rmtree(apt_folder)
    shutil.copy2(root / "usr/bin/busybox", folder / "busybox")
    progress("arranging the root file system")
    arrange(root)
    progress("compiling the Python library")
    compile_python(root, "/usr/lib/python3.11")
    run(["chroot", str(root), "/usr/sbin/ldconfig", "-X"], what="ldconfig", hint="Building needs root.")
    return packages


def _take_kernel(archive: Path, folder: Path, wanted: Sequence[str]) -> None:
    unpacked = folder / "kernel"
    unpacked.mkdir()
    unpack(archive, unpacked)
    shutil.copyfile(next(unpacked.glob("boot/vmlinuz-*")), folder / "vmlinuz")
    modules = folder / "modules"
    modules.mkdir()
    found = {path.stem: path for path in unpacked.rglob("*.ko")}
    for name in wanted:
        if name not in found:
            raise HostError(
                f"the kernel package lacks the module {name}", hint="Report this: Debian changed its kernel."
            )
        shutil.copyfile(found[name], modules / f"{name}.ko")
    shutil.rmtree(unpacked)


def arrange(root: Path) -> None:
    """Prune, then add accounts, links, certificates; strip set-id bits."""
    for name in PRUNED:
        path = root / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
    (root / "lib32").unlink()
    (root / "libx32").unlink()
    for name in FOLDERS:
        (root / name).mkdir(parents=True, exist_ok=True)
    for name, text in FILES.items():
        (root / name).unlink(missing_ok=True)
        (root / name).write_text(text)
    certificates = sorted((root / "usr/share/ca-certificates").rglob("*.crt"))
    bundle = root / "etc/ssl/certs/ca-certificates.crt"
    bundle.parent.mkdir(parents=True, exist_ok=True)
    bundle.write_bytes(b"".join(path.read_bytes().rstrip() + b"\n" for path in certificates))
    for name, target in ALTERNATIVES.items():
        link = root / name
        if link.is_dir() and not link.is_symlink():
            link.rmdir()
        link.unlink(missing_ok=True)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)
    for path in root.rglob("*"):
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID):
            path.chmod(stat.S_IMODE(mode) & 0o777)
    (root / "tmp").chmod(0o1777)
    (root / "var/tmp").chmod(0o1777)
    (root / "root").chmod(0o700)
    os.chmod(root, 0o755)  # noqa: S103 - the root folder of a system


def compile_python(root: Path, path: str) -> None:
    """Compile what is under ``path`` with the image's own interpreter; the .pyc are never checked for age."""
    run(
        ["chroot", str(root), "/usr/bin/python3.11", "-I", "-S", "-m", "compileall", "-q",
         "--invalidation-mode", "unchecked-hash", path],
        what="compiling Python", hint="Building the guest image needs root (chroot).", extra={"PYTHONHASHSEED": "0"},
    )  # fmt: skip
