"""OCI images made by hand: what a test says is in a layer is in it, hostile things too.

A layer is a list of ``Entry``; an image's layers, configuration and manifest are bytes with their digests, in the media
types of the OCI image specification 1.0.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


@dataclass(frozen=True)
class Entry:
    """One entry of a layer; ``type`` is tarfile's, ``target`` the link's."""

    name: str
    data: bytes = b""
    mode: int = 0o644
    type: bytes = tarfile.REGTYPE
    target: str = ""
    uid: int = 0
    gid: int = 0
    device: tuple[int, int] = (0, 0)


def directory(name: str, mode: int = 0o755) -> Entry:
    return Entry(name, mode=mode, type=tarfile.DIRTYPE)


def symlink(name: str, target: str) -> Entry:
    return Entry(name, mode=0o777, type=tarfile.SYMTYPE, target=target)


def link(name: str, target: str) -> Entry:
    return Entry(name, mode=0o755, type=tarfile.LNKTYPE, target=target)


def executable(name: str, data: bytes | str, mode: int = 0o755) -> Entry:
    return Entry(name, data.encode() if isinstance(data, str) else data, mode)


def tree(folder: Path, below: str = "") -> Iterator[Entry]:
    """Yield what a folder holds, root's, links as they are."""
    for base, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted([*folders, *files]):
            path = Path(base) / name
            inside = str(Path(below) / path.relative_to(folder))
            if path.is_symlink():
                yield symlink(inside, os.readlink(path))
            elif path.is_dir():
                yield directory(inside, path.stat().st_mode & 0o7777)
            else:
                yield Entry(inside, path.read_bytes(), path.stat().st_mode & 0o7777)


def layer(entries: Iterable[Entry]) -> bytes:
    """Return the uncompressed tar of a layer."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for entry in entries:
            info = tarfile.TarInfo(entry.name)
            info.type, info.mode, info.linkname = entry.type, entry.mode, entry.target
            info.uid, info.gid = entry.uid, entry.gid
            info.devmajor, info.devminor = entry.device
            info.size = len(entry.data)
            archive.addfile(info, io.BytesIO(entry.data))
    return buffer.getvalue()


@dataclass
class Image:
    """An image: ``blobs`` by digest (configuration and layers), and its manifest."""

    manifest: bytes
    blobs: dict[str, bytes] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        return digest_of(self.manifest)


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _zstd(data: bytes) -> bytes:
    return subprocess.run(["/usr/bin/zstd", "-q", "-1"], input=data, stdout=subprocess.PIPE, check=True).stdout


def image(layers: Iterable[bytes], config: Mapping[str, Any] | None = None, *, packing: str = "gzip") -> Image:
    """Return the image of these tars, packed by ``gzip`` or ``zstd``; ``config`` is the ``config`` of its configuration
    (Cmd, Env, User, ...).
    """
    layers = list(layers)
    blobs: dict[str, bytes] = {}
    described = []
    for tar in layers:
        packed = gzip.compress(tar, 1, mtime=0) if packing == "gzip" else _zstd(tar)
        blobs[digest_of(packed)] = packed
        described.append({"mediaType": f"{LAYER}+{packing}", "digest": digest_of(packed), "size": len(packed)})
    document = {
        "architecture": "amd64",
        "os": "linux",
        "config": dict(config or {}),
        "rootfs": {"type": "layers", "diff_ids": [digest_of(tar) for tar in layers]},
        "history": [{"created_by": "a test"} for _ in layers],
    }
    written = json.dumps(document).encode()
    blobs[digest_of(written)] = written
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": digest_of(written), "size": len(written)},
        "layers": described,
    }
    return Image(json.dumps(manifest).encode(), blobs)
