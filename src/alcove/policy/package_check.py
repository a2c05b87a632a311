"""Checks of a package that need no scanner: what cannot be read as source, and what asks for privileges.

These look at names and first bytes alone; nothing is parsed.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from alcove.images.code_zip import Package
from alcove.policy.findings import Finding, finding

NAME = "package"
# ELF, PE, Mach-O (both byte orders, 32 and 64 bits, fat), WebAssembly.
_NATIVE = (b"\x7fELF", b"MZ", b"\xfe\xed\xfa", b"\xce\xfa\xed\xfe", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe", b"\0asm")
_SOURCES = ("*.py", "*.js", "*.mjs", "*.cjs", "*.ts", "*.php", "*.rb", "*.sh", "*.pl", "*.lua", "*.jar", "*.class")
LARGE_BYTES = 200 << 20


def check_package(package: Package, tree: Path, covered: Sequence[str]) -> list[Finding]:
    """Look at the archive's entries and the tree that they became. ``covered`` are patterns of the names that a
    scanner reads: other sources are findings.
    """
    found = [*_privileges(package), *_unreadable(tree)]
    found += [
        finding(NAME, "unchecked", "medium", example, f"no scanner reads {kind}: {count} files")
        for (kind, example), count in _unchecked(tree, covered)
    ]
    if package.unpacked_bytes > LARGE_BYTES:
        found.append(finding(NAME, "large", "low", "", f"{package.unpacked_bytes >> 20} MiB unpacked"))
    return found


def _privileges(package: Package) -> Iterator[Finding]:
    for entry in package.entries:
        if entry.info.external_attr >> 16 & (stat.S_ISUID | stat.S_ISGID):
            yield finding(NAME, "setuid", "high", entry.path, "the file asks to run as its owner")


def _files(tree: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(tree):
        for name in names:
            yield Path(folder, name)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4)


def _unreadable(tree: Path) -> Iterator[Finding]:
    for path in _files(tree):
        name = str(path.relative_to(tree))
        if _head(path).startswith(_NATIVE):
            yield finding(NAME, "native-code", "medium", name, "machine code: no scanner reads it")
        elif path.suffix == ".pyc":
            yield finding(NAME, "compiled-python", "medium", name, "compiled Python: no scanner reads it")


def _unchecked(tree: Path, covered: Sequence[str]) -> list[tuple[tuple[str, str], int]]:
    """Return ((kind, first file), number) of the sources that nothing covers."""
    counts: Counter[str] = Counter()
    first: dict[str, str] = {}
    for path in _files(tree):
        if any(fnmatchcase(path.name.lower(), pattern) for pattern in covered):
            continue
        kind = next((one for one in _SOURCES if fnmatchcase(path.name.lower(), one)), "")
        kind = kind or ("scripts (#!)" if _head(path).startswith(b"#!") else "")
        if kind:
            counts[kind] += 1
            first.setdefault(kind, str(path.relative_to(tree)))
    return [((kind, first[kind]), count) for kind, count in counts.items()]
