"""``alcove bench disk``: an emptyDir on a block device against virtio-fs in the same machine, and against the host.

fio runs in a container; each of its jobs goes to both places in turn, then the host runs the same on the file that the
pod has by virtio-fs, whose folder is on the file system of the emptyDir's disk: past its page cache, and from it. What
a pod asks for past its own cache is in the host's, so what is measured is the way there and back. Then each way to
serve the disk, in a machine of its own.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from alcove.bench import fio
from alcove.bench.disk_pod import PLACES, DiskPod, disk_pod
from alcove.bench.figures import Ratio, percentile
from alcove.host.io_uring import io_uring_works
from alcove.pods.model import Defaults
from alcove.pods.service import PodService
from alcove.sandbox.engine import open_engine
from alcove.sandbox.protocol import Isolation
from alcove.sandbox.vm_launcher import Launcher
from alcove.sandbox.vm_tier import VmTier
from alcove.vmm.spec import DISK_TUNING, DiskIo, DiskLimits, DiskTuning

RANDOM_LEAST, SEQUENTIAL_LEAST = 3.0, 1.5
HOST, CACHED = "host's disk", "host's page cache"
# The limits that guard a pod's neighbours would be what is measured.
_UNLIMITED = replace(DISK_TUNING, limits=DiskLimits(1 << 40, 1 << 30))
# What pods have is "io_uring", or "threads" where the host refuses that.
WAYS: dict[str, tuple[DiskIo, DiskTuning]] = {
    "threads": (DiskIo.THREADS, _UNLIMITED),
    "io_uring": (DiskIo.IO_URING, _UNLIMITED),
    "packed rings": (DiskIo.IO_URING, replace(_UNLIMITED, packed=True)),
    "one queue": (DiskIo.IO_URING, replace(_UNLIMITED, queues=1)),
    "queue of 512": (DiskIo.IO_URING, replace(_UNLIMITED, length=512)),
    "queue of 256, no tables": (DiskIo.IO_URING, replace(_UNLIMITED, length=256, tables=False)),
    "past the page cache": (DiskIo.IO_URING, replace(_UNLIMITED, direct=True)),
}


@dataclass(slots=True)
class Found:
    """Rates by (place or way, job)."""

    places: dict[tuple[str, str], list[fio.Rate]] = field(default_factory=lambda: defaultdict(list))
    ways: dict[tuple[str, str], list[fio.Rate]] = field(default_factory=lambda: defaultdict(list))

    def figure(self, place: str, job: fio.Job) -> float:
        return middle(self.places[place, job.name], job)

    def ratios(self) -> list[Ratio]:
        """As every ratio of ours, at most: virtio-fs over block."""
        found = []
        for job in fio.JOBS:
            least = RANDOM_LEAST if job.random else SEQUENTIAL_LEAST
            times = self.figure("block", job) / self.figure("virtio-fs", job)
            found.append(Ratio(f"{least} / (block / virtio-fs), {job.name}", least / times, 1.0))
        return found


def middle(rates: list[fio.Rate], job: fio.Job) -> float:
    """Return the median: requests a second, or megabytes."""
    return percentile([rate.iops if job.random else rate.mb_per_s for rate in rates], 0.5)


async def measure(state: Path, *, rounds: int, seconds: float, ways: bool, progress: Callable[[str], None]) -> Found:
    """Return the rates. Raises ``HostError``, ``SandboxError``."""
    layer = await asyncio.to_thread(fio.image, state / "fio-image")
    shared = state / "fio-shared"
    shared.mkdir(exist_ok=True)
    async with _engine(state, progress) as launcher:
        runs = _Runs(launcher, state, layer, shared, rounds, seconds, progress)
        try:
            await runs.places()
            if ways:
                await runs.ways()
        finally:
            (shared / "fio").unlink(missing_ok=True)
    return runs.found


@asynccontextmanager
async def _engine(state: Path, progress: Callable[[str], None]) -> AsyncIterator[Launcher]:
    async with AsyncExitStack() as stack:
        tiers, _ = await open_engine(
            stack, state=state, waiting=0, isolations=frozenset({Isolation.VM}), progress=progress
        )
        tier = tiers[Isolation.VM]
        assert isinstance(tier, VmTier)
        stack.push_async_callback(tier.close)
        await tier.recover()
        yield tier.launcher


@asynccontextmanager
async def _service(launcher: Launcher, state: Path, tuning: DiskTuning) -> AsyncIterator[PodService]:
    service = PodService(launcher, state, Defaults(disk_mib=1024), waiting=0, tuning=tuning)
    await service.recover()
    try:
        yield service
    finally:
        await service.close()


@dataclass(frozen=True, slots=True)
class _Runs:
    """What every run has, and what is found. ``shared`` is the folder that the pod has by virtio-fs."""

    launcher: Launcher
    state: Path
    layer: Path
    shared: Path
    rounds: int
    seconds: float
    progress: Callable[[str], None]
    found: Found = field(default_factory=Found)

    async def places(self) -> None:
        on_host = fio.command({HOST: str(self.shared)}, fio.JOBS, self.seconds)
        in_cache = fio.command({CACHED: str(self.shared)}, fio.JOBS, self.seconds, "--direct=0", "--invalidate=0")
        in_pod = fio.command(PLACES, fio.JOBS, self.seconds)
        async with self._pod(_UNLIMITED) as pod:
            for number in range(self.rounds):
                self.progress(f"round {number + 1} of {self.rounds}: in the pod")
                await pod.run(fio.fill(PLACES.values()))
                _add(self.found.places, fio.rates(await pod.run(in_pod)))
                self.progress(f"round {number + 1} of {self.rounds}: on the host")
                for words in (on_host, in_cache):
                    # The first drops what the page cache held: it is read again before the pod's turn.
                    _add(self.found.places, fio.rates(await asyncio.to_thread(fio.run, words)))
                    await asyncio.to_thread((self.shared / "fio").read_bytes)

    async def ways(self) -> None:
        """All of them in each round: what else goes on in the host changes meanwhile, and is not one way's."""
        chosen = self.launcher.disk_io
        possible = {io for io in DiskIo if io is not DiskIo.IO_URING or io_uring_works()}
        for number in range(self.rounds):
            for way, (disk_io, tuning) in WAYS.items():
                if disk_io not in possible:
                    continue
                self.progress(f"round {number + 1} of {self.rounds}, another way: {way}")
                self.launcher.disk_io = disk_io
                try:
                    await self._way(way, tuning)
                finally:
                    self.launcher.disk_io = chosen

    async def _way(self, way: str, tuning: DiskTuning) -> None:
        async with self._pod(tuning) as pod:
            await pod.run(fio.fill([PLACES["block"]]))
            _add(self.found.ways, fio.rates(await pod.run(fio.command({way: PLACES["block"]}, fio.JOBS, self.seconds))))

    @asynccontextmanager
    async def _pod(self, tuning: DiskTuning) -> AsyncIterator[DiskPod]:
        async with (
            _service(self.launcher, self.state, tuning) as service,
            disk_pod(service, self.layer, self.shared) as pod,
        ):
            yield pod


def _add(kept: dict[tuple[str, str], list[fio.Rate]], rates: dict[str, fio.Rate]) -> None:
    for name, rate in rates.items():
        place, _, job = name.partition(": ")
        kept[place, job].append(rate)
