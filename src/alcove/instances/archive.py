"""An image of one layer as an OCI layout in a tar, for ``ctr images import``: no registry is asked for it."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from typing import Any

_KINDS = "application/vnd.oci.image"
# Contents and mode, by path.
Files = Mapping[str, tuple[bytes, int]]


def archive(name: str, config: Mapping[str, Any], files: Files, folders: Sequence[str] = ()) -> bytes:
    """Return the image of this name, for x86-64: the same bytes for the same files. ``config`` is OCI's ``config``."""
    layer = _tar(files, folders)
    packed = gzip.compress(layer, 1, mtime=0)
    rootfs = {"type": "layers", "diff_ids": [_digest(layer)]}
    described = _json({"architecture": "amd64", "os": "linux", "config": config, "rootfs": rootfs})
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": f"{_KINDS}.manifest.v1+json",
            "config": _descriptor(f"{_KINDS}.config.v1+json", described),
            "layers": [_descriptor(f"{_KINDS}.layer.v1.tar+gzip", packed)],
        }
    )
    named = _descriptor(f"{_KINDS}.manifest.v1+json", manifest) | {"annotations": {"io.containerd.image.name": name}}
    blobs = {f"blobs/sha256/{_digest(data)[7:]}": (data, 0o644) for data in (packed, described, manifest)}
    index = _json({"schemaVersion": 2, "manifests": [named]})
    return _tar({"oci-layout": (_json({"imageLayoutVersion": "1.0.0"}), 0o644), "index.json": (index, 0o644), **blobs})


def _descriptor(kind: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": kind, "digest": _digest(data), "size": len(data)}


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _json(document: Any) -> bytes:
    return json.dumps(document).encode()


def _tar(files: Files, folders: Sequence[str] = ()) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as out:
        for name in folders:
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            out.addfile(folder)
        for name, (data, mode) in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), mode
            out.addfile(info, io.BytesIO(data))
    return buffer.getvalue()
