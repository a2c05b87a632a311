"""Layers of container images as read-only squashfs files, one copy for all pods.

``<folder>/<sha256>.squashfs``          the file, named by its content
``<folder>/seen/<fingerprint>.json``    which file a folder became, so that none is built twice

A build has a temporary name and appears by rename; ``recover()`` removes what a crash left. Files are kept while a pod
uses them (the caller says which), while they are held (``images``), and while the folder that they were made of is
there: containerd removes that with the image.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import os
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from alcove.errors import CapacityError, Conflict, HostError, NotFound, RequestError
from alcove.host.files import UNFINISHED, private_folder, reap_unfinished, require_space, write_json
from alcove.host.locks import KeyedLock
from alcove.images.layer_build import build_layer
from alcove.images.layer_folder import LayerLimits, fingerprint, open_folder, survey

_SUFFIX = ".squashfs"
# An inode and a name, uncompressed.
_ENTRY_BYTES = 128


@dataclass(frozen=True, slots=True)
class Layer:
    """One file; ``digest`` is its SHA-256, in hex."""

    digest: str
    path: Path
    size: int


class LayerStore:
    """Owner of the folder of layers."""

    def __init__(self, folder: Path, limits: LayerLimits | None = None) -> None:
        self.folder = private_folder(folder)
        self._seen = private_folder(folder / "seen")
        self._limits = limits or LayerLimits()
        self._executor = ThreadPoolExecutor(2, thread_name_prefix="layer-build")
        self._locks = KeyedLock()
        # What is removed, and what a build puts in place or finds there, exclude each other.
        self._places = threading.Lock()
        self._held: Counter[str] = Counter()

    def recover(self) -> None:
        """Remove what an interrupted build left. For the owner of the folder, at its start."""
        for folder in (self.folder, self._seen):
            reap_unfinished(folder)

    def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)

    def path(self, digest: str) -> Path:
        return self.folder / f"{digest}{_SUFFIX}"

    def layers(self) -> list[Layer]:
        """Return every file that is there."""
        found = (self._layer(path.name.removesuffix(_SUFFIX)) for path in self.folder.glob(f"*{_SUFFIX}"))
        return sorted((layer for layer in found if layer is not None), key=lambda layer: layer.digest)

    @asynccontextmanager
    async def images(self, folders: Sequence[Path]) -> AsyncIterator[list[Layer]]:
        """Yield the layers of these folders in their order, built now or before; none is removed in the block.

        Raises ``NotFound``, ``InvalidRequest`` or ``TooLarge`` for a folder that cannot be a layer, ``Conflict`` for
        one that changed meanwhile, ``CapacityError`` for a full disk.
        """
        async with AsyncExitStack() as stack:
            yield [await stack.enter_async_context(self._image(folder)) for folder in folders]

    @asynccontextmanager
    async def _image(self, folder: Path) -> AsyncIterator[Layer]:
        async with self._locks.held(os.fspath(folder)):
            # Carried to its end: a caller that goes away must not leave a layer held.
            work = asyncio.get_running_loop().run_in_executor(self._executor, self._find_or_build, folder)
            try:
                layer = await asyncio.shield(work)
            except asyncio.CancelledError:
                work.add_done_callback(self._release_result)
                raise
        try:
            yield layer
        finally:
            self._release(layer.digest)

    def _release_result(self, work: asyncio.Future[Layer]) -> None:
        if not work.cancelled() and work.exception() is None:
            self._release(work.result().digest)

    def _release(self, digest: str) -> None:
        with self._places:
            self._held.subtract([digest])
            self._held = +self._held

    async def remove_unused(self, keep: Collection[str] = (), *, cached: bool = True) -> list[Layer]:
        """Remove the layers that nobody has any more, and return them. Not these digests, not what is held, and where
        ``cached`` not those whose folder is as it was. Machines that run from one keep its file open.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, self._remove_unused, frozenset(keep), cached)

    # In threads

    def _find_or_build(self, folder: Path) -> Layer:
        fd = open_folder(folder)
        try:
            name = fingerprint(folder, fd)
            with self._places:
                layer = self._known(name)
                if layer is not None:
                    self._held[layer.digest] += 1
                    return layer
            with _translated(self.folder):
                return self._build(folder, fd, name)
        finally:
            os.close(fd)

    def _known(self, name: str) -> Layer | None:
        """Return the layer that an index entry names, if it is there."""
        try:
            return self._layer(str(json.loads((self._seen / f"{name}.json").read_bytes())["digest"]))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def _layer(self, digest: str) -> Layer | None:
        path = self.path(digest)
        try:
            return Layer(digest, path, path.stat().st_size)
        except FileNotFoundError:
            return None

    def _build(self, folder: Path, fd: int, name: str) -> Layer:
        contents = survey(folder, self._limits)
        require_space(self.folder, contents.stored + contents.entries * _ENTRY_BYTES, "an image layer")
        work = Path(tempfile.mkdtemp(dir=self.folder, prefix=UNFINISHED))
        try:
            image = work / "image"
            build_layer(fd, image.resolve(), self._limits)
            _expect_unchanged(folder, name)
            digest, size = _seal(image), image.stat().st_size
            with self._places:
                os.rename(image, self.path(digest))
                write_json(self._seen / f"{name}.json", {"digest": digest, "folder": os.fspath(folder)})
                self._held[digest] += 1
            return Layer(digest, self.path(digest), size)
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _remove_unused(self, keep: frozenset[str], cached: bool) -> list[Layer]:
        with self._places:
            kept = keep | self._held.keys()
            if cached:
                kept |= {layer.digest for name, layer in self._entries() if layer and self._current(name)}
            gone = [layer for layer in self.layers() if layer.digest not in kept]
            for layer in gone:
                layer.path.unlink(missing_ok=True)
            for name, known in self._entries():
                if known is None or not self._current(name):
                    (self._seen / f"{name}.json").unlink(missing_ok=True)
            return gone

    def _entries(self) -> Iterator[tuple[str, Layer | None]]:
        for path in list(self._seen.glob("*.json")):
            yield path.stem, self._known(path.stem)

    def _current(self, name: str) -> bool:
        """Whether the folder of this entry is still the one that was read."""
        try:
            folder = Path(json.loads((self._seen / f"{name}.json").read_bytes())["folder"])
            fd = open_folder(folder)
        except (OSError, ValueError, KeyError, TypeError, RequestError):
            return False
        try:
            return fingerprint(folder, fd) == name
        finally:
            os.close(fd)


def _expect_unchanged(folder: Path, name: str) -> None:
    try:
        fd = open_folder(folder)
    except NotFound as error:
        raise Conflict(f"the layer {folder} was removed while it was read", hint="pull the image again") from error
    try:
        if fingerprint(folder, fd) != name:
            raise Conflict(f"the layer {folder} was changed while it was read", hint="try again")
    finally:
        os.close(fd)


def _seal(image: Path) -> str:
    """Make it read-only for all and durable; return its digest."""
    os.chmod(image, 0o444)
    with image.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
    return digest


@contextmanager
def _translated(folder: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise Conflict(f"{error.filename} was removed while it was read", hint="pull the image again") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise CapacityError(f"no room for an image layer in {folder}", hint="free disk space") from error
        raise HostError(f"a layer cannot be stored in {folder}: {error.strerror or error}") from error
