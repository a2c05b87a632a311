"""The guest image: kernel, initramfs and root file system of every VM, and the root of every container.

A build has two halves. The *base* (Debian packages, pruned and compiled) depends on the recipe alone, needs the
network and is kept; the *image* adds our guest code and takes seconds. An image is named by the SHA-256 of its
inputs: packages with their hashes, guest sources, builder. Both appear by rename, so what exists is whole.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import alcove
from alcove.errors import HostError
from alcove.guest.runtimes.java_command import command
from alcove.images import families, guest_initrd, guest_packages, guest_root
from alcove.images.families import Family

FORMAT = 1
HERE = Path(__file__).parent
SOURCES = Path(alcove.__file__).parent
# Everything in the image carries this time (2024-01-01), so that equal inputs give equal files.
EPOCH = 1_704_067_200
RUNTIMES = "/opt/alcove/alcove/guest/runtimes"
AGENT = """\
import sys
sys.path.append("/opt/alcove")
from {program} import main
main()
"""
# How a container starts a runtime: the invocation channel is its descriptor 0.
JAVA = command(f"/{families.JAVA_HOME}/bin/java", "/opt/alcove/java")
PHP = ["/usr/bin/php8.2", "-c", f"{RUNTIMES}/php.ini", f"{RUNTIMES}/php.php"]
RUNTIME = f"""\
#!/bin/sh
case "$1" in
python3.11) exec /usr/bin/python3.11 -I -S -B -X utf8 /opt/alcove/start python ;;
provided) exec /usr/bin/python3.11 -I -S -B -X utf8 /opt/alcove/start provided ;;
nodejs18) export LD_LIBRARY_PATH=/var/task/lib:/opt/lib ALCOVE_CHANNEL_FD=3
    exec /usr/bin/node {RUNTIMES}/node.js 3<&0 0</dev/null ;;
java17) LD_LIBRARY_PATH=/var/task/lib:/opt/lib ALCOVE_CHANNEL_FD=3 exec {shlex.join(JAVA)} 3<&0 0</dev/null ;;
php8.2) LD_LIBRARY_PATH=/var/task/lib:/opt/lib ALCOVE_CHANNEL_FD=3 exec {shlex.join(PHP)} 3<&0 0</dev/null ;;
*) echo "unknown runtime: $1" >&2; exit 64 ;;
esac
"""
START = """\
import sys
sys.path.append("/opt/alcove")
if sys.argv[1] == "python":
    from alcove.guest.runtimes.python import main
else:
    from alcove.guest.runtimes.provided import main
main()
"""


@dataclass(frozen=True, slots=True)
class GuestImage:
    """A finished image. ``manifest`` has ``format``, ``digest``, ``key``, ``packages``, ``sources``, ``kernel``."""

    digest: str
    kernel: Path
    initrd: Path
    root: Path
    manifest: dict[str, Any]


def find_guest_image(images_dir: Path, family: Family = Family.BASE) -> GuestImage | None:
    """Return the image that fits this installation's recipe and guest sources, without network; else None."""
    key = _image_key(family)
    found = [image for image in _images(images_dir / family.folder) if image.manifest.get("key") == key]
    return max(found, key=lambda image: image.root.stat().st_ctime, default=None)


def remove_other_images(kept: GuestImage) -> None:
    """Remove every image but this one; machines that run from another keep its files open. For the owner of the
    folder, at its start.
    """
    folder = kept.root.parent
    for other in folder.parent.glob("[!.]*"):
        if other.name != folder.name:
            shutil.rmtree(other, ignore_errors=True)


def build_guest_image(
    images_dir: Path, family: Family = Family.BASE, *, progress: Callable[[str], None], refresh: bool = False
) -> GuestImage:
    """Return the family's current image, building it where it is missing; ``refresh`` asks for the newest packages.

    Raises ``HostError`` with a hint: a tool missing, no network, disk full, not root.
    """
    if not refresh and (image := find_guest_image(images_dir, family)):
        return image
    guest_packages.need("mksquashfs", "squashfs-tools")
    home = images_dir / family.folder
    with _full_disk():
        home.mkdir(parents=True, exist_ok=True)
        with _lock(home, progress):
            for stale in home.glob(".build-*"):
                shutil.rmtree(stale, ignore_errors=True)
            if not refresh and (image := find_guest_image(images_dir, family)):
                return image  # another builder made it while we waited
            base = _base(home, family, progress, refresh)
            return _image(home, base, family, progress)


def _images(home: Path) -> Iterator[GuestImage]:
    for path in home.glob("*/manifest.json"):
        if path.parent.name.startswith("."):
            continue
        try:
            manifest = json.loads(path.read_bytes())
            image = _open(path.parent, manifest)
            if all(file.stat().st_size for file in (image.kernel, image.initrd, image.root)):
                yield image
        except (OSError, ValueError, KeyError):
            continue


def _open(folder: Path, manifest: dict[str, Any]) -> GuestImage:
    files = (folder / "vmlinuz", folder / "initrd", folder / "root.squashfs")
    return GuestImage(manifest["digest"], *files, manifest)


