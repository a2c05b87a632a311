"""A partition table (GPT) around files that are there already.

The table is two small pieces: one before the files, one after them, so that files become partitions of a disk without
being copied. Source: UEFI specification 2.10, chapter 5.
"""

from __future__ import annotations

import struct
import uuid
import zlib
from collections.abc import Sequence
from typing import NamedTuple

SECTOR = 512
# Partitions begin at multiples of 4 KiB, which is how squashfs pads its files.
ALIGNMENT = 8
_ENTRIES, _ENTRY_SIZE = 128, 128
_TABLE_SECTORS = _ENTRIES * _ENTRY_SIZE // SECTOR
HEAD_SECTORS = 40
# Table and header at the very end.
_TAIL_SECTORS = _TABLE_SECTORS + 1
MOST = _ENTRIES
_LINUX = uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")
_READ_ONLY = 1 << 60
_HEADER = struct.Struct("<8sIIIIQQQQ16sQIII")


class Table(NamedTuple):
    """``head`` comes before the partitions; ``tail`` is the end of the disk, which has ``size`` bytes."""

    head: bytes
    tail: bytes
    size: int


def gpt(sizes: Sequence[int], size: int) -> Table:
    """Return the table of a disk of ``size`` bytes whose partitions have ``sizes`` (bytes) and follow one another.

    The same sizes give the same table. Raises ``ValueError`` where they do not fit, are not multiples of 4 KiB, or are
    more than 128.
    """
    sectors = size // SECTOR
    first_usable, last_usable = 2 + _TABLE_SECTORS, sectors - _TAIL_SECTORS - 1
    if len(sizes) > MOST:
        raise ValueError(f"a disk has at most {MOST} partitions, not {len(sizes)}")
    disk = uuid.uuid5(uuid.NAMESPACE_OID, repr((tuple(sizes), size)))
    entries, at = b"", HEAD_SECTORS
    for number, length in enumerate(sizes):
        if length <= 0 or length % (SECTOR * ALIGNMENT):
            raise ValueError(f"a partition of {length} bytes is not a multiple of {SECTOR * ALIGNMENT}")
        end = at + length // SECTOR
        own = uuid.uuid5(disk, str(number)).bytes_le
        entries += struct.pack("<16s16sQQQ72x", _LINUX.bytes_le, own, at, end - 1, _READ_ONLY)
        at = end
    if at - 1 > last_usable:
        raise ValueError(f"partitions of {sum(sizes)} bytes do not fit on a disk of {size}")
    entries = entries.ljust(_ENTRIES * _ENTRY_SIZE, b"\0")

    def header(own: int, other: int, table: int) -> bytes:
        def packed(checksum: int) -> bytes:
            return _HEADER.pack(
                b"EFI PART", 0x10000, _HEADER.size, checksum, 0, own, other, first_usable, last_usable,
                disk.bytes_le, table, _ENTRIES, _ENTRY_SIZE, zlib.crc32(entries),
            )  # fmt: skip

        return packed(zlib.crc32(packed(0))).ljust(SECTOR, b"\0")

    last = sectors - 1
    head = _protective(sectors) + header(1, last, 2) + entries
    tail = entries + header(last, 1, last - _TABLE_SECTORS)
    return Table(head.ljust(HEAD_SECTORS * SECTOR, b"\0"), tail, sectors * SECTOR)


def _protective(sectors: int) -> bytes:
    """Return the MBR that tells whoever knows no GPT that the disk is taken."""
    entry = struct.pack("<B3sB3sII", 0, b"\0\2\0", 0xEE, b"\xff\xff\xff", 1, min(sectors - 1, 0xFFFFFFFF))
    return bytes(446) + entry + bytes(48) + b"\x55\xaa"
