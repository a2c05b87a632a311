"""What is put behind the slots of a running machine, and taken away again, over its monitor.

A slot's disk is a raw node on an empty one; its file is swapped beneath it (``blockdev-reopen``), which no PCI hot-plug
and no driver of the guest's has part in. Whoever calls gives each change a number that the machine has not seen yet.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from alcove.errors import SandboxError
from alcove.host.memory import read_only_file
from alcove.vmm.qmp import Command, CommandError, Monitor
from alcove.vmm.spec import SLOT_BYTES, DiskIo, DiskLimits, DiskTuning

_FIRST_FD_SET = 1_000_000
# Those of disks of several pieces: an image's layers, and what is before and after them.
_FIRST_PIECE = 10_000_000
_MOST_PIECES = 256

Describe = Callable[[list[tuple[str, int]]], bytes]


class Extent(Protocol):
    """A piece of a disk: an open file, of which the first ``size`` bytes count."""

    @property
    def fd(self) -> int: ...

    @property
    def size(self) -> int: ...


class Drives:
    """The slots of one machine."""

    def __init__(self, monitor: Monitor, disk_io: DiskIo) -> None:
        self._monitor = monitor
        self._disk_io = disk_io

    async def insert(self, slot: str, number: int, pieces: Sequence[Extent], describe: Describe) -> None:
        """Put a disk of several files behind a slot, read-only. ``describe`` returns the VMDK descriptor for the names
        under which the machine has them.
        """
        named = []
        for index, piece in enumerate(pieces):
            fd_set = _piece(number, index)
            with _refusal():
                await self._monitor.execute("add-fd", {"fdset-id": fd_set}, fd=piece.fd)
            named.append((f"/dev/fdset/{fd_set}", piece.size))
        disk = {
            "driver": "vmdk",
            "node-name": _node(number),
            "read-only": True,
            # Read while it is opened, by which the VMM's loop would hang now and then with io_uring.
            "file": {**self._file(number), "read-only": True, "aio": str(DiskIo.THREADS)},
        }
        fd = read_only_file("alcove-disk", describe(named))
        try:
            await self._put(number, fd, ("blockdev-add", disk), _top(slot, _node(number), read_only=True))
        finally:
            os.close(fd)

    async def insert_disk(self, slot: str, number: int, fd: int, tuning: DiskTuning) -> None:
        """Put a file behind a slot for the guest to write; what it discards is freed."""
        node = _node(number)
        file = {
            **self._file(number),
            "node-name": f"{node}-file",
            "discard": "unmap",
            "cache": {"no-flush": True, "direct": tuning.direct},
            "read-only": False,
        }
        group = {"qom-type": "throttle-group", "id": f"{node}-limits", "limits": _limits(tuning.limits)}
        throttle = {
            "driver": "throttle",
            "node-name": node,
            "throttle-group": f"{node}-limits",
            "file": f"{node}-file",
            "discard": "unmap",
        }
        commands: list[Command] = [("blockdev-add", file), ("object-add", group), ("blockdev-add", throttle)]
        await self._put(number, fd, *commands, _top(slot, node, read_only=False))

    async def eject(self, slot: str, number: int, pieces: int, empty: int) -> None:
        """Empty a slot that holds the image ``number`` of so many pieces; ``empty`` is the number of what takes its
        place.
        """
        nothing = {
            "driver": "null-co",
            "node-name": _node(empty),
            "size": SLOT_BYTES,
            "read-zeroes": True,
            "read-only": True,
        }
        await self._monitor.execute_all(("blockdev-add", nothing), _top(slot, _node(empty), read_only=True))
        with contextlib.suppress(CommandError):
            await self._monitor.execute("blockdev-del", {"node-name": _node(number)})
            for fd_set in (_FIRST_FD_SET + number, *(_piece(number, index) for index in range(pieces))):
                await self._monitor.execute("remove-fd", {"fdset-id": fd_set})

    async def forget_empty(self, number: int) -> None:
        """Drop the emptiness that was replaced."""
        with contextlib.suppress(CommandError):
            await self._monitor.execute("blockdev-del", {"node-name": _node(number)})

    async def _put(self, number: int, fd: int, *commands: Command) -> None:
        with _refusal():
            await self._monitor.execute_all(("add-fd", {"fdset-id": _FIRST_FD_SET + number}), *commands, fd=fd)

    def _file(self, number: int) -> dict[str, Any]:
        return {
            "driver": "file",
            "filename": f"/dev/fdset/{_FIRST_FD_SET + number}",
            "locking": "off",
            "aio": str(self._disk_io),
        }


@contextlib.contextmanager
def _refusal() -> Iterator[None]:
    try:
        yield
    except CommandError as error:
        raise SandboxError(f"the machine does not take the disk: {error}") from error


def _piece(number: int, index: int) -> int:
    """Return the number of the descriptor set of one piece of a disk."""
    return _FIRST_PIECE + number * _MOST_PIECES + index


def _node(number: int) -> str:
    return f"slot-{number}"


def _top(slot: str, node: str, *, read_only: bool) -> Command:
    options: dict[str, Any] = {"driver": "raw", "node-name": slot, "file": node, "read-only": read_only}
    if not read_only:
        options["discard"] = "unmap"
    return ("blockdev-reopen", {"options": [options]})


def _limits(limits: DiskLimits) -> dict[str, int]:
    size, requests = limits.bytes_per_s, limits.requests_per_s
    return {
        "bps-total": size,
        "bps-total-max": 2 * size,
        "iops-total": requests,
        "iops-total-max": 2 * requests,
    }
