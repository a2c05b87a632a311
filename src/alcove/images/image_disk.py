"""The disk of a container image: a partition table whose partitions are the image's layers.

Nothing is copied: QEMU reads the disk through a VMDK descriptor, whose extents are the table's head, each layer's file
as it lies in the store, and the tail. All disks have one size, so that one can take another's place behind a drive
without the guest learning of it. Source: VMware Virtual Disk Format 1.1 (flat extents).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from alcove.errors import TooLarge
from alcove.host.memory import read_only_file
from alcove.images.partitions import MOST, SECTOR, gpt

# No empty line: QEMU would read the extent behind it twice.
_DESCRIPTOR = """\
# Disk DescriptorFile
version=1
CID=fffffffe
parentCID=ffffffff
createType="twoGbMaxExtentFlat"
{extents}
"""


@dataclass(frozen=True, slots=True)
class Extent:
    """A piece of the disk: an open file, of which the first ``size`` bytes count."""

    fd: int
    size: int


@contextmanager
def image_disk(layers: Sequence[Path], size: int) -> Iterator[list[Extent]]:
    """Yield the pieces of the disk of ``size`` bytes whose partitions are these files, the lowest layer first; they
    are closed afterwards. Raises ``TooLarge``, ``OSError``.
    """
    if len(layers) > MOST:
        raise TooLarge(f"an image has at most {MOST} layers, not {len(layers)}", hint="Squash it.")
    fds: list[int] = []
    try:
        for path in layers:
            fds.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        sizes = [os.fstat(fd).st_size for fd in fds]
        try:
            table = gpt(sizes, size)
        except ValueError as error:
            raise TooLarge(f"the image does not fit on a disk: {error}") from error
        extents = [Extent(fd, size) for fd, size in zip(fds, sizes, strict=True)]
        head = read_only_file("alcove-head", table.head)
        fds.append(head)
        rest = size - len(table.head) - sum(sizes)
        tail = read_only_file("alcove-tail", table.tail, at=rest - len(table.tail))
        fds.append(tail)
        yield [Extent(head, len(table.head)), *extents, Extent(tail, rest)]
    finally:
        for fd in fds:
            os.close(fd)


def descriptor(extents: Sequence[tuple[str, int]]) -> bytes:
    """Return the descriptor of a disk of these files (name, bytes), as QEMU opens them."""
    lines = [f'RW {size // SECTOR} FLAT "{name}" 0' for name, size in extents]
    return _DESCRIPTOR.format(extents="\n".join(lines)).encode()
