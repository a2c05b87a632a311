"""A containerd of the benchmark's own, whose pods run by our shim or by runc, and the server behind the shim."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from alcove.bench import pod_image
from alcove.bench.cri import Cri
from alcove.bench.gateway import serving
from alcove.errors import HostError

# What our figures call the runtime handlers of CRI.
HANDLERS = {"vm": "alcove", "process": "runc"}
_SHIM = Path(__file__).parents[3] / "scripts/containerd-shim-alcove-v2"
_START_S = 60.0
_BRIDGE = "alcbench0"
_SUBNET = "10.198.0.0/22"
_CRI = 'plugins."io.containerd.grpc.v1.cri"'
_CONFIG = f"""\
version = 2
root = "{{folder}}/root"
state = "{{folder}}/state"
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
  address = "{{folder}}/containerd.sock"
[ttrpc]
  address = "{{folder}}/containerd.sock.ttrpc"
[{_CRI}]
  restrict_oom_score_adj = true
  sandbox_image = "{pod_image.NAME}"
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  disable_apparmor = true
  [{_CRI}.cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{{folder}}/net.d"
  [{_CRI}.containerd]
    default_runtime_name = "runc"
    [{_CRI}.containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
    [{_CRI}.containerd.runtimes.alcove]
      runtime_type = "io.containerd.alcove.v2"
"""


@dataclass(frozen=True, slots=True)
class PodHost:
    """``folder`` is containerd's, ``state`` the server's."""

    cri: Cri
    folder: Path
    state: Path


@contextmanager
def pod_host(state: Path, progress: Callable[[str], None], *options: str) -> Iterator[PodHost]:
    """Run both for the block. Raises ``HostError``."""
    with serving(state / "pods", progress, *options):
        folder = state / "containerd"
        _configure(folder)
        process = _start(folder, state / "pods" / "run" / "pods.sock")
        cri = Cri(folder / "containerd.sock")
        try:
            progress("starting containerd")
            _await(folder, process)
            _import(folder, cri)
            yield PodHost(cri, folder, state / "pods")
        finally:
            cri.close()
            process.terminate()
            process.wait()
            subprocess.run(["/usr/sbin/ip", "link", "delete", _BRIDGE], capture_output=True)


def _configure(folder: Path) -> None:
    (folder / "net.d").mkdir(parents=True, exist_ok=True)
    (folder / "config.toml").write_text(_CONFIG.format(folder=folder))
    addresses = {
        "type": "host-local",
        "dataDir": str(folder / "addresses"),
        "ranges": [[{"subnet": _SUBNET}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {"type": "bridge", "bridge": _BRIDGE, "isGateway": True, "ipMasq": True, "ipam": addresses}
    network = {"cniVersion": "0.4.0", "name": _BRIDGE, "plugins": [bridge]}
    (folder / "net.d" / "10-bench.conflist").write_text(json.dumps(network))


def _start(folder: Path, pods: Path) -> subprocess.Popen[bytes]:
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    shim = programs / _SHIM.name
    shim.unlink(missing_ok=True)
    shim.symlink_to(_SHIM)
    environment = {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "ALCOVE_PODS_SOCKET": str(pods),
        "ALCOVE_SHIM_FOLDER": str(folder / "shims"),
    }
    with (folder / "containerd.log").open("wb") as log:
        return subprocess.Popen(
            ["/usr/bin/containerd", "--config", str(folder / "config.toml")],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
        )


def _ctr(folder: Path, *arguments: str, data: bytes | None = None) -> int:
    command = ["/usr/bin/ctr", "--address", str(folder / "containerd.sock"), "--namespace", "k8s.io", *arguments]
    return subprocess.run(command, input=data, capture_output=True).returncode


def _await(folder: Path, process: subprocess.Popen[bytes]) -> None:
    give_up = time.monotonic() + _START_S
    while _ctr(folder, "version"):
        if process.poll() is not None or time.monotonic() > give_up:
            raise HostError("containerd did not start", hint=f"see {folder / 'containerd.log'}")
        time.sleep(0.1)


def _import(folder: Path, cri: Cri) -> None:
    if _ctr(folder, "images", "import", "-", data=pod_image.archive()):
        raise HostError("the benchmark's image cannot be imported", hint=f"see {folder / 'containerd.log'}")
    # CRI hears of it by an event.
    give_up = time.monotonic() + _START_S
    while not cri.has_image(pod_image.NAME):
        if time.monotonic() > give_up:
            raise HostError("containerd does not show the benchmark's image", hint=f"python {sys.version_info[:2]}")
        time.sleep(0.05)