def _base(home: Path, family: Family, progress: Callable[[str], None], refresh: bool) -> Path:
    target = home / f".base-{_base_key(family)[:16]}"
    if target.exists() and not refresh:
        return target
    with _building(home) as temporary:
        packages = guest_root.build_base(temporary, progress, family.packages, family.modules)
        families.finish_base(temporary / "root", family, progress)
        document = json.dumps([package.as_dict() for package in packages], indent=1)
        (temporary / "packages.json").write_text(document)
        for old in home.glob(".base-*"):
            shutil.rmtree(old)
        temporary.rename(target)
    return target


def _image(home: Path, base: Path, family: Family, progress: Callable[[str], None]) -> GuestImage:
    packages = json.loads((base / "packages.json").read_bytes())
    sources = guest_sources()
    digest = _digest([FORMAT, packages, sources, _image_key(family)])
    target = home / digest
    with _building(home) as temporary:
        root = temporary / "root"
        # Links, not copies: only our own files differ from the base.
        guest_packages.run(["cp", "-al", str(base / "root"), str(root)], what="copying the base",
                           hint="Is the disk full?")  # fmt: skip
        progress("adding the guest agent and runtimes")
        add_guest_code(root, family)
        families.add_runtime(root, family)
        progress("writing the root file system")
        write_squashfs(root, temporary / "root.squashfs")
        shutil.rmtree(root)
        progress("writing the initramfs")
        init = (HERE / "init.sh").read_bytes()
        initrd = guest_initrd.build_initrd(init, base / "busybox", base / "modules", family.modules)
        (temporary / "initrd").write_bytes(initrd)
        shutil.copyfile(base / "vmlinuz", temporary / "vmlinuz")
        kernel = next(p for p in packages if p["name"].startswith("linux-image-"))
        manifest = {"format": FORMAT, "digest": digest, "key": _image_key(family), "kernel": kernel["version"],
                    "sources": sources, "packages": packages}  # fmt: skip
        (temporary / "manifest.json").write_text(json.dumps(manifest, indent=1))
        if target.exists():
            shutil.rmtree(target)
        temporary.rename(target)
    progress(f"guest image {digest[:12]} is ready")
    return _open(target, manifest)


def guest_sources() -> dict[str, str]:
    """Return the guest's own files: path below the package to SHA-256."""
    files = [SOURCES / "wire" / name for name in ("__init__.py", "frame.py", "streams.py")]
    files += (p for p in (SOURCES / "guest").rglob("*") if p.is_file() and p.suffix != ".pyc")
    return {str(p.relative_to(SOURCES)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(files)}


def add_guest_code(root: Path, family: Family = Family.BASE) -> None:
    """Put our code at /opt/alcove, compiled."""
    home = root / "opt/alcove"
    for name in guest_sources():
        path = home / "alcove" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(SOURCES / name, path)
        path.chmod(0o755 if path.name == "bootstrap" else 0o644)
    (home / "alcove/__init__.py").write_text("")
    for name, text in (("agent", AGENT.format(program=family.program)), ("runtime", RUNTIME), ("start", START)):
        (home / name).write_text(text)
        (home / name).chmod(0o755)
    guest_root.compile_python(root, "/opt/alcove")


def write_squashfs(folder: Path, target: Path) -> None:
    """Write ``folder`` as an uncompressed squashfs file with fixed times and root's ownership."""
    options = ["-noI", "-noD", "-noF", "-noX", "-no-xattrs", "-all-root", "-no-progress", "-no-exports",
               "-mkfs-time", str(EPOCH), "-all-time", str(EPOCH)]  # fmt: skip
    guest_packages.run(["mksquashfs", str(folder), str(target), *options], what="mksquashfs",
                       hint="Is the disk full?")  # fmt: skip


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _base_key(family: Family) -> str:
    recipe = [(HERE / name).read_text() for name in ("guest_packages.py", "guest_root.py")]
    # The recipe of the others is none of the first's, which everybody builds.
    return _digest(recipe if family is Family.BASE else [*recipe, family, (HERE / "families.py").read_text()])


def _image_key(family: Family) -> str:
    builder = [(HERE / name).read_text() for name in ("guest.py", "guest_initrd.py", "init.sh")]
    return _digest([FORMAT, _base_key(family), builder, guest_sources()])


@contextmanager
def _building(home: Path) -> Iterator[Path]:
    """A temporary folder that is gone afterwards, unless it was renamed into place."""
    temporary = Path(tempfile.mkdtemp(prefix=".build-", dir=home))
    temporary.chmod(0o755)
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _lock(home: Path, progress: Callable[[str], None]) -> Iterator[None]:
    descriptor = os.open(home / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("waiting for another process that builds the guest image")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _full_disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        hint = "Building the guest image needs root and a writable state folder."
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            hint = "The disk is full: free about 1 GiB and try again."
        raise HostError(f"building the guest image failed: {error}", hint=hint) from error
