"""A folder becomes a zip package, the same bytes for the same content.

What never belongs in a package is left out. A ``.alcoveignore`` in the folder adds patterns, one a
line: ``name`` or ``*.ext`` at any depth, ``folder/`` for folders only, ``a/b`` from the top, ``#``
for comments, ``!pattern`` to take something back in. The last pattern that fits counts, and what
lies in an ignored folder is not looked at.
"""

from __future__ import annotations

import fnmatch
import io
import os
import stat
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from alcove.errors import InvalidRequest, TooLarge

IGNORE_FILE = ".alcoveignore"
IGNORED = (".git/", ".hg/", ".svn/", "__pycache__/", "*.pyc", ".DS_Store", IGNORE_FILE)
# What the service takes (50 MB zipped): told here before minutes of upload.
PACKAGE_LIMIT = 50 << 20
# The first moment that a zip file can express.
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Packed:
    """A package: ``files`` is None where it came as a zip."""

    data: bytes
    files: int | None


def pack(source: Path, progress: Callable[[int], None] = lambda _: None) -> Packed:
    """Return the package that ``source`` (a folder or a zip file) stands for.

    ``progress`` is called with the bytes read so far. Raises ``InvalidRequest``, ``TooLarge``.
    """
    packed = _pack_folder(source, progress) if source.is_dir() else _read_zip(source)
    if len(packed.data) > PACKAGE_LIMIT:
        raise TooLarge(
            f"the package has {len(packed.data) >> 20} MiB; {PACKAGE_LIMIT >> 20} MiB are allowed",
            hint=f"leave files out by patterns in {source / IGNORE_FILE}",
        )
    return packed


def folder_size(source: Path) -> int:
    """Return how many bytes ``pack`` will read."""
    if not source.is_dir():
        return 0
    return sum(path.stat().st_size for path in list_files(source))


def _read_zip(source: Path) -> Packed:
    try:
        data = source.read_bytes()
    except OSError as error:
        raise InvalidRequest(f"{source} can't be read: {error.strerror}", hint="name a folder or a zip file") from error
    if not zipfile.is_zipfile(io.BytesIO(data)):
        raise InvalidRequest(f"{source} is not a zip file", hint="name a folder or a zip file")
    return Packed(data, None)


def _pack_folder(folder: Path, progress: Callable[[int], None]) -> Packed:
    buffer = io.BytesIO()
    done = count = 0
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for path in list_files(folder):
            info = zipfile.ZipInfo(path.relative_to(folder).as_posix(), _EPOCH)
            mode = 0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644
            info.external_attr = (stat.S_IFREG | mode) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            data = path.read_bytes()
            archive.writestr(info, data)
            done, count = done + len(data), count + 1
            progress(done)
    if not count:
        raise InvalidRequest(f"{folder} holds no files", hint="is it the right folder?")
    return Packed(buffer.getvalue(), count)


def list_files(folder: Path) -> Iterator[Path]:
    """Yield the files that belong in the package, in a fixed order.

    Links are followed, to files inside the folder only.
    """
    rules = [_Rule.parse(text) for text in (*IGNORED, *_own_patterns(folder))]
    home = folder.resolve()
    for base, folders, names in os.walk(folder):
        here = Path(base)
        folders[:] = sorted(f for f in folders if not _ignored(rules, here / f, folder, True))
        for name in (*folders, *names):
            path = here / name
            if path.is_symlink() and not path.resolve().is_relative_to(home):
                raise InvalidRequest(f"{path} is a link that leads out of the folder", hint="copy what it names")
        linked = [f for f in folders if (here / f).is_symlink()]
        if linked:
            raise InvalidRequest(f"{here / linked[0]} is a link to a folder", hint="copy what it names")
        for name in sorted(names):
            path = here / name
            if not _ignored(rules, path, folder, False):
                if not path.is_file():
                    raise InvalidRequest(f"{path} is not a plain file", hint=f"ignore it by a line in {IGNORE_FILE}")
                yield path


def _own_patterns(folder: Path) -> list[str]:
    try:
        lines = (folder / IGNORE_FILE).read_text().splitlines()
    except FileNotFoundError:
        return []
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


@dataclass(frozen=True, slots=True)
class _Rule:
    pattern: str
    keep: bool
    folders_only: bool

    @staticmethod
    def parse(text: str) -> _Rule:
        keep = text.startswith("!")
        pattern = text.removeprefix("!")
        return _Rule(pattern.rstrip("/"), keep, pattern.endswith("/"))

    def fits(self, relative: str, is_folder: bool) -> bool:
        if self.folders_only and not is_folder:
            return False
        if "/" in self.pattern:
            return fnmatch.fnmatchcase(relative, self.pattern.lstrip("/"))
        return fnmatch.fnmatchcase(relative.rpartition("/")[2], self.pattern)


def _ignored(rules: list[_Rule], path: Path, top: Path, is_folder: bool) -> bool:
    relative = path.relative_to(top).as_posix()
    verdict = False
    for rule in rules:
        if rule.fits(relative, is_folder):
            verdict = not rule.keep
    return verdict
