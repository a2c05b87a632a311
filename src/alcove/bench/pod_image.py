"""The image of the benchmark's containers, made of two of this machine's programs and the libraries that they load."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import subprocess
import tarfile
from pathlib import Path
from typing import Any

NAME = "bench.test/programs:1"
SLEEP, TRUE = "/usr/bin/sleep", "/usr/bin/true"
_FOLDERS = ("dev", "etc", "proc", "sys", "tmp")
_KINDS = "application/vnd.oci.image"


def archive() -> bytes:
    """Return the image as an OCI layout in a tar, for ``ctr images import``."""
    files = {path.lstrip("/"): (Path(path).read_bytes(), 0o755) for path in _paths()}
    layer = _tar(files, _FOLDERS)
    packed = gzip.compress(layer, 1, mtime=0)
    config = _json(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": [SLEEP, "infinity"]},
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": f"{_KINDS}.manifest.v1+json",
            "config": _descriptor(f"{_KINDS}.config.v1+json", config),
            "layers": [_descriptor(f"{_KINDS}.layer.v1.tar+gzip", packed)],
        }
    )
    named = _descriptor(f"{_KINDS}.manifest.v1+json", manifest) | {"annotations": {"io.containerd.image.name": NAME}}
    blobs = {f"blobs/sha256/{_digest(data)[7:]}": (data, 0o644) for data in (packed, config, manifest)}
    index = _json({"schemaVersion": 2, "manifests": [named]})
    return _tar({"oci-layout": (_json({"imageLayoutVersion": "1.0.0"}), 0o644), "index.json": (index, 0o644), **blobs})


def _paths() -> list[str]:
    listing = subprocess.run(["/usr/bin/ldd", SLEEP, TRUE], capture_output=True, text=True, check=True).stdout
    return [SLEEP, TRUE, *sorted(set(re.findall(r"(/\S+) \(0x", listing)))]


def _descriptor(kind: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": kind, "digest": _digest(data), "size": len(data)}


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _json(document: Any) -> bytes:
    return json.dumps(document).encode()


def _tar(files: dict[str, tuple[bytes, int]], folders: tuple[str, ...] = ()) -> bytes:
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
