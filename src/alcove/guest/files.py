"""Files that the host puts into a pod (ConfigMaps, /etc/hosts, ...) below ``FILES``, and reads back.

Containers are shown them, and may write where they are shown so: no path is ever followed through a link.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tarfile
from typing import Any

from alcove.guest.places import FILES
from alcove.guest.refused import Refused, name_in

MOST_BYTES = 8 * 1024 * 1024
MOST_ENTRIES = 10_000
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 64 * 1024


def put_files(request: dict[str, Any], tar: int, base: str = FILES) -> None:
    """Unpack a tar (a descriptor) at ``base/<path>``, which is made or added to; nothing in it is replaced.

    Raises ``Refused`` where it is damaged, too large, or names something outside.
    """
    name = name_in(request, "path")
    with contextlib.suppress(FileExistsError):
        os.mkdir(f"{base}/{name}", int(request.get("mode", 0o755)))
    folder = os.open(f"{base}/{name}", _FOLDER)
    try:
        with os.fdopen(os.dup(tar), "rb") as file:
            file.seek(0)
            _unpack(file, folder)
    except tarfile.TarError as error:
        raise Refused("invalid", f"the archive is damaged: {error}") from error
    except FileExistsError as error:
        raise Refused("exists", f"{error.filename} is there already") from error
    finally:
        os.close(folder)


def _unpack(file: Any, folder: int) -> None:
    entries = size = 0
    with tarfile.open(fileobj=file, mode="r:") as archive:
        for member in archive:
            entries, size = entries + 1, size + member.size
            if entries > MOST_ENTRIES or size > MOST_BYTES:
                raise Refused("capacity", f"over {MOST_BYTES} bytes or {MOST_ENTRIES} files")
            parent, last = _parent(folder, member.name)
            try:
                _make(archive, member, parent, last)
            finally:
                os.close(parent)


def _make(archive: tarfile.TarFile, member: tarfile.TarInfo, parent: int, name: str) -> None:
    if member.issym():
        os.symlink(member.linkname, name, dir_fd=parent)
        os.chown(name, member.uid, member.gid, dir_fd=parent, follow_symlinks=False)
        return
    if member.isdir():
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, dir_fd=parent)
        fd = os.open(name, _FOLDER, dir_fd=parent)
    elif member.isreg():
        fd = os.open(name, _NEW, 0o600, dir_fd=parent)
    else:
        raise Refused("invalid", f"{member.name} is neither file, folder nor link")
    try:
        source = archive.extractfile(member) if member.isreg() else None
        while source is not None and (data := source.read(_CHUNK)):
            os.write(fd, data)
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
