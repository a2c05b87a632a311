"""The image of a pod's first container, which holds its namespaces: made here, so that no registry is asked for it.

Its one program, for x86-64, ignores SIGCHLD, by which the kernel reaps orphans for it (wait(2)), and sleeps.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import struct
import tarfile
from typing import Any

NAME = "alcove.internal/pause:1"
_BASE = 0x400000
_HEAD = 64 + 56  # the ELF header and one program header
# struct sigaction {SIG_IGN, 0, 0, 0}
_IGNORE = struct.pack("<4Q", 1, 0, 0, 0)


def program() -> bytes:
    """Return the program as an ELF file."""
    start = (
        b"\xb8\x0d\x00\x00\x00"  # mov eax, 13 (rt_sigaction)
        b"\xbf\x11\x00\x00\x00"  # mov edi, 17 (SIGCHLD)
        b"\xbe%b"  # mov esi, its struct sigaction
        b"\x31\xd2"  # xor edx, edx
        b"\x41\xba\x08\x00\x00\x00"  # mov r10d, 8 (size of the mask)
        b"\x0f\x05"  # syscall
        b"\xb8\x22\x00\x00\x00"  # mov eax, 34 (pause)
        b"\x0f\x05"  # syscall
        b"\xeb\xf7"  # jmp to the mov before it
    )
    length = len(start) - 2 + 4
    code = start % struct.pack("<I", _BASE + _HEAD + length)
    size = _HEAD + length + len(_IGNORE)
    # e_type EXEC, e_machine x86-64; one segment, readable and executable, that is the whole file.
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    head = ident + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, _BASE + _HEAD, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)
    return head + segment + code + _IGNORE


def archive() -> bytes:
    """Return the image as an OCI layout in a tar, for ``ctr images import``: the same bytes each time."""
    layer = _tar({"pause": (program(), 0o755)})
    packed = gzip.compress(layer, mtime=0)
    config = _json(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Entrypoint": ["/pause"]},
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        }
    )
    kinds = "application/vnd.oci.image"
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": f"{kinds}.manifest.v1+json",
            "config": _descriptor(f"{kinds}.config.v1+json", config),
            "layers": [_descriptor(f"{kinds}.layer.v1.tar+gzip", packed)],
        }
    )
    named = _descriptor(f"{kinds}.manifest.v1+json", manifest) | {"annotations": {"io.containerd.image.name": NAME}}
    blobs = {f"blobs/sha256/{_digest(data)[7:]}": (data, 0o644) for data in (packed, config, manifest)}
    index = _json({"schemaVersion": 2, "manifests": [named]})
    return _tar({"oci-layout": (_json({"imageLayoutVersion": "1.0.0"}), 0o644), "index.json": (index, 0o644), **blobs})


def _descriptor(kind: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": kind, "digest": _digest(data), "size": len(data)}


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _json(document: Any) -> bytes:
    return json.dumps(document).encode()


def _tar(files: dict[str, tuple[bytes, int]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as out:
        for name, (data, mode) in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), mode
            out.addfile(info, io.BytesIO(data))
    return buffer.getvalue()
