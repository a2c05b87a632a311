"""A reproducible initramfs: the ``newc`` cpio format, written here because GNU cpio keeps inode numbers."""

from __future__ import annotations

import stat
from collections.abc import Iterable
from pathlib import Path

FOLDERS = ("bin", "dev", "lib", "new", "proc", "sys")


def pack(entries: Iterable[tuple[str, int, bytes]]) -> bytes:
    """Return a cpio archive of ``(name, mode, data)``, sorted by name; times and owners are zero."""
    parts: list[bytes] = []
    ordered = sorted(entries)
    for number, (name, mode, data) in enumerate([*ordered, ("TRAILER!!!", 0, b"")], start=1):
        encoded = name.encode() + b"\0"
        links = 2 if stat.S_ISDIR(mode) else 1
        fields = (number if mode else 0, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
        header = b"070701" + b"".join(b"%08X" % field for field in fields)
        head = header + encoded
        parts += [head, bytes(-len(head) % 4), data, bytes(-len(data) % 4)]
    return b"".join(parts)


def build_initrd(init: bytes, busybox: Path, modules: Path, order: Iterable[str]) -> bytes:
    """Return the initramfs: ``/init``, busybox and the modules with the order to load them in."""
    names = list(order)
    entries = [(name, stat.S_IFDIR | 0o755, b"") for name in FOLDERS]
    entries.append(("init", stat.S_IFREG | 0o755, init))
    entries.append(("bin/busybox", stat.S_IFREG | 0o755, busybox.read_bytes()))
    entries.append(("lib/order", stat.S_IFREG | 0o644, "\n".join(names).encode() + b"\n"))
    for name in names:
        entries.append((f"lib/{name}.ko", stat.S_IFREG | 0o644, (modules / f"{name}.ko").read_bytes()))
    return pack(entries)


def read_entry(archive: bytes, wanted: str) -> bytes:
    """Return the data of one entry of an archive that ``pack`` made. Raises ``KeyError`` where it is not there."""
    at = 0
    while archive[at : at + 6] == b"070701":
        size, length = int(archive[at + 54 : at + 62], 16), int(archive[at + 94 : at + 102], 16)
        name = archive[at + 110 : at + 110 + length - 1].decode()
        begin = at + 110 + length
        begin += -begin % 4
        if name == wanted:
            return archive[begin : begin + size]
        at = begin + size
        at += -at % 4
    raise KeyError(wanted)
