"""Zip packages from strangers: looked at in full before one byte is unpacked.

A package is refused as a whole where any entry could land outside the folder, become something
other than a plain file or folder, or cost more than the limits. The archive is read in memory, so
what was checked is what is unpacked.
"""

from __future__ import annotations

import io
import os
import re
import stat
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from alcove.errors import InvalidRequest, TooLarge

# AWS's quotas: 50 MB zipped, 250 MB unpacked ("Lambda quotas"); Baidu CFC has the same.
PACKAGE_LIMIT = 50 << 20
UNPACKED_LIMIT = 250 << 20
ENTRY_LIMIT = 50_000
PATH_LIMIT = 1024
# Deflate reaches 1032 : 1 on zeros. Real packages stay under 20; beyond this a large one is a bomb.
RATIO_LIMIT = 200
RATIO_FREE_BYTES = 64 << 20
_CHUNK = 1 << 20
_LOCAL_HEADER_BYTES = 30
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
UNREADABLE = "Could not unzip uploaded file. Please check your file, then try to upload again."


@dataclass(frozen=True, slots=True)
class Entry:
    """One checked entry; ``path`` is relative, its segments plain names."""

    path: str
    is_folder: bool
    executable: bool
    info: zipfile.ZipInfo


@dataclass(frozen=True, slots=True)
class Package:
    """A checked archive, not yet unpacked."""

    archive: zipfile.ZipFile
    entries: tuple[Entry, ...]
    unpacked_bytes: int

    def unpack(self, target: Path, owner: tuple[int, int] | None = None) -> None:
        """Write the tree under the empty folder ``target``, modes 0755 and 0644, owned by
        ``owner``.

        Raises ``InvalidRequest`` where the contents do not match what the archive says of them.
        """
        made: set[str] = {""}
        left = UNPACKED_LIMIT
        for entry in self.entries:
            folder = entry.path if entry.is_folder else entry.path.rpartition("/")[0]
            _make_folders(target, folder, made, owner)
            if not entry.is_folder:
                left -= self._write(entry, target / entry.path, left, owner)

    def _write(self, entry: Entry, path: Path, left: int, owner: tuple[int, int] | None) -> int:
        written = 0
        mode = 0o755 if entry.executable else 0o644
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with (
                self.archive.open(entry.info) as source,
                open(os.open(path, flags, mode), "wb") as file,
            ):
                while chunk := source.read(_CHUNK):
                    written += len(chunk)
                    if written > entry.info.file_size or written > left:
                        raise InvalidRequest(f"{UNREADABLE} {entry.path!r} is larger than it says.")
                    file.write(chunk)
                os.fchmod(file.fileno(), mode)
                if owner is not None:
                    os.fchown(file.fileno(), *owner)
        except (
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            NotImplementedError,
            RuntimeError,
        ) as error:
            raise InvalidRequest(f"{UNREADABLE} {entry.path!r}: {error}") from error
        if written != entry.info.file_size:
            raise InvalidRequest(f"{UNREADABLE} {entry.path!r} is shorter than it says.")
        return written


def check_package(data: bytes) -> Package:
    """Return the checked package. Raises ``InvalidRequest`` or ``TooLarge``, saying why."""
    if not data:
        raise InvalidRequest("Uploaded file must be a non-empty zip")
    if len(data) > PACKAGE_LIMIT:
        raise TooLarge(f"The package has {len(data)} bytes; at most {PACKAGE_LIMIT} are allowed.")
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        infos = archive.infolist()
    except (zipfile.BadZipFile, zipfile.LargeZipFile, ValueError, EOFError, OverflowError) as error:
        raise InvalidRequest(UNREADABLE, hint="send a zip archive, base64-encoded") from error
    except (NotImplementedError, RuntimeError, IndexError, UnicodeError) as error:
        raise InvalidRequest(f"{UNREADABLE} {error}") from error
    if len(infos) > ENTRY_LIMIT:
        raise InvalidRequest(f"The package has {len(infos)} entries; at most {ENTRY_LIMIT} are allowed.")
    entries = tuple(entry for info in infos if (entry := _check_entry(info)) is not None)
    if not any(not entry.is_folder for entry in entries):
        raise InvalidRequest("Uploaded file must be a non-empty zip")
    _check_names(entries)
    _check_overlap(infos)
    return Package(archive, entries, _check_sizes(infos, len(data)))


