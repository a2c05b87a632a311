"""Code packages become read-only squashfs images, once each.

``<folder>/<digest>.squashfs``   the image, named by the SHA-256 of the file system, padded (sparse)
to ``IMAGE_SIZE`` ``<folder>/packages/<sha>.zip``  the package as it came, for its owner to download
``<folder>/built/<sha>.<kind>``  which image a package became, so that none is built twice

The image is not compressed: reading it costs no CPU in the guest, and the host's page cache holds
one copy for all sandboxes. It depends on the package alone, so two tenants with the same package
share it. Everything is made under a temporary name, then renamed; ``recover()`` removes what a
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
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from alcove.errors import CapacityError, HostError, TooLarge
from alcove.host.files import (
    UNFINISHED,
    private_folder,
    reap_unfinished,
    require_space,
    write_json,
)
from alcove.host.locks import KeyedLock
from alcove.images.code_compile import NOBODY, PYTHON, normalise, precompile
from alcove.images.code_zip import check_package

log = logging.getLogger(__name__)

# The capacity of every code disk: what is swapped behind a live block device must not change its
# size.
IMAGE_SIZE = 512 << 20
# Change it when the same package must give another image.
BUILD_FORMAT = 2
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


class CodeStore:
    """Owner of the folder of code images."""

    def __init__(self, folder: Path) -> None:
        self.folder = private_folder(folder)
        self._packages = private_folder(folder / "packages")
        self._built = private_folder(folder / "built")
        self._executor = ThreadPoolExecutor(2, thread_name_prefix="code-build")
        self._locks = KeyedLock()
        self._pins: Counter[str] = Counter()

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
    def pinned(self, package: bytes) -> Iterator[None]:
        """While open, ``collect`` leaves this package and its images alone."""
        sha256 = hashlib.sha256(package).hexdigest()
        self._pins[sha256] += 1
        try:
            yield
        finally:
            self._pins[sha256] -= 1
            if not self._pins[sha256]:
                del self._pins[sha256]

    async def build(self, package: bytes, *, python: bool) -> BuiltCode:
        """Return the image of this zip, built now or before; ``python`` compiles its sources ahead.

        Raises ``InvalidRequest`` or ``TooLarge`` for a package that is refused, ``CapacityError``
        for a full disk.
        """
        loop = asyncio.get_running_loop()
        sha256 = await loop.run_in_executor(self._executor, lambda: hashlib.sha256(package).hexdigest())
        kind = f"{PYTHON if python else 'plain'}-{BUILD_FORMAT}"
        async with self._locks.held(sha256 + kind):
            return await loop.run_in_executor(self._executor, self._build, package, sha256, kind)

    async def collect(self, in_use: set[tuple[str, str]]) -> None:
        """Remove each package and image that neither ``in_use`` (pairs of them) nor a pin names."""
        await asyncio.get_running_loop().run_in_executor(self._executor, self._collect, in_use)

    def _build(self, package: bytes, sha256: str, kind: str) -> BuiltCode:
        record = self._built / f"{sha256}.{kind}"
        digest = self._known(record, sha256)
        if digest is None:
            with _translated(self.folder):
                digest = self._make(package, sha256, compile_ahead=kind.startswith(PYTHON))
                write_json(record, {"digest": digest})
        return BuiltCode(digest, self.image_path(digest), sha256, len(package))

    def _known(self, record: Path, sha256: str) -> str | None:
        try:
            digest = str(json.loads(record.read_bytes())["digest"])
        except (FileNotFoundError, ValueError, KeyError):
            return None
        there = self.image_path(digest).is_file() and self.package_path(sha256).is_file()
        return digest if there else None

    def _make(self, package: bytes, sha256: str, compile_ahead: bool) -> str:
        checked = check_package(package)
        # The tree, its pyc files, and the image.
        require_space(self.folder, 3 * checked.unpacked_bytes + len(package), "a code package")
        work = Path(tempfile.mkdtemp(dir=self.folder, prefix=UNFINISHED))
        try:
            tree = work / "tree"
            tree.mkdir(mode=0o755)
            owner = (NOBODY, NOBODY) if os.geteuid() == 0 else None
            if owner is not None:
                os.chown(tree, *owner)
            checked.unpack(tree, owner)
            if compile_ahead and not precompile(tree):
                log.warning("package %s is used without compiling it ahead", sha256[:12])
            normalise(tree)
            digest = self._squash(tree, work / "image")
            stored = work / "package"
            stored.write_bytes(package)
            _seal(stored)
            os.rename(stored, self.package_path(sha256))
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
        os.rename(image, self.image_path(digest))
        return digest

    def _collect(self, in_use: set[tuple[str, str]]) -> None:
        packages = {package for package, _ in in_use} | set(self._pins)
        images = {image for _, image in in_use}
        for record in self._built.iterdir():
            sha256 = record.name.partition(".")[0]
            if sha256 in packages:
                # A pinned package may become a version any moment, so its images stay too.
                images.add(self._known(record, sha256) or "")
            else:
                record.unlink(missing_ok=True)
        for path in self._packages.glob("*.zip"):
            if path.stem not in packages:
                path.unlink(missing_ok=True)
        for path in self.folder.glob("*.squashfs"):
            if path.stem not in images:
                path.unlink(missing_ok=True)


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
