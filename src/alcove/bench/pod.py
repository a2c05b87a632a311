"""``alcove bench pod``: pods in machines of ours against pods of runc, through the same containerd, by CRI.

Each round makes a pod of each kind, one after the other, inserts containers into it, runs commands in one of them and
ends it. ``insert`` is create and start of a container in a pod that runs; the first brings the image in, the next ones
find it there.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from alcove.bench.cri import Cri, container_config, sandbox_config
from alcove.bench.density import pss_mib
from alcove.bench.figures import Figures, Ratio
from alcove.bench.pod_host import HANDLERS, PodHost, pod_host
from alcove.bench.pod_image import NAME, SLEEP, TRUE

SANDBOX_LIMIT = INSERT_LIMIT = 2.5
LAST_LIMIT = 1.3
INSERTS = 3
EXECS = 5
# Of a start that grows with the number of pods, the ends are compared by some of them each: one is an accident.
_ENDS = 5


def measure(state: Path, *, rounds: int, pause_s: float, progress: Callable[[str], None]) -> Figures:
    """Return the samples of ``rounds`` pods of each kind; before each pod the machine rests for ``pause_s``."""
    figures = Figures()
    with pod_host(state, progress) as host:
        for tier in HANDLERS:
            progress(f"warming up: {tier}")
            _round(host.cri, tier, "warm", Figures())
        for number in range(rounds):
            for tier in HANDLERS:
                progress(f"round {number + 1} of {rounds}: {tier}")
                time.sleep(pause_s)
                _round(host.cri, tier, str(number), figures)
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


def _round(cri: Cri, tier: str, name: str, figures: Figures) -> None:
    config = sandbox_config(f"{tier}-{name}-{time.time_ns()}")
    with _clock(figures, tier, "sandbox"):
        sandbox = cri.call("RunPodSandbox", config=config, runtime_handler=HANDLERS[tier])["pod_sandbox_id"]
    try:
        containers = []
        for number in range(INSERTS):
            with _clock(figures, tier, "insert" if number else "first insert"):
                containers.append(_insert(cri, sandbox, config, str(number)))
        for _ in range(EXECS):
            with _clock(figures, tier, "exec"):
                answer = cri.call("ExecSync", container_id=containers[0], cmd=[TRUE], timeout=60)
            assert answer["exit_code"] == 0
        with _clock(figures, tier, "stop container"):
            cri.call("StopContainer", container_id=containers[0], timeout=0)
        with _clock(figures, tier, "stop"):
            cri.call("StopPodSandbox", pod_sandbox_id=sandbox)
    finally:
        cri.call("RemovePodSandbox", pod_sandbox_id=sandbox)


def _insert(cri: Cri, sandbox: str, config: dict[str, object], name: str) -> str:
    container = container_config(name, NAME, [SLEEP, "infinity"])
    answer = cri.call("CreateContainer", pod_sandbox_id=sandbox, config=container, sandbox_config=config)
    cri.call("StartContainer", container_id=answer["container_id"])
    return str(answer["container_id"])


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


def crowd(state: Path, *, count: int, progress: Callable[[str], None]) -> Crowd:
    """Start ``count`` pods with a container each, one after the other; weigh each, run a command in each, end all."""
    found = Crowd()
    with pod_host(state, progress) as host:
        _round(host.cri, "vm", "warm", Figures())
        time.sleep(1)
        pods: list[tuple[str, str]] = []
        try:
            for number in range(count):
                progress(f"{number} of {count} pods run")
                began = time.perf_counter()
                pods.append(_pod(host.cri, number))
                found.start_ms.append((time.perf_counter() - began) * 1000)
            progress("weighing")
            time.sleep(2)
            found.machine_mib = [pss_mib(pid) for pid in _processes("qemu-system-x86_64", host)]
            found.shim_mib = [pss_mib(pid) for pid in _processes("containerd-shim-alcove-v2", host)]
            for _, container in pods:
                answer = host.cri.call("ExecSync", container_id=container, cmd=[TRUE], timeout=120)
                found.answered += answer["exit_code"] == 0
        finally:
            for number, (sandbox, _) in enumerate(pods):
                progress(f"{number} of {count} pods are ended")
                host.cri.call("StopPodSandbox", pod_sandbox_id=sandbox)
                host.cri.call("RemovePodSandbox", pod_sandbox_id=sandbox)
        time.sleep(2)
        found.left = _left(host)
    return found


def _pod(cri: Cri, number: int) -> tuple[str, str]:
    config = sandbox_config(f"crowd-{number}-{time.time_ns()}")
    answer = cri.call("RunPodSandbox", config=config, runtime_handler=HANDLERS["vm"])
    sandbox = str(answer["pod_sandbox_id"])
    return sandbox, _insert(cri, sandbox, config, "0")


def _processes(program: str, host: PodHost) -> list[int]:
    """Return the processes of pods of this benchmark's: by the shims' folder, or the cgroup of the server."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            ours = program in words[0] or (len(words) > 2 and program in words[2])
            if ours and (str(host.folder) in " ".join(words) or "/p-" in (entry / "cgroup").read_text()):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def _left(host: PodHost) -> list[str]:
    found = [f"process {pid}" for pid in _processes("qemu-system-x86_64", host)]
    found += [f"process {pid}" for pid in _processes("containerd-shim-alcove-v2", host)]
    found += [f"folder {path}" for path in (host.state / "pods").glob("p-*")]
    return found + [f"shim {path}" for path in (host.folder / "shims").glob("*.sock")]
