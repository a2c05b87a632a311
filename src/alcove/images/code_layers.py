"""Layers beside a function's code: one image, its folder ``task`` for /var/task and its folder ``opt`` for /opt.

Layers are laid over one another in their order: where two hold the same path, the later one's stays.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from alcove.errors import InvalidRequest
from alcove.images.code_zip import UNPACKED_LIMIT, Package, check_package

TASK, OPT = "task", "opt"
OPT_ROOT = "/opt"
# Below /opt there is the guest's own code too; it is mounted over this folder.
RESERVED = "alcove"


def check_layer(data: bytes) -> Package:
    """As ``check_package``, and nothing in it takes the place of what is ours."""
    package = check_package(data)
    if any(entry.path.partition("/")[0] == RESERVED for entry in package.entries):
        raise InvalidRequest(f"A layer has nothing at /opt/{RESERVED}: that is the platform's.", hint="rename it")
    return package


def unpack_beside(
    code: Package, layers: Iterator[bytes], tree: Path, work: Path, owner: tuple[int, int] | None
) -> None:
    """Fill ``tree`` with both folders; ``work`` is an empty folder on the same disk.

    Raises ``InvalidRequest`` where all is too much together. One archive is in memory at a time.
    """
    total = code.unpacked_bytes
    for name in (TASK, OPT):
        _folder(tree / name, owner)
    code.unpack(tree / TASK, owner)
    for number, data in enumerate(layers):
        layer = check_layer(data)
        total += layer.unpacked_bytes
        if total > UNPACKED_LIMIT:
            raise InvalidRequest(
                f"Function code combined with layers exceeds the maximum allowed size of {UNPACKED_LIMIT} bytes. "
                f"The actual size is {total} bytes or more."
            )
        folder = _folder(work / str(number), owner)
        layer.unpack(folder, owner)
        merge(folder, tree / OPT)
    _folder(tree / OPT / RESERVED, owner)


def merge(source: Path, target: Path) -> None:
    """Move all that is in ``source`` into ``target``: folders are joined, anything else replaces what is there."""
    for entry in list(os.scandir(source)):
        place = target / entry.name
        if place.is_dir():
            if entry.is_dir():
                merge(Path(entry.path), place)
                continue
            shutil.rmtree(place)
        elif entry.is_dir():
            place.unlink(missing_ok=True)
        os.replace(entry.path, place)


def _folder(path: Path, owner: tuple[int, int] | None) -> Path:
    path.mkdir(mode=0o755)
    if owner is not None:
        os.chown(path, *owner)
    return path
