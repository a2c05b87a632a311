"""The same pods by gVisor: containerd's shim for runc over ``runsc``, with all containers of a pod in one sandbox."""

from __future__ import annotations

import json
import os
import time

import pytest
from tests.instances.conftest import BUSYBOX
from tests.instances.plane import Plane

pytestmark = pytest.mark.parametrize("plane", ["gvisor"], indirect=True, scope="package")

_PAIR = """
apiVersion: v1
kind: Pod
metadata: {{name: pair}}
spec:
  terminationGracePeriodSeconds: 0
  initContainers:
  - {{name: first, image: {image}, command: [sh, -c, 'echo page > /www/index.html'],
     volumeMounts: [{{name: www, mountPath: /www}}]}}
  containers:
  - name: web
    image: {image}
    command: [httpd, -f, -p, '8080', -h, /www]
    readinessProbe: {{httpGet: {{port: 8080, path: /index.html}}, periodSeconds: 1}}
    volumeMounts: [{{name: www, mountPath: /www}}]
  - {{name: side, image: {image}, command: [sh, -c, 'while test ! -e /www/end; do sleep 0.1; done; exit 5'],
     volumeMounts: [{{name: www, mountPath: /www}}], securityContext: {{runAsUser: 33}}}}
  volumes:
  - {{name: www, emptyDir: {{medium: Memory, sizeLimit: 1Mi}}}}
"""


def test_streams_kernel_and_exit_code(plane: Plane) -> None:
    script = "uname -r; echo err >&2; cat; exit 3"
    done = plane.cli("run", "-i", "--rm", BUSYBOX, "--", "sh", "-c", script, stdin="in\n")
    kernel, line = done.stdout.splitlines()
    assert (done.returncode, line) == (3, "in"), done.stderr
    assert done.stderr.endswith("err\n")
    assert kernel != os.uname().release


def test_a_container_of_several_ends_alone(plane: Plane) -> None:
    """One that ends is started anew; the other, its files, its network and its numbers are as before."""
    assert plane.cli("apply", "-f", "-", stdin=_PAIR.format(image=BUSYBOX)).returncode == 0
    deadline = time.monotonic() + 60
    while not all(one.get("ready") for one in plane.pod("pair")["status"].get("containerStatuses", [{}])):
        assert time.monotonic() < deadline, plane.pod("pair")
        time.sleep(0.1)
    before = plane.pod("pair")["status"]["containerStatuses"]
    fetch = ("wget", "-q", "-O", "-", "http://127.0.0.1:8080/index.html")
    done = plane.cli("exec", "-c", "side", "pair", "--", *fetch)
    assert done.stdout == "page\n", done.stderr
    used = {one["name"]: one["memoryBytes"] for one in json.loads(plane.cli("stats", "pair", "--json").stdout)}
    assert all(0 < used[name] < 1 << 30 for name in ("web", "side")), used
    assert plane.cli("exec", "-c", "web", "pair", "--", "touch", "/www/end").returncode == 0
    while (status := plane.pod("pair")["status"]["containerStatuses"])[1]["restartCount"] == 0:
        assert time.monotonic() < deadline, status
        time.sleep(0.1)
    assert status[1]["lastState"]["terminated"]["exitCode"] == 5
    assert status[0] == before[0]
    assert plane.cli("rm", "-f", "pair").returncode == 0


def test_too_much_memory_ends_the_pods_sandbox_alone(plane: Plane) -> None:
    assert plane.cli("run", "-d", "--name", "stays", BUSYBOX, "--", "sleep", "1000").returncode == 0
    # 400 MB in one line, which is held until its end; more than the host has need not be tried.
    script = "head -c 400000000 /dev/zero | tail -n 1 | wc -c"
    hog = plane.cli("run", "--rm", "--memory", "32Mi", BUSYBOX, "--", "sh", "-c", script)
    assert hog.returncode == 137, hog.stderr
    assert plane.cli("exec", "stays", "--", "echo", "on").stdout == "on\n"
    assert plane.cli("rm", "-f", "stays").returncode == 0


def test_a_program_that_is_not_there_is_said_and_leaves_nothing(plane: Plane) -> None:
    done = plane.cli("run", "--rm", BUSYBOX, "--", "/nothing")
    assert done.returncode != 0
    assert "no such file" in done.stderr
    assert plane.call("GET", "/alcove/v1/pods")["items"] == []
