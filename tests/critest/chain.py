"""The whole chain on this machine: a registry, a containerd with our handler beside runc, and ``alcove serve``."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.critest.images import push_images
from tests.oci.containerd import Containerd, containerd
from tests.oci.registry import Registry, registry
from tests.service.server import Server

REPOSITORY = Path(__file__).resolve().parents[2]
STATE = Path("build/test-state")
# State of a run that was killed is taken away by the next: the folder is always the same.
FOLDER = STATE / "chain"
SHIM = REPOSITORY / "scripts" / "containerd-shim-alcove-v2"
SHIM_SOCKETS = Path("/run/alcove/shims")
# Where tests/oci/containerd.py has its pods.
SUBNET = "10.199.0."
_RUNTIME = """\
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.alcove]
      runtime_type = "io.containerd.alcove.v2"
      pod_annotations = ["io.alcove.*"]
      container_annotations = ["io.alcove.*"]
"""


@dataclass(frozen=True)
class Chain:
    """What runs."""

    registry: Registry
    server: Server
    containerd: Containerd

    def machines(self) -> dict[str, int]:
        """Return the VMM's pid of each pod that runs; machines that wait for pods are not among them."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.server.run / "pods.sock"))
            connection.sendall(b'{"op": "pods"}\n')
            pods = json.loads(connection.makefile().readline())["ok"]["pods"]
        return {pod["pod"]: pod["machine"]["pid"] for pod in pods}


@contextmanager
def chain(run: Path) -> Iterator[Chain]:
    """Run it all; afterwards nothing of it is left. ``run`` is an empty folder for sockets."""
    folder = FOLDER.resolve()
    _clear(folder)
    # Of a run that was killed: the pods end with them.
    for shim in _shims(folder):
        os.kill(int(shim), signal.SIGKILL)
    sockets = _names(SHIM_SOCKETS)
    # critest sets no annotation.
    options = ("--pool-python", "0", "--pool-nodejs", "0", "--pool-provided", "0", "--pod-host-paths", "all")
    server = Server(STATE, run, *options)
    server.start()
    try:
        with registry(folder / "registry") as images:
            push_images(images)
            with containerd(
                folder / "containerd", images, runtimes=_RUNTIME, environment=_environment(folder, run)
            ) as daemon:
                yield Chain(images, server, daemon)
    finally:
        server.stop()
    left = {**server.leftovers(), "pods": [path.name for path in (server.state / "pods").iterdir()]}
    left |= _left(folder, sockets)
    assert not any(left.values()), json.dumps(left, indent=1)


def _environment(folder: Path, run: Path) -> dict[str, str]:
    """containerd finds a shim by its name, and hands its own environment to it."""
    programs = folder / "bin"
    programs.mkdir(parents=True)
    (programs / SHIM.name).symlink_to(SHIM)
    return {"PATH": f"{programs}:/usr/sbin:/usr/bin:/sbin:/bin", "ALCOVE_PODS_SOCKET": str(run / "pods.sock")}


def _clear(folder: Path) -> None:
    mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for point in reversed([point for point in mounted if point.startswith(f"{folder}/")]):
        subprocess.run(["/usr/bin/umount", "-l", point], check=True)
    shutil.rmtree(folder, ignore_errors=True)


def _left(folder: Path, sockets: set[str]) -> dict[str, list[str]]:
    """Return what pods of ours have on the host, beside that which the server's own tests look at."""
    spaces = [path.name for path in Path("/run/netns").glob("cni-*") if f" {SUBNET}" in _addresses(path.name)]
    reserved = [path.name for path in (folder / "containerd/ipam").glob(f"*/{SUBNET}*")]
    heard = Path("/proc/net/unix").read_text()
    silent = [path for path in _names(SHIM_SOCKETS) - sockets if path not in heard]
    return {"network namespaces": spaces, "addresses": reserved, "shims": _shims(folder), "shims' sockets": silent}


def _addresses(namespace: str) -> str:
    command = ["/usr/sbin/ip", "-n", namespace, "-4", "addr"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _names(folder: Path) -> set[str]:
    return set(os.listdir(folder)) if folder.exists() else set()


def _shims(folder: Path) -> list[str]:
    """Return the processes that run our shim for this containerd."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = process.read_bytes().decode()
        except OSError:
            continue
        if SHIM.name in line and str(folder) in line:
            found.append(process.parent.name)
    return found
