"""Files that the host puts into a pod (ConfigMaps, /etc/hosts, ...) below ``FILES``, and reads back.

Containers are shown them, and may write where they are shown so: no path is ever followed through a link.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import Any

from alcove.guest import tar
from alcove.guest.places import FILES
from alcove.guest.refused import Refused, name_in

MOST_BYTES = 8 * 1024 * 1024
MOST_ENTRIES = 10_000
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# With each entry's header, its padding and a long name's record.
_LARGEST = MOST_BYTES + MOST_ENTRIES * 6 * 512


def put_files(request: dict[str, Any], archive: int, base: str = FILES) -> None:
    """Unpack a tar (a descriptor) at ``base/<path>``, which is made or added to; nothing in it is replaced.

    Raises ``Refused`` where it is damaged, too large, or names something outside.
    """
    name = name_in(request, "path")
    with contextlib.suppress(FileExistsError):
        os.mkdir(f"{base}/{name}", int(request.get("mode", 0o755)))
    folder = os.open(f"{base}/{name}", _FOLDER)
    try:
        _unpack(archive, folder)
    except FileExistsError as error:
        raise Refused("exists", f"{error.filename} is there already") from error
    except (ValueError, OverflowError) as error:
        raise Refused("invalid", f"the archive is damaged: {error}") from error
    finally:
        os.close(folder)


def _unpack(archive: int, folder: int) -> None:
    entries = size = 0
    if os.fstat(archive).st_size > _LARGEST:
        raise Refused("capacity", f"over {MOST_BYTES} bytes")
    for member in tar.members(os.pread(archive, _LARGEST, 0)):
        entries, size = entries + 1, size + len(member.data)
        if entries > MOST_ENTRIES or size > MOST_BYTES:
            raise Refused("capacity", f"over {MOST_BYTES} bytes or {MOST_ENTRIES} files")
        parent, last = _parent(folder, member.name)
        try:
            _make(member, parent, last)
        finally:
            os.close(parent)


def _make(member: tar.Member, parent: int, name: str) -> None:
    if member.kind == tar.LINK:
        os.symlink(member.target, name, dir_fd=parent)
        os.chown(name, member.uid, member.gid, dir_fd=parent, follow_symlinks=False)
        return
    if member.kind == tar.FOLDER:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, dir_fd=parent)
        fd = os.open(name, _FOLDER, dir_fd=parent)
    else:
        fd = os.open(name, _NEW, 0o600, dir_fd=parent)
    try:
        written = 0
        while written < len(member.data):
            written += os.write(fd, member.data[written:])
        os.fchown(fd, member.uid, member.gid)
        os.fchmod(fd, member.mode & 0o7777)
    finally:
        os.close(fd)


def _parent(folder: int, path: str) -> tuple[int, str]:
    """Open the folder that ``path`` is in, never through a link; return it, the caller's now, and the last part."""
    *parts, last = [part for part in path.split("/") if part not in ("", ".")] or [""]
    if last in ("", "..") or ".." in parts:
        raise Refused("invalid", f"{path!r} leads out")
    at = os.dup(folder)
    try:
        for part in parts:
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, 0o755, dir_fd=at)
            deeper = os.open(part, _FOLDER, dir_fd=at)
            os.close(at)
            at = deeper
    except BaseException:
        os.close(at)
        raise
    return at, last


def read_file(request: dict[str, Any], base: str = FILES) -> dict[str, Any]:
    """Return the beginning of a file below ``base`` as text, ``bytes`` of it at most."""
    path, most = str(request["path"]), min(int(request["bytes"]), MOST_BYTES)
    if not path.startswith(base + "/"):
        raise Refused("invalid", f"{path!r} is not below {base}")
    top = os.open(base, _FOLDER)
    try:
        parent, last = _parent(top, path.removeprefix(base + "/"))
        try:
            fd = os.open(last, _READ, dir_fd=parent)
        finally:
            os.close(parent)
    except OSError as error:
        raise Refused("not_found", f"{path}: {os.strerror(error.errno or 0)}") from error
    finally:
        os.close(top)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise Refused("invalid", f"{path} is no file")
        return {"text": os.read(fd, most).decode(errors="replace")}
    finally:
        os.close(fd)
