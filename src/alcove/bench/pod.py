"""``alcove bench pod``: pods in machines of ours against pods of runc, through the same containerd, by CRI.

Each round makes a pod of each kind, one after the other, inserts containers into it, runs commands in one of them and
ends it. ``insert`` is create and start of a container in a pod that runs; the first brings the image in, the next ones
find it there.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alcove.bench.density import pss_mib
from alcove.bench.figures import Figures, Ratio
from alcove.bench.pod_host import HANDLERS, PodHost, pod_host
from alcove.bench.pod_image import NAME, SLEEP, TRUE
from alcove.host.files import instance_tag
from alcove.instances.cri import Cri
from alcove.instances.launcher import SHIM

SANDBOX_LIMIT = INSERT_LIMIT = 2.5
LAST_LIMIT = 1.3
INSERTS = 3
EXECS = 5
# Of starts that grow with the number of pods, some at each end are compared: one is an accident.
_ENDS = 5
_PROGRAM = "qemu-system-x86_64"


async def measure(
    state: Path, *, rounds: int, pause_s: float, waiting: int, progress: Callable[[str], None]
) -> Figures:
    """Return the samples of ``rounds`` pods of each kind; before each pod the machine rests for ``pause_s``."""
    figures = Figures()
    async with pod_host(state, progress, "--pod-waiting", str(waiting)) as host:
        for tier in HANDLERS:
            progress(f"warming up: {tier}")
            await _round(host.cri, tier, Figures())
        for number in range(rounds):
            for tier in HANDLERS:
                progress(f"round {number + 1} of {rounds}: {tier}")
                await asyncio.sleep(pause_s)
                await _round(host.cri, tier, figures)
    return figures


def ratios(figures: Figures) -> list[Ratio]:
    def ratio(mode: str, limit: float) -> Ratio:
        name = f"vm / runc, {mode}, p50"
        return Ratio(name, figures.p50("vm", mode, "pod") / figures.p50("process", mode, "pod"), limit)

    return [ratio("sandbox", SANDBOX_LIMIT), ratio("first insert", INSERT_LIMIT), ratio("insert", INSERT_LIMIT)]


def exec_difference_ms(figures: Figures) -> float:
    return figures.p50("vm", "exec", "pod") - figures.p50("process", "exec", "pod")


@contextmanager
def _clock(figures: Figures, tier: str, mode: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    figures.add(tier, mode, "pod", (time.perf_counter() - began) * 1000)


async def _round(cri: Cri, tier: str, figures: Figures) -> None:
    config = _sandbox_config()
    with _clock(figures, tier, "sandbox"):
        sandbox = await cri.run_sandbox(config, HANDLERS[tier])
    try:
        containers = []
        for number in range(INSERTS):
            with _clock(figures, tier, "insert" if number else "first insert"):
                containers.append(await _insert(cri, sandbox, config, str(number)))
        for _ in range(EXECS):
            with _clock(figures, tier, "exec"):
                await cri.run_command(containers[0], [TRUE], 60)
        with _clock(figures, tier, "stop container"):
            await cri.stop(containers[0], 0)
        with _clock(figures, tier, "stop"):
            await cri.stop_sandbox(sandbox)
    finally:
        await cri.remove_sandbox(sandbox)


def _sandbox_config() -> dict[str, Any]:
    name = f"bench-{time.time_ns()}"
    return {"metadata": {"name": name, "uid": name, "namespace": "bench"}, "hostname": "bench"}


async def _insert(cri: Cri, sandbox: str, config: dict[str, Any], name: str) -> str:
    container = {"metadata": {"name": name}, "image": {"image": NAME}, "command": [SLEEP, "infinity"]}
    made = await cri.create(sandbox, container, config)
    await cri.start(made)
    return made


@dataclass(slots=True)
class Crowd:
    """Pods that ran at once. Memory is the proportional set size of VMM and shim of each."""

    start_ms: list[float] = field(default_factory=list)
    machine_mib: list[float] = field(default_factory=list)
    shim_mib: list[float] = field(default_factory=list)
    answered: int = 0
    left: list[str] = field(default_factory=list)

    @property
    def slower(self) -> float:
        """The last starts against the first."""
        return statistics.median(self.start_ms[-_ENDS:]) / statistics.median(self.start_ms[:_ENDS])


async def crowd(state: Path, *, count: int, pause_s: float, waiting: int, progress: Callable[[str], None]) -> Crowd:
    """Start ``count`` pods with a container each, one after the other; weigh each, run a command in each, end all."""
    found = Crowd()
    async with pod_host(state, progress, "--pod-waiting", str(waiting)) as host:
        await _round(host.cri, "vm", Figures())
        pods: list[tuple[str, str]] = []
        try:
            for number in range(count):
                progress(f"{number} of {count} pods run")
                await asyncio.sleep(pause_s)
                began = time.perf_counter()
                pods.append(await _pod(host.cri))
                found.start_ms.append((time.perf_counter() - began) * 1000)
            progress("weighing")
            await asyncio.sleep(2)
            found.machine_mib = [pss_mib(pid) for pid in _processes(_PROGRAM, host)]
            found.shim_mib = [pss_mib(pid) for pid in _processes(SHIM, host)]
            for _, container in pods:
                code, _, _ = await host.cri.run_command(container, [TRUE], 120)
                found.answered += code == 0
        finally:
            for number, (sandbox, _) in enumerate(pods):
                progress(f"{number} of {count} pods are ended")
                await host.cri.stop_sandbox(sandbox)
                await host.cri.remove_sandbox(sandbox)
        await asyncio.sleep(2)
        found.left = _left(host, waiting)
    return found


async def _pod(cri: Cri) -> tuple[str, str]:
    config = _sandbox_config()
    sandbox = await cri.run_sandbox(config, HANDLERS["vm"])
    return sandbox, await _insert(cri, sandbox, config, "0")


def _processes(program: str, host: PodHost) -> list[int]:
    """Return the processes of this benchmark's pods: shims are in its folder, machines in a pod's cgroup."""
    found = []
    group = f"/alcove-{instance_tag(host.state.resolve())}/p-"
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            ours = any(program in word for word in words[:3])
            if ours and (str(host.folder) in " ".join(words) or group in (entry / "cgroup").read_text()):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def _left(host: PodHost, waiting: int) -> list[str]:
    """Return what is left, but for the machines that wait for the next pods."""
    machines = [f"machine {path.name}" for path in (host.state / "pods").glob("p-*")]
    found = machines if len(machines) > waiting else []
    found += [f"process {pid}" for pid in _processes(_PROGRAM, host)[waiting:]]
    found += [f"process {pid}" for pid in _processes(SHIM, host)]
    return found + [f"shim {path}" for path in (host.folder / "shims").glob("*.sock")]
