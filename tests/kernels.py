"""Kernels for tests: files that look like one, and a real one that is not the guest image's."""

from __future__ import annotations

import re
import struct
import subprocess
from pathlib import Path

from alcove.images.guest_packages import Apt, run
from alcove.images.kernels import NEEDED


def bzimage(release: str = "6.1.0-test", fill: bytes = b"") -> bytes:
    """As much of a bzImage as is looked at."""
    image = bytearray(1 << 16)
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", image, 0x20E, 0x1000)
    text = f"{release} (someone@somewhere) #1\0".encode()
    image[0x1200 : 0x1200 + len(text)] = text
    return bytes(image) + fill


def modules(folder: Path, *, built_in: tuple[str, ...] = (), left_out: tuple[str, ...] = ()) -> Path:
    """A lib/modules/RELEASE with what the guest needs."""
    files = folder / "kernel" / "drivers"
    files.mkdir(parents=True)
    for name in NEEDED:
        if name not in (*built_in, *left_out):
            (files / f"{name}.ko").write_bytes(b"\x7fELF" + name.encode())
    (folder / "modules.builtin").write_text("".join(f"kernel/drivers/{name}.ko\n" for name in built_in))
    return folder


def real_kernel(folder: Path) -> tuple[Path, Path, str]:
    """Debian's PREEMPT_RT kernel: vmlinuz, folder of modules, and its release. Downloaded once."""
    root = folder / f"root-{len(NEEDED)}"
    if not root.exists():
        environment = {"APT_CONFIG": str(Apt(folder / "apt", lambda line: None).config)}
        hint = "is the network up?"
        run(["apt-get", "update", "--error-on=any"], what="update", hint=hint, extra=environment)
        show = ["apt-cache", "show", "--no-all-versions", "linux-image-rt-amd64"]
        shown = run(show, what="show", hint=hint, extra=environment)
        (package,) = re.findall(r"^Depends: (linux-image-\S+)", shown, re.MULTILINE)[:1]
        run(["apt-get", "download", package], what="download", hint=hint, cwd=folder, extra=environment)
        work = folder / "unfinished"
        work.mkdir()
        wanted = ["./boot/vmlinuz-*", "./lib/modules/*/modules.builtin", *(f"*/{name}.ko*" for name in NEEDED)]
        (archive,) = folder.glob("linux-image-*.deb")
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", archive], stdout=subprocess.PIPE) as source:
            subprocess.run(["tar", "-x", "-C", work, "--wildcards", *wanted], stdin=source.stdout, check=False)
        archive.unlink()
        work.rename(root)
    (vmlinuz,) = (root / "boot").glob("vmlinuz-*")
    (lib,) = (root / "lib/modules").iterdir()
    return vmlinuz, lib, lib.name
