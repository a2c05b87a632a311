"""Code packages become read-only squashfs images, once each.

``<folder>/<digest>.squashfs``   the image, named by the SHA-256 of the file system, padded (sparse)
to ``IMAGE_SIZE`` ``<folder>/packages/<sha>.zip``  the package or layer as it came, for its owner to download
``<folder>/built/<sha>.<kind>``  which image a package became (with which layers), so that none is built twice

The image is not compressed: reading it costs no CPU in the guest, and the host's page cache holds
one copy for all sandboxes. It depends on the package and its layers alone, so two tenants with the same
ones share it. Everything is made under a temporary name, then renamed; ``recover()`` removes what a
crash left. Building runs in threads of its own and in processes; the event loop only waits.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import logging
import os
import shutil
import subprocess
import tempfile
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from alcove.errors import CapacityError, Conflict, HostError, TooLarge
from alcove.host.files import (
    UNFINISHED,
    private_folder,
    reap_unfinished,
    require_space,
    write_json,
)
from alcove.host.locks import KeyedLock
from alcove.images.code_compile import NOBODY, PYTHON, TASK_ROOT, normalise, precompile
from alcove.images.code_layers import OPT, OPT_ROOT, TASK, check_layer, unpack_beside
from alcove.images.code_zip import UNPACKED_LIMIT, check_package

log = logging.getLogger(__name__)

# The capacity of every code disk: what is swapped behind a live block device must not change its
# size.
IMAGE_SIZE = 512 << 20
# Change it when the same package must give another image.
BUILD_FORMAT = 2
# In the folder where they are made.
IMAGE, PACKAGE = "image", "package"
_MKSQUASHFS = (
    *("-noI", "-noD", "-noF", "-noX", "-no-xattrs", "-all-root", "-all-time", "0"),
    *("-mkfs-time", "0", "-no-progress", "-quiet", "-processors", "2"),
    # Without fragments and the NFS export table, mounting and the first read take a third fewer disk requests.
    *("-no-fragments", "-no-exports"),
)


@dataclass(frozen=True, slots=True)
class BuiltCode:
    """What became of a package: hex digests of image and package; ``path`` is the image."""

    digest: str
    path: Path
    package_sha256: str
    package_bytes: int


@dataclass(frozen=True, slots=True)
class CodeUse:
    """What a version has of the store: package, image (empty for a layer by itself) and its layers' packages."""

    package_sha256: str
    image_digest: str = ""
    layers: tuple[str, ...] = ()


