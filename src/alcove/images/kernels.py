"""Kernels that the operator registered for functions and pods that need one of their own.

``<folder>/<digest>/``: ``vmlinuz``, ``modules/*.ko``, ``manifest.json``. The digest is that of all that the guest gets:
kernel, modules, arguments. What is there never changes, and a name means one digest for as long as it exists. The
initramfs is made from it and from the guest image of the day (``initrd_of``).
"""

from __future__ import annotations

import hashlib
import json
import lzma
import re
import shutil
import stat
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from alcove.errors import Conflict, InvalidRequest, NotFound
from alcove.host.files import building, private_folder, reap_unfinished, require_space, write_json
from alcove.images.families import POD_MODULES
from alcove.images.guest import HERE, GuestImage
from alcove.images.guest_initrd import build_initrd, read_entry
from alcove.images.guest_root import MODULES

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
ARGUMENTS_LIMIT = 1024
VMLINUZ_LIMIT = 64 << 20
MODULE_LIMIT = 16 << 20
KERNEL_LIMIT = 64
# In the guest image's kernel these are built in: the file system of /tmp, with what it loads, in order.
NEEDED = (*MODULES, "crc32c_generic", "crc16", "mbcache", "jbd2", "ext4", *POD_MODULES)
# Parts of others in some versions of Linux.
_OPTIONAL = frozenset(NEEDED) - {
    "virtio",
    "virtio_pci",
    "virtio_blk",
    "virtio_console",
    "virtio_net",
    "squashfs",
    "ext4",
}
# "The Linux/x86 Boot Protocol": the magic number, and where the version's text is.
_MAGIC_AT, _VERSION_AT, _SETUP = 0x202, 0x20E, 0x200


@dataclass(frozen=True, slots=True)
class Kernel:
    """``release`` is what ``uname -r`` says, ``append`` are arguments after our own, ``order`` its modules."""

    name: str
    digest: str
    release: str
    append: str
    order: tuple[str, ...]
    folder: Path

    @property
    def vmlinuz(self) -> Path:
        return self.folder / "vmlinuz"


class KernelStore:
    """The folder of kernels. Reads it anew each time: kernels are few, and asked for by starts of templates."""

    def __init__(self, folder: Path) -> None:
        self._folder = private_folder(folder)

    def recover(self) -> None:
        """Remove what an interrupted ``add`` left. For the owner of the folder, at its start."""
        reap_unfinished(self._folder)

    def all(self) -> list[Kernel]:
        found = []
        for path in self._folder.glob("[!.]*/manifest.json"):
            try:
                document = json.loads(path.read_text())
                fields = {key: str(document[key]) for key in ("name", "digest", "release", "append")}
                found.append(Kernel(**fields, order=tuple(document["order"]), folder=path.parent))
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return sorted(found, key=lambda kernel: kernel.name)

    def named(self, name: str) -> Kernel:
        """Raises ``NotFound``."""
        return self._one(name, [kernel for kernel in self.all() if kernel.name == name])

    def find(self, digest: str) -> Kernel:
        """Raises ``NotFound``."""
        return self._one(digest[:12], [kernel for kernel in self.all() if kernel.digest == digest])

    def add(self, name: str, vmlinuz: Path, modules: Path | None = None, append: str = "") -> Kernel:
        """Register a kernel. For a thread. Raises ``InvalidRequest``, ``Conflict`` where the name means another."""
        if not NAME.fullmatch(name):
            raise InvalidRequest("a kernel's name has 1 to 63 small letters, digits, points, hyphens, underscores")
        if len(append) > ARGUMENTS_LIMIT or not append.isascii() or not append.isprintable():
            raise InvalidRequest(f"kernel arguments are at most {ARGUMENTS_LIMIT} printable characters")
        image = _read(vmlinuz, VMLINUZ_LIMIT)
        release = release_of(image)
        parts = collect_modules(modules)
        digest = _digest(image, parts, append)
        known = [kernel for kernel in self.all() if kernel.name == name or kernel.digest == digest]
        if known:
            if (known[0].name, known[0].digest) == (name, digest) and len(known) == 1:
                return known[0]
            raise Conflict(
                f"{known[0].name} is registered already ({known[0].release})", hint="see: alcove kernel list"
            )
        if len(self.all()) >= KERNEL_LIMIT:
            raise Conflict(f"at most {KERNEL_LIMIT} kernels are kept", hint="remove one that nothing uses")
        self._write(digest, name, image, parts, release, append)
        return self.find(digest)

    def remove(self, name: str) -> None:
        """Remove it; who does so knows that nothing uses it. Raises ``NotFound``."""
        shutil.rmtree(self.named(name).folder)

    def initrd_of(self, kernel: Kernel, image: GuestImage) -> Path:
        """Return the initramfs for this kernel and guest image, made where there is none. For a thread."""
        path = kernel.folder / f"initrd-{image.digest[:16]}"
        if not path.exists():
            busybox = kernel.folder / "busybox"
            busybox.write_bytes(read_entry(image.initrd.read_bytes(), "bin/busybox"))
            init = (HERE / "init.sh").read_bytes()
            unfinished = path.with_suffix(".new")
            unfinished.write_bytes(build_initrd(init, busybox, kernel.folder / "modules", kernel.order))
            unfinished.rename(path)
        return path

    def _write(
        self, digest: str, name: str, image: bytes, parts: Sequence[tuple[str, bytes]], release: str, append: str
    ) -> None:
        require_space(self._folder, 2 * (len(image) + sum(len(data) for _, data in parts)), "a kernel")
        with building(self._folder / digest) as work:
            (work / "modules").mkdir()
            for module, data in parts:
                (work / "modules" / f"{module}.ko").write_bytes(data)
            (work / "vmlinuz").write_bytes(image)
            order = [module for module, _ in parts]
            document = {"name": name, "digest": digest, "release": release, "append": append, "order": order}
            write_json(work / "manifest.json", document)

    @staticmethod
    def _one(what: str, found: list[Kernel]) -> Kernel:
        if not found:
            raise NotFound(f"there is no kernel {what!r}", hint="the operator registers kernels: alcove kernel add")
        return found[0]


