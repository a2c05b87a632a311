"""Segments of the meter's journal: files of one line for each call.

A line is on its way to the disk when ``append`` returns: the kernel has it, and a kill -9 does not take it back. Each
line carries a checksum, so that one which a power cut or a full disk tore is told from a whole one.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

_SUFFIX = ".calls"


class CallRecord(msgspec.Struct, frozen=True, array_like=True):
    """One call that was answered. ``month`` is 2026-11 (UTC); ``request_id`` is for whoever reads a journal: an event
    that is delivered again is another call under the same id, and is counted as one.
    """

    month: str
    tenant: str
    function: str
    failed: bool
    billed_ms: int
    memory_mib: int
    streamed_bytes: int
    request_id: str


_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(CallRecord)


class Segment:
    """A file that is written. ``number`` rises by one from file to file."""

    def __init__(self, folder: Path, number: int) -> None:
        self.number = number
        self.path = folder / f"{number:012}{_SUFFIX}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._file = os.open(self.path, flags, 0o600)
        self._torn = False

    def append(self, record: CallRecord) -> None:
        """Raises ``OSError`` where the line is not, or not all, in the file."""
        line = encode_line(record)
        if self._torn:
            line = b"\n" + line
        self._torn = True
        if os.write(self._file, line) != len(line):
            raise OSError("the disk is full")
        self._torn = False

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def encode_line(record: CallRecord) -> bytes:
    text = _encode(record)
    return b"%08x %s\n" % (zlib.crc32(text), text)


def read_segment(path: Path) -> Iterator[CallRecord]:
    """Yield what a file holds, without lines that are torn."""
    with path.open("rb") as file:
        for line in file:
            record = decode_line(line)
            if record is not None:
                yield record


def decode_line(line: bytes) -> CallRecord | None:
    """Return the record; None for what is not a whole line of ours."""
    text = line[9:-1]
    if line != b"%08x %s\n" % (zlib.crc32(text), text):
        return None
    try:
        return _decoder.decode(text)
    except (ValueError, msgspec.DecodeError):
        return None


def segments(folder: Path) -> list[tuple[int, Path]]:
    """Return the segments that are there, oldest first."""
    found = (path for path in folder.iterdir() if path.name.endswith(_SUFFIX) and path.stem.isdigit())
    return sorted((int(path.stem), path) for path in found)