class CodeStore:
    """Owner of the folder of code images.

    A pin keeps a package, its images and its layers from before they are built until a version refers to them. What
    is removed, and what a build puts in place or finds there, exclude each other by a lock.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = private_folder(folder)
        self._packages = private_folder(folder / "packages")
        self._built = private_folder(folder / "built")
        self._executor = ThreadPoolExecutor(2, thread_name_prefix="code-build")
        self._locks = KeyedLock()
        self._pins: Counter[str] = Counter()
        self._watchers: list[set[str]] = []
        self._places = threading.Lock()

    def recover(self) -> None:
        """Remove what an interrupted build left. For the owner of the folder, at its start."""
        for folder in (self.folder, self._packages, self._built):
            reap_unfinished(folder)

    def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)

    def image_path(self, digest: str) -> Path:
        return self.folder / f"{digest}.squashfs"

    def package_path(self, sha256: str) -> Path:
        return self._packages / f"{sha256}.zip"

    @contextmanager
    def pinned(self, package: bytes, layers: Sequence[str] = ()) -> Iterator[None]:
        """While open, this package, its images with these layers, and the layers (SHA-256) are not removed."""
        sha256 = hashlib.sha256(package).hexdigest()
        pins = [sha256, *layers, *_records(sha256, layers)]
        self._pins.update(pins)
        for taken in self._watchers:
            taken.update(pins)
        try:
            yield
        finally:
            self._pins.subtract(pins)
            self._pins = +self._pins

    @contextmanager
    def watched(self) -> Iterator[set[str]]:
        """Yield a set that holds all that is pinned at any moment while this is open."""
        taken = set(self._pins)
        self._watchers.append(taken)
        try:
            yield taken
        finally:
            self._watchers = [one for one in self._watchers if one is not taken]

    async def store_layer(self, package: bytes) -> tuple[str, int]:
        """Keep a layer's zip; return its SHA-256 and its size unpacked. Raises as ``build`` does."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._store_layer, package)

    async def build(self, package: bytes, *, python: bool, layers: Sequence[str] = ()) -> BuiltCode:
        """Return the image of this zip and the layers (SHA-256, each of them stored), built now or before; ``python``
        compiles the sources ahead.

        Raises ``InvalidRequest`` or ``TooLarge`` for a package that is refused, ``CapacityError``
        for a full disk.
        """
        loop = asyncio.get_running_loop()
        sha256 = await loop.run_in_executor(self._executor, lambda: hashlib.sha256(package).hexdigest())
        record = _records(sha256, layers)[0 if python else 1]
        async with self._locks.held(record):
            return await loop.run_in_executor(self._executor, self._build, package, sha256, record, layers, python)

    async def collect(self, packages: set[str], images: set[str]) -> None:
        """Remove every package and image but these: at the start, when nothing is being built."""
        await asyncio.get_running_loop().run_in_executor(self._executor, self._collect, packages, images)

    async def discard(self, gone: Iterable[CodeUse], packages: set[str], images: set[str], taken: set[str]) -> None:
        """Remove of what is ``gone`` these packages and images, but nothing that is in ``taken`` (see ``watched``)."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._executor, self._discard, list(gone), packages, images, taken)

    def _build(self, package: bytes, sha256: str, record: str, layers: Sequence[str], python: bool) -> BuiltCode:
        with self._places:
            digest = self._known(record)
        if digest is None:
            with _translated(self.folder):
                digest = self._make(package, sha256, record, layers, python)
        return BuiltCode(digest, self.image_path(digest), sha256, len(package))

    def _known(self, record: str) -> str | None:
        sha256 = record.partition(".")[0]
        try:
            digest = str(json.loads((self._built / record).read_bytes())["digest"])
        except (FileNotFoundError, ValueError, KeyError):
            return None
        there = self.image_path(digest).is_file() and self.package_path(sha256).is_file()
        return digest if there else None

    def _store_layer(self, package: bytes) -> tuple[str, int]:
        sha256 = hashlib.sha256(package).hexdigest()
        unpacked = check_layer(package).unpacked_bytes
        require_space(self.folder, len(package), "a layer")
        with _translated(self.folder):
            work = Path(tempfile.mkdtemp(dir=self.folder, prefix=UNFINISHED))
            try:
                _write_package(work, package)
                with self._places:
                    os.rename(work / PACKAGE, self.package_path(sha256))
            finally:
                shutil.rmtree(work, ignore_errors=True)
        return sha256, unpacked

    def _read(self, layers: Sequence[str]) -> Iterator[bytes]:
        for sha256 in layers:
            try:
                yield self.package_path(sha256).read_bytes()
            except FileNotFoundError as error:
                raise Conflict("A layer was deleted at the same time.", hint="try again") from error

    def _make(self, package: bytes, sha256: str, record: str, layers: Sequence[str], compile_ahead: bool) -> str:
        checked = check_package(package)
        # The tree, its pyc files, and the image.
        unpacked = UNPACKED_LIMIT if layers else checked.unpacked_bytes
        require_space(self.folder, 3 * unpacked + len(package), "a code package")
        work = Path(tempfile.mkdtemp(dir=self.folder, prefix=UNFINISHED))
        try:
            tree = work / "tree"
            tree.mkdir(mode=0o755)
            owner = (NOBODY, NOBODY) if os.geteuid() == 0 else None
            if owner is not None:
                os.chown(tree, *owner)
            roots = [(tree, TASK_ROOT)]
            if layers:
                (work / "layers").mkdir()
                unpack_beside(checked, self._read(layers), tree, work / "layers", owner)
                roots = [(tree / TASK, TASK_ROOT), (tree / OPT, OPT_ROOT)]
            else:
                checked.unpack(tree, owner)
            if compile_ahead and not all(precompile(*root) for root in roots):
                log.warning("package %s is used without compiling it ahead", sha256[:12])
            normalise(tree)
            digest = self._squash(tree, work / IMAGE)
            _write_package(work, package)
            with self._places:
                os.rename(work / IMAGE, self.image_path(digest))
                os.rename(work / PACKAGE, self.package_path(sha256))
                write_json(self._built / record, {"digest": digest})
            return digest
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _squash(self, tree: Path, image: Path) -> str:
        try:
            finished = subprocess.run(
                ["mksquashfs", str(tree), str(image), *_MKSQUASHFS],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"},
                start_new_session=True,
                check=False,
            )
        except FileNotFoundError as error:
            raise HostError("mksquashfs is missing", hint="apt-get install squashfs-tools") from error
        if finished.returncode != 0:
            text = (finished.stdout + finished.stderr).decode(errors="replace")
            if "No space left" in text or "FATAL ERROR: Write failed" in text:
                raise CapacityError("no room for a code image", hint="free disk space under --state")
            raise HostError(f"mksquashfs failed: {text.strip()[-500:]}")
        if image.stat().st_size > IMAGE_SIZE:
            raise TooLarge(f"The package makes an image of more than {IMAGE_SIZE} bytes.")
        with image.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.truncate(image, IMAGE_SIZE)
        _seal(image)
        return digest

    def _collect(self, packages: set[str], images: set[str]) -> None:
        for record in self._built.iterdir():
            if self._known(record.name) not in images:
                record.unlink(missing_ok=True)
        for path in self._packages.glob("*.zip"):
            if path.stem not in packages:
                path.unlink(missing_ok=True)
        for path in self.folder.glob("*.squashfs"):
            if path.stem not in images:
                path.unlink(missing_ok=True)

    def _discard(self, gone: list[CodeUse], packages: set[str], images: set[str], taken: set[str]) -> None:
        with self._places:
            # Another package with the same contents has the same image.
            kept = {self._known(name) for name in list(taken) if "." in name}
            images, packages = images - kept, packages - taken
            for use in gone:
                for record in _records(use.package_sha256, use.layers):
                    if use.package_sha256 in packages or self._known(record) in images:
                        (self._built / record).unlink(missing_ok=True)
            for digest in images:
                self.image_path(digest).unlink(missing_ok=True)
            for sha256 in packages:
                self.package_path(sha256).unlink(missing_ok=True)


def _records(sha256: str, layers: Sequence[str]) -> tuple[str, str]:
    """Return the names of the records of this package with these layers: compiled ahead, and as it is."""
    beside = "-" + hashlib.sha256(" ".join(layers).encode()).hexdigest()[:32] if layers else ""
    return f"{sha256}.{PYTHON}-{BUILD_FORMAT}{beside}", f"{sha256}.plain-{BUILD_FORMAT}{beside}"


def _write_package(work: Path, package: bytes) -> None:
    (work / PACKAGE).write_bytes(package)
    _seal(work / PACKAGE)


def _seal(path: Path) -> None:
    """Read-only for all, and on the disk."""
    os.chmod(path, 0o444)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _translated(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise CapacityError(
                f"no room for a code package in {folder}", hint="free disk space under --state"
            ) from error
        raise HostError(f"cannot write in {folder}: {error.strerror or error}") from error
