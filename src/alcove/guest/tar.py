"""Tar archives as the host writes them: POSIX headers, and pax records for names that are long (pax(1)).

Python's own module reads every kind there is; for the three small files that each container gets it takes, under
emulation, as long as making half of the container.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

FILE, LINK, FOLDER = "file", "link", "folder"
_BLOCK = 512
_KINDS = {b"0": FILE, b"\0": FILE, b"2": LINK, b"5": FOLDER}
_PAX = b"x"


class Member(NamedTuple):
    """``data`` is a file's; ``target`` is a link's."""

    name: str
    kind: str
    mode: int
    uid: int
    gid: int
    target: str
    data: memoryview


def members(archive: bytes) -> Iterator[Member]:
    """Yield what is in an archive. Raises ``ValueError`` where it is damaged, or of a kind that nobody sends."""
    view, at, long = memoryview(archive), 0, dict[str, str]()
    while True:
        block = archive[at : at + _BLOCK]
        if not any(block):
            return
        if len(block) < _BLOCK or _number(block, 148, 8) != sum(block) - sum(block[148:156]) + 8 * 32:
            raise ValueError("a header is damaged")
        size, kind = _number(block, 124, 12), block[156:157]
        at += _BLOCK
        data = view[at : at + size]
        if len(data) < size:
            raise ValueError("it ends early")
        at += -(-size // _BLOCK) * _BLOCK
        if kind == _PAX:
            long = _records(bytes(data))
            continue
        if kind not in _KINDS:
            raise ValueError(f"it has an entry of type {kind!r}")
        name, target = long.get("path", _name(block)), long.get("linkpath", _text(block, 157, 100))
        numbers = (_number(block, 100, 8), _number(block, 108, 8), _number(block, 116, 8))
        yield Member(name, _KINDS[kind], *numbers, target, data)
        long = {}


def _name(block: bytes) -> str:
    prefix, name = _text(block, 345, 155), _text(block, 0, 100)
    return f"{prefix}/{name}" if prefix else name


def _text(block: bytes, start: int, width: int) -> str:
    return block[start : start + width].partition(b"\0")[0].decode(errors="surrogateescape")


def _number(block: bytes, start: int, width: int) -> int:
    digits = block[start : start + width].strip(b"\0 ")
    return int(digits, 8) if digits else 0


def _records(data: bytes) -> dict[str, str]:
    found = {}
    while data:
        length = int(data.partition(b" ")[0])
        record = data[:length]
        if not 0 < length <= len(data) or not record.endswith(b"\n"):
            raise ValueError("a record is damaged")
        key, _, value = record.partition(b" ")[2][:-1].partition(b"=")
        found[key.decode(errors="surrogateescape")] = value.decode(errors="surrogateescape")
        data = data[length:]
    return found
