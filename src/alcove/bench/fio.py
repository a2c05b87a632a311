"""fio's jobs, in a pod and on the host alike, and what it says of them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from alcove.errors import HostError

PROGRAM = Path("/usr/bin/fio")
FILE_MIB = 256


class Job(NamedTuple):
    """``random`` jobs count requests, the others bytes."""

    name: str
    random: bool
    options: tuple[str, ...]


JOBS = (
    Job("4k random reads, one at a time", True, ("--rw=randread", "--bs=4k", "--ioengine=psync")),
    Job("4k random reads, 32 at once", True, ("--rw=randread", "--bs=4k", "--ioengine=libaio", "--iodepth=32")),
    Job("4k random writes, one at a time", True, ("--rw=randwrite", "--bs=4k", "--ioengine=psync")),
    Job("4k random writes, 32 at once", True, ("--rw=randwrite", "--bs=4k", "--ioengine=libaio", "--iodepth=32")),
    Job("sequential reads", False, ("--rw=read", "--bs=1m", "--ioengine=libaio", "--iodepth=4")),
    Job("sequential writes", False, ("--rw=write", "--bs=1m", "--ioengine=libaio", "--iodepth=4")),
    # As most programs write. What it leaves in the page cache, the next filling drops.
    Job("4k random writes, by the page cache", True, ("--rw=randwrite", "--bs=4k", "--ioengine=psync", "--direct=0")),
)


@dataclass(frozen=True, slots=True)
class Rate:
    iops: float
    mb_per_s: float


def fill(folders: Iterable[str]) -> list[str]:
    """Return the command that writes each folder's file, past the page cache and to the disk."""
    words = [str(PROGRAM), f"--size={FILE_MIB}m", "--rw=write", "--bs=1m", "--direct=1", "--end_fsync=1"]
    for number, folder in enumerate(folders):
        words += [f"--name=fill{number}", f"--filename={folder}/fio", "--stonewall"]
    return words


def command(folders: Mapping[str, str], jobs: Iterable[Job], seconds: float, *more: str) -> list[str]:
    """Return the command that runs each job in each folder, one after the other; ``O_DIRECT`` where ``more`` does not
    say otherwise. Without fio's clocks for each request: emulated, they would be part of it.
    """
    words = [str(PROGRAM), "--direct=1", "--thread", "--time_based", f"--runtime={seconds:g}s", "--randseed=1"]
    words += [f"--size={FILE_MIB}m", "--gtod_reduce=1", "--output-format=json", *more]
    for job in jobs:
        for place, folder in folders.items():
            words += [f"--name={place}: {job.name}", f"--filename={folder}/fio", "--stonewall", *job.options]
    return words


def rates(text: str) -> dict[str, Rate]:
    """Return what fio printed of each job, by its name. Raises ``HostError``."""
    try:
        # Warnings of fio's come before.
        jobs: list[dict[str, Any]] = json.loads(text[text.index("{") :])["jobs"]
    except (ValueError, KeyError) as error:
        raise HostError(f"fio did not run: {text.strip()[-300:] or 'no message'}") from error
    found = {}
    for job in jobs:
        sides = (job["read"], job["write"])
        iops, size = (sum(side[key] for side in sides) for key in ("iops", "bw_bytes"))
        if job.get("error") or not iops:
            raise HostError(f"fio: {job['jobname']} failed: error {job.get('error')}")
        found[str(job["jobname"])] = Rate(iops, size / 1e6)
    return found


def run(words: list[str]) -> str:
    done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    return done.stdout if done.returncode == 0 else done.stderr


def image(folder: Path) -> Path:
    """Return the folder of an image's layer that holds fio and what it links. Raises ``HostError``."""
    if not PROGRAM.exists():
        raise HostError("fio is not installed", hint="apt-get install fio")
    shutil.rmtree(folder, ignore_errors=True)
    linked = subprocess.run(["/usr/bin/ldd", str(PROGRAM)], capture_output=True, text=True, check=True).stdout
    for path in (PROGRAM, *(Path(name) for name in re.findall(r"(/\S+) \(0x", linked))):
        target = folder / path.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    for name in ("proc", "dev", "tmp", "etc", "block", "share"):
        (folder / name).mkdir(exist_ok=True)
    return folder
