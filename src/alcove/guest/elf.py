"""A program that is loaded without a library that it never calls.

Under emulation, loading a program's libraries takes longer than many a program's work. Debian's crun is linked with
libsystemd, which brings five more, for a way to make control groups that we do not use. A copy of it in memory is
changed so that the loader neither looks for the library nor misses it: its name is no longer among those needed, nor
are its versions, and what would have come from it is weak, which is null where it is missing. Sources: elf(5), the
Linux Standard Base on symbol versioning.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

_SEGMENT, _DYNAMIC, _NEED, _AUXILIARY = "<IIQQQQQQ", "<QQ", "<HHIII", "<IHHII"
_LOAD, _DYNAMIC_SEGMENT = 1, 2
_NEEDED, _STRTAB, _SYMTAB, _VERSYM, _VERNEED = 1, 5, 6, 0x6FFFFFF0, 0x6FFFFFFE
# In the range of tags that are an operating system's own: the loader passes over those that it does not know.
_IGNORED = 0x6000FFF0
_GLOBAL_VERSION, _WEAK = 1, 2


class _Entry(NamedTuple):
    """Of the dynamic section: where it is in the file, its tag and its value."""

    at: int
    tag: int
    value: int


class _Image:
    def __init__(self, program: bytes) -> None:
        if program[:6] != b"\x7fELF\x02\x01":
            raise ValueError("no program for 64 bits, little end first")
        self.data = bytearray(program)
        (first,) = struct.unpack_from("<Q", program, 32)
        (count,) = struct.unpack_from("<H", program, 56)
        self._segments = [struct.unpack_from(_SEGMENT, program, first + 56 * number) for number in range(count)]
        self.entries = list(self._read_dynamic())
        self._strings = self.place(self.value(_STRTAB))

    def _read_dynamic(self) -> list[_Entry]:
        (at, size) = next((one[2], one[5]) for one in self._segments if one[0] == _DYNAMIC_SEGMENT)
        places = range(at, at + size, 16)
        return [_Entry(place, *struct.unpack_from(_DYNAMIC, self.data, place)) for place in places]

    def value(self, tag: int) -> int:
        return next(entry.value for entry in self.entries if entry.tag == tag)

    def place(self, address: int) -> int:
        """Return where in the file an address is."""
        for kind, _, offset, start, _, size, _, _ in self._segments:
            if kind == _LOAD and start <= address < start + size:
                return int(address - start + offset)
        raise ValueError(f"nothing is loaded at {address:#x}")

    def string(self, offset: int) -> str:
        begin = self._strings + offset
        return self.data[begin : self.data.index(0, begin)].decode()


def without(program: bytes, library: str) -> bytes:
    """Return the program without its need of a library. Raises ``ValueError`` where it is not like that."""
    try:
        image = _Image(program)
        needs = [one for one in image.entries if one.tag == _NEEDED and image.string(one.value) == library]
        if not needs:
            raise ValueError(f"{library} is not needed")
        for need in needs:
            struct.pack_into("<Q", image.data, need.at, _IGNORED)
        _weaken(image, _forget_versions(image, library))
    except (struct.error, StopIteration, IndexError, OverflowError, UnicodeDecodeError) as error:
        raise ValueError(f"the program is damaged: {error}") from error
    return bytes(image.data)


def _forget_versions(image: _Image, library: str) -> set[int]:
    """Take the library out of the chain of those whose versions are looked for; return its versions' numbers."""
    start = next(one for one in image.entries if one.tag == _VERNEED)
    at, before = image.place(start.value), None
    while True:
        _, count, name, auxiliary, step = struct.unpack_from(_NEED, image.data, at)
        if image.string(name) == library:
            break
        if not step:
            raise ValueError(f"no versions of {library} are needed")
        before, at = at, at + step
    if before is not None:
        (way,) = struct.unpack_from("<I", image.data, before + 12)
        struct.pack_into("<I", image.data, before + 12, way + step if step else 0)
    elif step:
        struct.pack_into("<Q", image.data, start.at + 8, start.value + step)
    else:
        raise ValueError(f"{library} is all that it needs")
    numbers, place = set(), at + auxiliary
    for _ in range(count):
        _, _, number, _, step = struct.unpack_from(_AUXILIARY, image.data, place)
        numbers.add(number)
        place += step
    return numbers


def _weaken(image: _Image, versions: set[int]) -> None:
    symbols, numbers = image.place(image.value(_SYMTAB)), image.place(image.value(_VERSYM))
    # As all linkers lay it out, the table of strings comes after that of symbols.
    for index in range((image.place(image.value(_STRTAB)) - symbols) // 24):
        (version,) = struct.unpack_from("<H", image.data, numbers + 2 * index)
        if version in versions:
            info = symbols + 24 * index + 4
            image.data[info] = _WEAK << 4 | image.data[info] & 15
            struct.pack_into("<H", image.data, numbers + 2 * index, _GLOBAL_VERSION)
