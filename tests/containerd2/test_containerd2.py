"""containerd 2.x, as `alcove setup containerd` tells it: its pods run in our machines, as those of Debian's 1.6 do."""

from __future__ import annotations

import subprocess
import time
import tomllib
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
from tests.containerd2.build import build
from tests.containerd2.server import set_up
from tests.instances.plane import VmPlane
from tests.oci.containerd import PROGRAM, Containerd

from alcove.instances.containerd_config import ContainerdSpec, render

BUSYBOX = "registry.test/busybox:1"
# The plugin whose runtimes they are: 2.x writes older configurations anew, for itself.
OLD, NEW = "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime"


def _runtimes(program: Path, config: Path, plugin: str) -> dict[str, Any]:
    """Return the runtimes that this containerd reads in the file."""
    done = subprocess.run([program, "--config", config, "config", "dump"], capture_output=True, text=True, check=True)
    return dict(tomllib.loads(done.stdout)["plugins"][plugin]["containerd"]["runtimes"])


@pytest.mark.parametrize(("version", "major"), [(2, 1), (2, 2), (3, 2)])
def test_what_setup_prints_is_taken(tmp_path: Path, version: int, major: int) -> None:
    config = set_up(tmp_path, version, tmp_path / "run")
    program = PROGRAM if major == 1 else build() / "containerd"
    found = _runtimes(program, config, OLD if major == 1 else NEW)
    assert found["alcove"]["runtime_type"] == str(tmp_path / "containerd-shim-alcove-v2")
    assert found["alcove"]["pod_annotations"] == ["io.alcove.*"]
    assert found["runsc"]["options"]["BinaryName"] == str(tmp_path / "alcove-runsc")
    assert all((tmp_path / name).stat().st_mode & 0o111 for name in ("containerd-shim-alcove-v2", "alcove-runsc"))


def test_what_the_private_one_reads_is_taken(tmp_path: Path) -> None:
    spec = ContainerdSpec(root=tmp_path, run=tmp_path / "run", subnet=IPv4Network("10.9.0.0/24"), bridge="alc0p")
    spec.config.write_text(render(spec))
    for program, plugin in ((PROGRAM, OLD), (build() / "containerd", NEW)):
        assert set(_runtimes(program, spec.config, plugin)) == {"alcove", "runc", "runsc"}


@pytest.mark.machine
def test_pods_of_containerd_2_run_in_machines(operator: tuple[VmPlane, Containerd]) -> None:
    """Made, asked, kept over a restart of containerd, and removed; beside the other tiers."""
    plane, containerd = operator
    assert "v2.4" in containerd.ctr("version").stdout or " 2.4" in containerd.ctr("version").stdout
    kernels = set()
    for tier in ("vm", "gvisor", "process"):
        done = plane.cli("run", "--rm", "--isolation", tier, BUSYBOX, "--", "sh", "-c", "uname -r; exit 3")
        assert done.returncode == 3, (tier, done.stderr, plane.tail())
        kernels.add(done.stdout)
    assert len(kernels) == 3
    hog = plane.cli("run", "--name", "hog", "--memory", "32Mi", BUSYBOX, "--", "tail", "/dev/zero")
    state = plane.pod("hog")["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (hog.returncode, state["reason"]) == (137, "OOMKilled"), hog.stderr
    assert plane.cli("rm", "hog").returncode == 0
    assert plane.cli("run", "-d", "--name", "stays", BUSYBOX, "--", "sleep", "1000").returncode == 0
    before = plane.pod("stays")["status"]["containerStatuses"][0]["containerID"]
    containerd.stop()
    containerd.start()
    deadline = time.monotonic() + 60
    while (done := plane.cli("exec", "stays", "--", "sh", "-c", "echo in; exit 4")).returncode != 4:
        assert time.monotonic() < deadline, done.stderr
        time.sleep(0.2)
    assert done.stdout == "in\n"
    assert plane.pod("stays")["status"]["containerStatuses"][0]["containerID"] == before
    assert plane.cli("rm", "-f", "stays").returncode == 0


@pytest.mark.machine
def test_ctr_runs_a_container_in_a_machine_of_its_own(operator: tuple[VmPlane, Containerd]) -> None:
    plane, containerd = operator
    assert plane.cli("pull", BUSYBOX).returncode == 0
    shim = str(containerd.folder / "alcove" / "containerd-shim-alcove-v2")
    command = ["sh", "-c", "uname -r; exit 5"]
    ctr = [build() / "ctr", "--address", containerd.socket, "--namespace", "k8s.io"]
    argv = [*ctr, "run", "--rm", "--runtime", shim, BUSYBOX, "alone", *command]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, bool(done.stdout.strip())) == (5, True), done.stderr
    assert done.stdout.strip() != Path("/proc/sys/kernel/osrelease").read_text().strip()
