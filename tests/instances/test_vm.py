"""What instances have in VMs alone: a kernel, a size and disks of their own."""

from __future__ import annotations

import contextlib
import os
import time

import pytest
from tests.instances.conftest import BUSYBOX, STATE
from tests.instances.plane import Plane, machines
from tests.kernels import real_kernel

from alcove.errors import NotFound

pytestmark = pytest.mark.parametrize("plane", ["vm"], indirect=True, scope="package")


def test_a_machine_of_its_own_and_of_its_size(plane: Plane) -> None:
    limits = ("--cpus", "0.5", "--memory", "48Mi")
    files = "/sys/fs/cgroup/cpu.max /sys/fs/cgroup/memory.max"
    done = plane.cli("run", "--rm", *limits, BUSYBOX, "--", "sh", "-c", f"uname -r; cat {files}; exit 3")
    kernel, *sizes = done.stdout.splitlines()
    assert (done.returncode, sizes) == (3, ["50000 100000", str(48 << 20)]), done.stderr
    assert kernel not in ("", os.uname().release)
    assert machines(plane.state) == []


def test_a_kernel_of_its_own(plane: Plane) -> None:
    folder = (STATE / "rt-kernel").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    vmlinuz, modules, release = real_kernel(folder)
    # An earlier run's may be another one.
    with contextlib.suppress(NotFound):
        plane.call("DELETE", "/alcove/v1/kernels/rt")
    document = {"vmlinuz": str(vmlinuz), "modules": str(modules), "append": "alcove.test=1"}
    plane.call("PUT", "/alcove/v1/kernels/rt", document)
    done = plane.cli("run", "--rm", "--kernel", "rt", BUSYBOX, "--", "uname", "-r")
    assert done.stdout == f"{release}\n", done.stderr
    refused = plane.cli("run", "--rm", "--kernel", "none", BUSYBOX, "--", "uname", "-r")
    assert refused.returncode != 0
    assert "there is no kernel 'none'" in refused.stderr


_DISKS = """
apiVersion: v1
kind: Pod
metadata: {{name: disks}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {{name: writer, image: {image}, command: [sleep, '1000'], volumeMounts: [{{name: box, mountPath: /box}}]}}
  - {{name: reader, image: {image}, command: [sleep, '1000'],
     volumeMounts: [{{name: box, mountPath: /in, readOnly: true}}]}}
  volumes:
  - {{name: box, emptyDir: {{sizeLimit: 4Mi}}}}
"""


def test_an_empty_dir_is_a_disk_of_its_size(plane: Plane) -> None:
    """Both containers have it, it holds what it is said to hold, and nothing of it is on the host."""
    assert plane.cli("apply", "-f", "-", stdin=_DISKS.format(image=BUSYBOX)).returncode == 0
    deadline = time.monotonic() + 60
    while plane.pod("disks")["status"]["phase"] != "Running":
        assert time.monotonic() < deadline, plane.tail()
        time.sleep(0.1)
    fill = "dd if=/dev/zero of=/box/fill bs=4096 count=4096"
    full = plane.cli("exec", "-c", "writer", "disks", "--", "sh", "-c", fill)
    assert "No space left" in full.stderr
    shown = plane.cli("exec", "-c", "reader", "disks", "--", "sh", "-c", "stat -c %s /in/fill; touch /in/x")
    assert (4 << 20) - 8192 <= int(shown.stdout) <= 4 << 20
    assert "Read-only" in shown.stderr
    volumes = (plane.state / "instances").glob("*/volumes/kubernetes.io~empty-dir/box/*")
    assert list(volumes) == []
    assert plane.cli("rm", "-f", "disks").returncode == 0
