"""containerd 2.x and its ``ctr``, beside Debian's 1.6: built once into ``build/containerd2`` from ``go.mod`` here."""

from __future__ import annotations

import fcntl
import hashlib
from pathlib import Path

from tests.stock_runtimes.build import run

SOURCE = Path(__file__).parent
TARGET = Path(__file__).parents[2] / "build/containerd2"
PROGRAMS = ("containerd", "containerd-shim-runc-v2", "ctr")
_MODULE = "github.com/containerd/containerd/v2/cmd"
# Snapshotters and tracing that no test uses, each with libraries of its own.
_TAGS = "no_aufs,no_btrfs,no_devmapper,no_tracing,no_zfs"


def build() -> Path:
    """Return the folder of the programs. Workers of one test run wait for each other here."""
    TARGET.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(b"".join((SOURCE / name).read_bytes() for name in ("go.mod", "go.sum"))).hexdigest()
    folder = TARGET / digest[:12]
    with (TARGET / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            unfinished = TARGET / ".unfinished"
            unfinished.mkdir(exist_ok=True)
            flags = {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false"}
            names = [f"{_MODULE}/{name}" for name in PROGRAMS]
            options = ("-trimpath", "-tags", _TAGS, "-ldflags", "-s -w")
            run("go", "build", *options, "-o", f"{unfinished}/", *names, cwd=SOURCE, **flags)
            unfinished.rename(folder)
    return folder