def _check_entry(info: zipfile.ZipInfo) -> Entry | None:
    name = info.orig_filename
    if info.flag_bits & _ENCRYPTED:
        raise InvalidRequest(f"Entry {name!r} is encrypted.", hint="zip without a password")
    if info.compress_type not in _METHODS:
        raise InvalidRequest(
            f"Entry {name!r} uses compression method {info.compress_type}.",
            hint="zip with deflate, or without compression",
        )
    kind = stat.S_IFMT(info.external_attr >> 16)
    is_folder = name.endswith("/")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        what = "a symbolic link" if kind == stat.S_IFLNK else "a device or another special file"
        raise InvalidRequest(
            f"Entry {name!r} is {what}; only files and folders are allowed.",
            hint="zip without -y, so that links are followed",
        )
    if (kind == stat.S_IFDIR) != is_folder and kind != 0:
        raise InvalidRequest(f"Entry {name!r} is a folder and a file at once.")
    if is_folder and info.file_size:
        raise InvalidRequest(f"Entry {name!r} is a folder with contents of its own.")
    path = _check_path(name)
    if not path:
        return None
    mode = stat.S_IMODE(info.external_attr >> 16)
    # Archives made on Windows record no modes; `bootstrap` is the one file that must be executable.
    executable = bool(mode & 0o111) or (mode == 0 and path == "bootstrap")
    return Entry(path, is_folder, executable, info)


def _check_path(name: str) -> str:
    """Return the name as plain segments joined by slashes; empty for the root itself."""
    problem = ""
    segments = [segment for segment in name.split("/") if segment not in ("", ".")]
    if not name or _CONTROL.search(name):
        problem = "has control characters or is empty"
    elif name.startswith("/") or re.match(r"[A-Za-z]:", name):
        problem = "is absolute"
    elif "\\" in name:
        problem = "has a backslash"
    elif ".." in segments:
        problem = "leaves the package"
    else:
        try:
            sizes = [len(segment.encode()) for segment in segments]
            if sum(sizes) + len(sizes) > PATH_LIMIT or max(sizes, default=0) > 255:
                problem = "is too long"
        except UnicodeEncodeError:
            problem = "is not text"
    if problem:
        shown = name if len(name) < 100 else name[:100] + "..."
        raise InvalidRequest(f"Entry name {shown!r} {problem}.", hint="zip with relative names")
    return "/".join(segments)


def _check_names(entries: tuple[Entry, ...]) -> None:
    """No two files in one place, and no file where a folder must be. Case tells names apart, as on
    Linux.
    """
    files: set[str] = set()
    for entry in entries:
        if not entry.is_folder:
            if entry.path in files:
                raise InvalidRequest(f"Entry {entry.path!r} appears twice.")
            files.add(entry.path)
    folders: set[str] = set()
    for entry in entries:
        parent = entry.path if entry.is_folder else entry.path.rpartition("/")[0]
        while parent and parent not in folders:
            folders.add(parent)
            if parent in files:
                raise InvalidRequest(f"Entry {parent!r} is a folder and a file at once.")
            parent = parent.rpartition("/")[0]


def _check_overlap(infos: list[zipfile.ZipInfo]) -> None:
    """Entries that share bytes are how a bomb of any size fits in a few kilobytes."""
    end = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise InvalidRequest(f"Entry {info.filename!r} overlaps another one.")
        end = info.header_offset + _LOCAL_HEADER_BYTES + len(info.filename) + info.compress_size


def _check_sizes(infos: list[zipfile.ZipInfo], package_bytes: int) -> int:
    total = sum(info.file_size for info in infos)
    if total > UNPACKED_LIMIT:
        raise InvalidRequest(f"Unzipped size must be smaller than {UNPACKED_LIMIT} bytes")
    if total > RATIO_FREE_BYTES and total > RATIO_LIMIT * package_bytes:
        raise InvalidRequest(
            f"The package unpacks to {total // package_bytes} times its size; at most {RATIO_LIMIT} times is allowed."
        )
    return total


def _make_folders(target: Path, folder: str, made: set[str], owner: tuple[int, int] | None) -> None:
    if folder in made:
        return
    _make_folders(target, folder.rpartition("/")[0], made, owner)
    path = target / folder
    path.mkdir()
    path.chmod(0o755)
    if owner is not None:
        os.chown(path, *owner)
    made.add(folder)