def release_of(vmlinuz: bytes) -> str:
    """Return the version that a bzImage says it is. Raises ``InvalidRequest`` for what is none."""
    if vmlinuz[_MAGIC_AT : _MAGIC_AT + 4] != b"HdrS" or len(vmlinuz) < 1 << 16:
        raise InvalidRequest("the file is not a Linux kernel for x86", hint="give a bzImage, such as /boot/vmlinuz-*")
    (offset,) = struct.unpack_from("<H", vmlinuz, _VERSION_AT)
    text = vmlinuz[_SETUP + offset : _SETUP + offset + 128].split(b"\0")[0].decode("ascii", "replace")
    return text.split(" ")[0][:64] or "unknown"


def collect_modules(folder: Path | None) -> list[tuple[str, bytes]]:
    """Return what the guest needs of a kernel's modules, in the order of loading; what is built in is left out.

    None: all is built in. Raises ``InvalidRequest`` where one is neither there nor built in.
    """
    if folder is None:
        return []
    if not folder.is_dir():
        raise InvalidRequest(f"{folder} is not a folder", hint="give lib/modules/RELEASE of the kernel's package")
    files = {path.name.split(".")[0].replace("-", "_"): path for path in folder.rglob("*.ko*")}
    try:
        lines = (folder / "modules.builtin").read_text().splitlines()
    except OSError:
        lines = []
    built_in = {Path(line).stem.replace("-", "_") for line in lines}
    found = []
    for name in NEEDED:
        if name in files:
            found.append((name, _module(files[name])))
        elif name not in built_in and name not in _OPTIONAL:
            raise InvalidRequest(
                f"the kernel lacks {name}: there is no module, and modules.builtin does not name it",
                hint="give lib/modules/RELEASE of the kernel's package",
            )
    return found


def _module(path: Path) -> bytes:
    data = _read(path, MODULE_LIMIT)
    if path.suffix == ".xz":
        try:
            data = lzma.LZMADecompressor().decompress(data, MODULE_LIMIT)
        except lzma.LZMAError as error:
            raise InvalidRequest(f"{path.name} is damaged") from error
    if not data.startswith(b"\x7fELF"):
        raise InvalidRequest(f"{path.name} is not a module", hint="modules may be plain or xz")
    return data


def _read(path: Path, limit: int) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise InvalidRequest(f"{path} is not a file")
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise InvalidRequest(f"{path}: {error.strerror or error}") from error
    if len(data) > limit:
        raise InvalidRequest(f"{path} has more than {limit >> 20} MiB")
    return data


def _digest(image: bytes, parts: Sequence[tuple[str, bytes]], append: str) -> str:
    hashes = [hashlib.sha256(image).hexdigest(), append]
    hashes += [f"{name} {hashlib.sha256(data).hexdigest()}" for name, data in parts]
    return hashlib.sha256("\0".join(hashes).encode()).hexdigest()
