"""The layers of a container's root file system, out of the mounts that containerd would have a shim make."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from alcove.shim.spec import SpecError

# As many as Docker's own limit, and more than partitions of an image may be asked for.
MAX_LAYERS = 128


def layers(mounts: Sequence[Mapping[str, Any]], spec: Mapping[str, Any], bundle: str) -> list[str]:
    """Return the folders of the layers, the lowest first. Raises ``SpecError``."""
    if not mounts:
        # `ctr run --rootfs`: a folder that somebody unpacked.
        found = [os.path.join(bundle, spec.get("root", {}).get("path", "rootfs"))]
    elif len(mounts) == 1 and mounts[0]["type"] == "overlay":
        found = _overlay(mounts[0]["options"])
    elif len(mounts) == 1 and mounts[0]["type"] == "bind":
        found = [mounts[0]["source"]]
    else:
        kinds = ", ".join(str(mount["type"]) for mount in mounts)
        raise SpecError(f"the root file system comes as {kinds}; use containerd's snapshotter overlayfs")
    if len(found) > MAX_LAYERS:
        raise SpecError(f"the image has {len(found)} layers, more than {MAX_LAYERS}")
    return found


def _overlay(options: Sequence[str]) -> list[str]:
    values = dict(option.partition("=")[::2] for option in options)
    if not values.get("lowerdir"):
        raise SpecError("the overlay of the root file system names no lower layers")
    # An overlay names the highest first.
    found = values["lowerdir"].split(":")[::-1]
    upper = values.get("upperdir")
    if upper and not _empty(upper):
        found.append(upper)
    return found


def _empty(folder: str) -> bool:
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is None
    except FileNotFoundError:
        return True
