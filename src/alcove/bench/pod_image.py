"""The image of the benchmark's containers, made of two of this machine's programs and the libraries that they load."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from alcove.instances import archive as archives

NAME = "bench.test/programs:1"
SLEEP, TRUE = "/usr/bin/sleep", "/usr/bin/true"
_FOLDERS = ("dev", "etc", "proc", "sys", "tmp")


def archive() -> bytes:
    """Return the image as an OCI layout in a tar, for ``ctr images import``."""
    files = {path.lstrip("/"): (Path(path).read_bytes(), 0o755) for path in _paths()}
    return archives.archive(NAME, {"Cmd": [SLEEP, "infinity"]}, files, _FOLDERS)


def _paths() -> list[str]:
    listing = subprocess.run(["/usr/bin/ldd", SLEEP, TRUE], capture_output=True, text=True, check=True).stdout
    return [SLEEP, TRUE, *sorted(set(re.findall(r"(/\S+) \(0x", listing)))]
