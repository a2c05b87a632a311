"""Layers of container images become read-only block images, one copy each for all pods.

``<folder>/<sha256>.squashfs``  a layer, named by the SHA-256 of the file system
``<folder>/seen/<fingerprint>`` which image a folder of containerd's became, so that none is built twice

A layer is read from the folder in which containerd's overlayfs snapshotter has unpacked it; once committed, such a
folder never changes, and its device, inode and times say which one it is. What overlayfs keeps in it (whiteouts as
character devices 0:0, opaque folders as extended attributes) is kept as it is, for the guest's overlayfs. The image is
not compressed: reading it costs no processor time in the guest. All is made under a temporary name, then renamed.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import subprocess
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from alcove.errors import CapacityError, InvalidRequest, SandboxError
from alcove.host.files import UNFINISHED, private_folder, reap_unfinished
from alcove.host.locks import KeyedLock

_OPTIONS = ("-noI", "-noD", "-noF", "-noX", "-xattrs", "-no-exports", "-no-progress", "-quiet", "-mkfs-time", "0")
# What containers' images have at most, as far as we go.
LARGEST_LAYER = 32 << 30
_TIMEOUT_S = 1800
_WORDS = 400


@dataclass(frozen=True, slots=True)
class Layer:
    """A finished image: hex digest, file, bytes."""

    digest: str
    path: Path
    size: int


class LayerStore:
    """Owner of the folder of layers."""

    def __init__(self, folder: Path) -> None:
        self.folder = private_folder(folder)
        self._seen = private_folder(folder / "seen")
        self._locks = KeyedLock()
        self._executor = ThreadPoolExecutor(2, thread_name_prefix="layers")

    def recover(self) -> None:
        """Remove what an interrupted build left. For the owner of the folder, at its start."""
        for folder in (self.folder, self._seen):
            reap_unfinished(folder)

    def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def get(self, source: Path) -> Layer:
        """Return the image of a folder, built now or before.

        Raises ``InvalidRequest`` where there is no such folder, ``CapacityError`` for a full disk, ``SandboxError``
        where it cannot be read.
        """
        loop = asyncio.get_running_loop()
        try:
            key = await loop.run_in_executor(self._executor, _fingerprint, source)
        except OSError as error:
            raise InvalidRequest(f"there is no layer at {source}: {error.strerror}") from error
        async with self._locks.held(key):
            return await loop.run_in_executor(self._executor, self._get, source, key)

    async def get_all(self, sources: Iterable[Path]) -> list[Layer]:
        """As ``get``, in the order of the sources."""
        return list(await asyncio.gather(*(self.get(source) for source in sources)))

    def list(self) -> list[Layer]:
        found = []
        for path in sorted(self.folder.glob("[0-9a-f]*.squashfs")):
            try:
                found.append(Layer(path.stem, path, path.stat().st_size))
            except FileNotFoundError:
                continue
        return found

    async def retain(self, digests: set[str]) -> None:
        """Remove every image but these; machines that run from another keep its file open."""
        await asyncio.get_running_loop().run_in_executor(self._executor, self._retain, digests)

    def _retain(self, digests: set[str]) -> None:
        for layer in self.list():
            if layer.digest not in digests:
                layer.path.unlink(missing_ok=True)
        for record in self._seen.iterdir():
            if record.read_text() not in digests:
                record.unlink(missing_ok=True)

    def _get(self, source: Path, key: str) -> Layer:
        record = self._seen / key
        try:
            path = self._path(record.read_text())
            return Layer(path.stem, path, path.stat().st_size)
        except FileNotFoundError:
            pass
        try:
            return self._build(source, record)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise _full() from error
            raise SandboxError(f"the layer {source} cannot be made a block image: {error}") from error

    def _path(self, digest: str) -> Path:
        return self.folder / f"{digest}.squashfs"

    def _build(self, source: Path, record: Path) -> Layer:
        with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=self.folder) as work:
            made = Path(work) / "layer"
            _make(source, made)
            with made.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                os.fsync(file.fileno())
            made.chmod(0o400)
            target = self._path(digest)
            made.rename(target)
            noted = Path(work) / "record"
            noted.write_text(digest)
            noted.rename(record)
        return Layer(digest, target, target.stat().st_size)


def _fingerprint(source: Path) -> str:
    """Return a name for what the folder holds, which containerd never changes."""
    status = source.stat()
    if not source.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "it is no folder")
    what = (str(source.resolve()), status.st_dev, status.st_ino, status.st_ctime_ns)
    return hashlib.sha256(repr(what).encode()).hexdigest()


def _make(source: Path, target: Path) -> None:
    """Raises ``CapacityError``, ``SandboxError``, ``OSError``."""
    command = ["/usr/bin/mksquashfs", str(source), str(target), *_OPTIONS]
    limited = ["/usr/bin/prlimit", f"--fsize={LARGEST_LAYER}", "--", *command]
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            limited, stdin=subprocess.DEVNULL, capture_output=True, env=environment, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise SandboxError(f"the layer {source} was not a block image within {_TIMEOUT_S} s") from error
    words = (done.stdout + done.stderr).decode(errors="replace")
    if "No space left" in words:
        raise _full()
    if done.returncode:
        reason = words.strip()[-_WORDS:] or f"mksquashfs ended with status {done.returncode}"
        raise SandboxError(f"the layer {source} cannot be made a block image: {reason}")


def _full() -> CapacityError:
    return CapacityError("the disk is full", hint="Remove images that nobody uses: alcove images prune.")
