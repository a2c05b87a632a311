"""A containerd of the benchmark's own, whose pods run by our shim or by runc, and the server behind the shim."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

from alcove.bench import pod_image
from alcove.bench.gateway import serving
from alcove.errors import AlcoveError, HostError
from alcove.host.threads import to_the_end
from alcove.instances import containerd_config, launcher, pause
from alcove.instances.containerd import PROGRAM, may_raise_priority
from alcove.instances.containerd_config import ContainerdSpec
from alcove.instances.cri import Cri

# What our figures call the runtime handlers of CRI.
HANDLERS = {"vm": "alcove", "process": "runc"}
_START_S = 60.0
_BRIDGE = "alcbench0"
_SUBNET = IPv4Network("10.198.0.0/22")


@dataclass(frozen=True, slots=True)
class PodHost:
    """``folder`` is containerd's, ``state`` the server's."""

    cri: Cri
    folder: Path
    state: Path


@asynccontextmanager
async def pod_host(state: Path, progress: Callable[[str], None], *options: str) -> AsyncIterator[PodHost]:
    """Run both for the block. Raises ``HostError``."""
    with serving(state / "pods", progress, *options):
        folder = state / "containerd"
        spec = ContainerdSpec(
            root=folder,
            run=folder,
            subnet=_SUBNET,
            bridge=_BRIDGE,
            restrict_oom_score_adj=not may_raise_priority(),
        )
        process = await asyncio.to_thread(_start, spec, state / "pods" / "run")
        cri = Cri(spec.socket)
        try:
            progress("starting containerd")
            await _answering(cri, process, folder)
            for name, archive in ((pause.NAME, pause.archive()), (pod_image.NAME, pod_image.archive())):
                await _import(spec, cri, name, archive)
            yield PodHost(cri, folder, state / "pods")
        finally:
            cri.close()
            await to_the_end(_stop, process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait()
    subprocess.run(["/usr/sbin/ip", "link", "delete", _BRIDGE], capture_output=True)


def _start(spec: ContainerdSpec, server: Path) -> subprocess.Popen[bytes]:
    for folder in (spec.root, spec.state, spec.networks):
        folder.mkdir(parents=True, exist_ok=True)
    (spec.networks / "10-bench.conflist").write_text(containerd_config.network(spec))
    spec.config.write_text(containerd_config.render(spec))
    launcher.write(spec.root, server)
    command = [str(PROGRAM), "--config", str(spec.config)]
    with (spec.root / "containerd.log").open("wb") as log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


async def _answering(cri: Cri, process: subprocess.Popen[bytes], folder: Path) -> None:
    hint = f"see {folder / 'containerd.log'}"
    try:
        async with asyncio.timeout(_START_S):
            while process.poll() is None:
                # It answers before its CRI plugin does.
                with suppress(AlcoveError):
                    await cri.call("Version", timeout_s=5)
                    return
                await asyncio.sleep(0.05)
    except TimeoutError:
        pass
    raise HostError("containerd did not start", hint=hint)


async def _import(spec: ContainerdSpec, cri: Cri, name: str, archive: bytes) -> None:
    path = spec.root / "import.tar"
    path.write_bytes(archive)
    command = ["/usr/bin/ctr", "--address", str(spec.socket), "--namespace", "k8s.io", "images", "import", str(path)]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True)
    if done.returncode:
        raise HostError(f"{name} cannot be imported: {done.stderr.strip()[-400:]}", hint="see containerd's log")
    # CRI hears of it by an event.
    async with asyncio.timeout(_START_S):
        while await cri.image(name) is None:  # noqa: ASYNC110 - another process gets there
            await asyncio.sleep(0.05)
