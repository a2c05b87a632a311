"""Contents of objects: files named by random ids, in a folder of our own. Keys never become paths.

A file is written under a temporary name, made durable, then renamed: what has its final name is whole. A row that names
it comes after; what no row names when the server starts is removed (``recover``). A file that is being read when its
object goes is removed when the last reader is done. Everything that blocks happens in threads of the store's own.
"""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from alcove.buckets.errors import DiskFull
from alcove.buckets.model import Segment
from alcove.errors import CapacityError, HostError
from alcove.host.files import UNFINISHED, private_folder, reap_unfinished, require_space

T = TypeVar("T")
READ_BYTES = 256 << 10
THREADS = 4


class BlobWriter:
    """A file in the making. Used within ``BlobStore.writing``."""

    def __init__(self, store: BlobStore) -> None:
        self.id = secrets.token_hex(16)
        self.size = 0
        self.kept = False
        self._store = store
        self._temporary = store.folder / f"{UNFINISHED}{self.id}"
        self._fd = -1

    async def write(self, data: bytes) -> None:
        """Raises ``DiskFull``."""
        await self._store.run(self._write, data)
        self.size += len(data)

    async def finish(self) -> Segment:
        """Make the file durable, under its final name."""
        await self._store.run(self._finish)
        self.kept = True
        return Segment(self.id, self.size)

    def _write(self, data: bytes) -> None:
        if self._fd < 0:
            self._fd = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]

    def _finish(self) -> None:
        self._write(b"")
        os.fsync(self._fd)
        self._close()
        target = self._store.path(self.id)
        if not target.parent.exists():
            target.parent.mkdir(mode=0o700, exist_ok=True)
            _sync_folder(self._store.folder)
        os.rename(self._temporary, target)
        _sync_folder(target.parent)

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _discard(self) -> None:
        self._close()
        self._temporary.unlink(missing_ok=True)
        self._store.path(self.id).unlink(missing_ok=True)


class BlobStore:
    def __init__(self, folder: Path) -> None:
        self.folder = private_folder(folder)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="buckets")
        self._reading: Counter[str] = Counter()
        self._doomed: set[str] = set()
        self._promised = 0

    async def run(self, work: Callable[..., T], *arguments: object) -> T:
        """Run what blocks in a thread, to its end; what the disk says is translated."""
        future = asyncio.get_running_loop().run_in_executor(self._threads, _translated, work, *arguments)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            # The file must not be closed under the thread that writes it.
            await asyncio.wait({future})
            raise

    def path(self, blob: str) -> Path:
        return self.folder / blob[:2] / blob

    @asynccontextmanager
    async def writing(self, expected: int) -> AsyncIterator[BlobWriter]:
        """Yield a writer; what is not finished when the block ends is gone. ``expected`` bytes are kept free for it.

        Raises ``DiskFull``.
        """
        try:
            require_space(self.folder, self._promised + expected, "an object")
        except CapacityError as error:
            raise DiskFull(str(error), hint=error.hint) from error
        self._promised += expected
        writer = BlobWriter(self)
        try:
            yield writer
        finally:
            self._promised -= expected
            # Nothing is awaited once it is finished: a caller that is cancelled there would lose it.
            if not writer.kept:
                await self.run(writer._discard)

    @asynccontextmanager
    async def holding(self, segments: Sequence[Segment]) -> AsyncIterator[None]:
        """Keep these files while the block runs, whatever becomes of their object. They may be gone already: the caller
        looks at the row again, inside.
        """
        blobs = [segment.blob for segment in segments]
        self._reading.update(blobs)
        try:
            yield
        finally:
            self._reading.subtract(blobs)
            free = {blob for blob in blobs if self._reading[blob] <= 0}
            for blob in free:
                del self._reading[blob]
            await self.remove(free & self._doomed)

    async def read(self, segments: Sequence[Segment], start: int, length: int) -> AsyncIterator[bytes]:
        """Yield ``length`` bytes from ``start`` on; within ``holding``."""
        for segment in segments:
            if length <= 0:
                return
            if start >= segment.size:
                start -= segment.size
                continue
            wanted = min(length, segment.size - start)
            async for data in self._read_one(segment.blob, start, wanted):
                yield data
            length -= wanted
            start = 0

    async def _read_one(self, blob: str, start: int, length: int) -> AsyncIterator[bytes]:
        fd = await self.run(os.open, self.path(blob), os.O_RDONLY | os.O_CLOEXEC)
        try:
            while length:
                data = await self.run(os.pread, fd, min(READ_BYTES, length), start)
                if not data:
                    raise HostError(f"the stored file {blob} is too short", hint="check the disk")
                start += len(data)
                length -= len(data)
                yield data
        finally:
            os.close(fd)

    async def remove(self, blobs: Iterable[str]) -> None:
        """Remove files that no row names any more; those that are read, when that is done."""
        blobs = set(blobs)
        held = {blob for blob in blobs if self._reading[blob] > 0}
        self._doomed |= held
        free = blobs - held
        self._doomed -= free
        if free:
            await self.run(self._unlink, free)

    def _unlink(self, blobs: Iterable[str]) -> None:
        for blob in blobs:
            self.path(blob).unlink(missing_ok=True)

    async def recover(self, known: set[str]) -> int:
        """Remove, at the start, what a killed server left: unfinished files and those that no row names."""
        return await self.run(self._recover, known)

    def _recover(self, known: set[str]) -> int:
        reap_unfinished(self.folder)
        orphans = [path for path in self.folder.glob("??/*") if path.name not in known]
        for path in orphans:
            path.unlink()
        return len(orphans)

    def close(self) -> None:
        self._threads.shutdown()


def _translated(work: Callable[..., T], *arguments: object) -> T:
    try:
        return work(*arguments)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull("There is no room left for the object.", hint="free disk space in --state") from error
        raise HostError(f"the store of buckets failed: {error}", hint="check the disk of --state") from error


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
