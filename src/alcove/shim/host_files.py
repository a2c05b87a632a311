"""Files of the host on their way into a guest: a tar in memory, bounded, and without links that lead out of it.

The tar is written here, for Python's module would bring a megabyte into each pod's shim: POSIX headers, and a pax
record where a name is long.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator

from alcove.shim.spec import CopyIn, SpecError

MAX_BYTES = 8 * 1024 * 1024
MAX_ENTRIES = 10_000
MAX_DEPTH = 32
MAX_RESOLVER = 4096
_TMPFS_MAGIC_NAMES = ("tmpfs", "ramfs")
_BLOCK = 512
_FILE, _LINK, _FOLDER, _PAX = b"0", b"2", b"5", b"x"


class Host:
    """This host, as ``spec.HostFacts`` asks about it."""

    def kind(self, path: str) -> str:
        try:
            mode = os.stat(path).st_mode
        except OSError:
            return "missing"
        if stat.S_ISREG(mode):
            return "file"
        if not stat.S_ISDIR(mode):
            return "other"
        return "memory" if _is_memory(path) else "folder"

    def capacity(self, path: str) -> int:
        found = os.statvfs(path)
        return found.f_blocks * found.f_frsize


def _is_memory(path: str) -> bool:
    """Whether a tmpfs is mounted right there; one that lies somewhere on a tmpfs is a folder."""
    wanted = os.path.realpath(path)
    with open("/proc/self/mountinfo") as mounts:
        for line in mounts:
            fields = line.split()
            if fields[4] == wanted and fields[fields.index("-") + 1] in _TMPFS_MAGIC_NAMES:
                return True
    return False


def resolver(path: str | None) -> str:
    """Return what a ``resolv.conf`` says, as far as it is short; nothing where there is none."""
    try:
        with open(path or os.devnull) as file:
            return file.read(MAX_RESOLVER)
    except (OSError, ValueError):
        return ""


def pack(copies: Iterable[CopyIn]) -> bytes:
    """Return a tar of all that is copied, each under its name. Raises ``SpecError``, ``OSError``."""
    out = bytearray()
    entries = 0
    for item in copies:
        for part in _walk(item.source, item.name):
            entries += 1
            out += part
            if entries > MAX_ENTRIES or len(out) > MAX_BYTES + MAX_ENTRIES * 2 * _BLOCK:
                raise SpecError(f"{item.source} is too large to be copied into the pod")
    return bytes(out) + bytes(2 * _BLOCK)


def _walk(source: str, name: str) -> Iterator[bytes]:
    # The path itself may be a link, as it may be for a bind mount; nothing below may lead out.
    fd = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield from _entry(fd, name, 0)
    finally:
        os.close(fd)


def _entry(fd: int, name: str, depth: int) -> Iterator[bytes]:
    status = os.fstat(fd)
    if stat.S_ISREG(status.st_mode):
        yield _header(name, _FILE, status, size=status.st_size) + _content(fd, status.st_size, name)
    elif stat.S_ISDIR(status.st_mode) and depth < MAX_DEPTH:
        yield _header(name, _FOLDER, status)
        for child in sorted(os.listdir(fd)):
            yield from _child(fd, child, f"{name}/{child}", depth)
    else:
        raise SpecError(f"{name} is neither a file nor a folder that can be copied into the pod")


def _child(folder: int, child: str, name: str, depth: int) -> Iterator[bytes]:
    status = os.stat(child, dir_fd=folder, follow_symlinks=False)
    if stat.S_ISLNK(status.st_mode):
        target = os.readlink(child, dir_fd=folder)
        if _leads_out(name, target):
            raise SpecError(f"the link {child} leads out of what is copied into the pod")
        yield _header(name, _LINK, status, target=target)
        return
    fd = os.open(child, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        yield from _entry(fd, name, depth + 1)
    finally:
        os.close(fd)


def _leads_out(name: str, target: str) -> bool:
    """Whether a link called ``name`` (its first part is the top) points above the top."""
    if target.startswith("/"):
        return True
    depth = name.count("/") - 1
    for part in target.split("/"):
        depth += -1 if part == ".." else 0 if part in ("", ".") else 1
        if depth < 0:
            return True
    return False


def _content(fd: int, size: int, name: str) -> bytes:
    if size > MAX_BYTES:
        raise SpecError(f"{name} is over the limit of {MAX_BYTES} bytes for what is copied into a pod")
    data = bytearray()
    while len(data) < size:
        chunk = os.read(fd, size - len(data))
        if not chunk:
            # It has shrunk meanwhile: the header is out, so the rest is zeros.
            break
        data += chunk
    data += bytes(size - len(data))
    return bytes(data) + bytes(-size % _BLOCK)


def _header(name: str, kind: bytes, status: os.stat_result, *, size: int = 0, target: str = "") -> bytes:
    long = {key: value for key, value in (("path", name), ("linkpath", target)) if len(value.encode()) > 99}
    extra = b"".join(_pax_record(key, value) for key, value in long.items())
    header = _block(name, kind, stat.S_IMODE(status.st_mode), size, target, status.st_uid, status.st_gid)
    if not extra:
        return header
    return _block("pax", _PAX, 0o600, len(extra), "", 0, 0) + extra + bytes(-len(extra) % _BLOCK) + header


def _pax_record(key: str, value: str) -> bytes:
    body = f" {key}={value}\n".encode()
    length = len(body) + len(str(len(body)))
    # The length counts its own digits.
    length = len(body) + len(str(length))
    return str(length).encode() + body


def _block(name: str, kind: bytes, mode: int, size: int, target: str, uid: int, gid: int) -> bytes:
    block = bytearray(_BLOCK)
    block[0:100] = name.encode()[:99].ljust(100, b"\0")
    for start, width, number in ((100, 8, mode), (108, 8, uid), (116, 8, gid), (124, 12, size), (136, 12, 0)):
        block[start : start + width] = f"{number & (8 ** (width - 1) - 1):0{width - 1}o}\0".encode()
    block[148:156] = b" " * 8
    block[156:157] = kind
    block[157:257] = target.encode()[:99].ljust(100, b"\0")
    block[257:265] = b"ustar\x0000"
    block[148:156] = f"{sum(block):06o}\0 ".encode()
    return bytes(block)
