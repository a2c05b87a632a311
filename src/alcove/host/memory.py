"""Guest memory as sealed anonymous files.

A template's memory is mapped privately by many VMMs at once. QEMU opens the file read-write even for a private
mapping, so a template kept on a file system could be overwritten by a VMM that a guest has broken out into. A memfd
with ``F_SEAL_WRITE`` refuses every write and shared writable mapping, whoever holds it, and still serves private
mappings (memfd_create(2), fcntl(2)).
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from alcove.errors import CapacityError

SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
_CHUNK = 8 * 1024 * 1024
_PAGE = 4096


def create_memory(name: str, size: int) -> int:
    """Return the descriptor of an empty memory file of ``size`` bytes that can be sealed later."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    return fd


def seal_memory(fd: int) -> None:
    """Forbid every later change. Raises ``OSError`` (EBUSY) while someone maps it shared and writable."""
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)


def is_sealed(fd: int) -> bool:
    return fcntl.fcntl(fd, fcntl.F_GET_SEALS) & SEALS == SEALS


def extents(fd: int) -> list[tuple[int, int]]:
    """Return the (start, end) of each run of data in a sparse file (lseek(2), SEEK_DATA)."""
    size = os.fstat(fd).st_size
    found: list[tuple[int, int]] = []
    position = 0
    while position < size:
        try:
            start = os.lseek(fd, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                break
            raise
        position = os.lseek(fd, start, os.SEEK_HOLE)
        found.append((start, position))
    return found


def copy_sparse(source: int, target: int) -> None:
    """Copy data runs only, so that holes stay holes. Both have the same size already.

    Raises ``CapacityError`` when the target's file system is full.
    """
    try:
        for start, end in extents(source):
            position = start
            os.lseek(target, start, os.SEEK_SET)
            while position < end:
                sent = os.sendfile(target, source, position, min(_CHUNK, end - position))
                if sent == 0:
                    raise OSError(errno.EIO, "the source ended early")
                position += sent
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.ENOMEM, errno.EDQUOT):
            raise CapacityError(
                "no room for a template's memory", hint="free disk space or memory, then try again"
            ) from error
        raise


def punch_zero_pages(fd: int) -> int:
    """Turn pages of zeros back into holes; return the bytes freed. For files that nobody writes now."""
    zeros = bytes(_PAGE)
    freed = 0
    with os.fdopen(os.dup(fd), "r+b", buffering=0) as file:
        for start, end in extents(fd):
            hole = -1
            position = start
            while position < end:
                chunk = os.pread(file.fileno(), min(_CHUNK, end - position), position)
                if not chunk:
                    break
                view = memoryview(chunk)
                for offset in range(0, len(chunk), _PAGE):
                    empty = view[offset : offset + _PAGE] == zeros
                    if empty and hole < 0:
                        hole = position + offset
                    elif not empty and hole >= 0:
                        freed += _punch(fd, hole, position + offset)
                        hole = -1
                position += len(chunk)
            if hole >= 0:
                freed += _punch(fd, hole, position)
    return freed


def _punch(fd: int, start: int, end: int) -> int:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE; Python has no wrapper for the mode argument.
    if libc.fallocate(fd, 0x01 | 0x02, ctypes.c_int64(start), ctypes.c_int64(end - start)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return end - start


def store_memory(fd: int, path: Path) -> None:
    """Write the memory to ``path`` sparsely and durably. Raises ``CapacityError`` when the disk is full."""
    target = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(target, os.fstat(fd).st_size)
        copy_sparse(fd, target)
        os.fsync(target)
    finally:
        os.close(target)


def load_memory(path: Path, name: str) -> int:
    """Return a sealed memory file with the content stored at ``path``."""
    source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fd = create_memory(name, os.fstat(source).st_size)
        try:
            copy_sparse(source, fd)
            seal_memory(fd)
        except BaseException:
            os.close(fd)
            raise
        return fd
    finally:
        os.close(source)


def read_only_file(name: str, data: bytes, *, at: int = 0) -> int:
    """Return the descriptor, for reading alone, of a sealed file in memory that ends with ``data``, ``at`` bytes from
    its beginning; what is before takes no memory.
    """
    fd = create_memory(name, at + len(data))
    try:
        os.pwrite(fd, data, at)
        seal_memory(fd)
        return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(fd)
