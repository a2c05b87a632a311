"""kill -9 of each part of the chain from containerd to a machine: ends are told, neighbours go on, nothing stays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.instances.conftest import BUSYBOX
from tests.instances.plane import Plane, machines
from tests.instances.traces import Traces, lasting, settled, shims, traces

pytestmark = pytest.mark.parametrize("plane", ["vm"], indirect=True, scope="package")

FOREVER = ("sleep", "100000")


@pytest.fixture
def before(plane: Plane) -> Iterator[Traces]:
    """What is there without the test's pods; at its end nothing else is."""
    # The pods' bridge and images are there once a pod has been.
    assert plane.cli("run", "--rm", BUSYBOX, "--", "true").returncode == 0
    assert settled(plane, lasting(plane)) == []
    found = traces(plane)
    yield found
    names = [one["metadata"]["name"] for one in plane.call("GET", "/alcove/v1/pods")["items"]]
    if names:
        assert plane.cli("rm", "-f", *names).returncode == 0
    assert settled(plane, found) == [], plane.tail()


def test_a_machine_that_is_killed_ends_its_pod_and_no_other(plane: Plane, before: Traces) -> None:
    _start(plane, "healthy")
    (kept,) = machines(plane.state)
    one = _id(plane, "healthy")
    _start(plane, "once")
    _start(plane, "again", "--restart", "always")
    for pid in machines(plane.state):
        if pid != kept:
            os.kill(int(pid), signal.SIGKILL)
    ended = _until(plane, "once", "Failed")["status"]["containerStatuses"][0]["state"]["terminated"]
    assert ended["exitCode"] == 137
    _until_new(plane, "again")
    assert plane.cli("exec", "again", "--", "echo", "back").stdout == "back\n"
    assert _id(plane, "healthy") == one
    assert plane.cli("exec", "healthy", "--", "echo", "here").stdout == "here\n"


def test_a_shim_that_is_killed_ends_its_pod_and_no_other(plane: Plane, before: Traces) -> None:
    _start(plane, "healthy")
    (kept,) = shims(plane)
    one = _id(plane, "healthy")
    _start(plane, "again", "--restart", "always")
    (killed,) = {*shims(plane)} - {kept}
    os.kill(killed, signal.SIGKILL)
    _until_new(plane, "again")
    assert plane.cli("exec", "again", "--", "echo", "back").stdout == "back\n"
    assert _id(plane, "healthy") == one
    assert plane.cli("exec", "healthy", "--", "echo", "here").stdout == "here\n"


def test_what_dies_while_the_daemon_is_away_is_found(plane: Plane, before: Traces) -> None:
    """A machine, a shim and a program; and one pod to which nothing happens."""
    _start(plane, "machine")
    (machine,) = machines(plane.state)
    _start(plane, "shim")
    _start(plane, "healthy")
    one = _id(plane, "healthy")
    script = ("sh", "-c", "sleep 3; exit 5")
    assert plane.cli("run", "-d", "--name", "program", BUSYBOX, "--", *script).returncode == 0
    shim = _shim_of(plane, "shim")
    plane.kill()
    os.kill(int(machine), signal.SIGKILL)
    os.kill(shim, signal.SIGKILL)
    time.sleep(3)
    plane.start()
    # 255 is containerd's word for an end of which only it knows.
    for name, codes in (("program", {5}), ("machine", {137}), ("shim", {137, 255})):
        ended = _until(plane, name, "Failed")["status"]["containerStatuses"][0]["state"]["terminated"]
        assert ended["exitCode"] in codes, name
    assert _id(plane, "healthy") == one
    assert plane.cli("exec", "healthy", "--", "echo", "here").stdout == "here\n"


@pytest.mark.parametrize("delay_s", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_daemon_that_is_killed_while_a_pod_starts(plane: Plane, before: Traces, delay_s: float) -> None:
    """The pod that was written down runs in the end, in one machine."""
    made = _pod("half")
    plane.call("POST", "/alcove/v1/pods", made)
    time.sleep(delay_s)
    plane.kill()
    plane.start()
    _runs_once(plane, "half")


@pytest.mark.parametrize("delay_s", [0.02, 0.1, 0.25, 0.4])
def test_a_daemon_that_is_killed_while_a_pod_ends(plane: Plane, before: Traces, delay_s: float) -> None:
    _start(plane, "half")
    plane.call("DELETE", "/alcove/v1/pods/half?grace=0")
    time.sleep(delay_s)
    plane.kill()
    plane.start()
    assert settled(plane, before) == [], plane.tail()


@pytest.mark.parametrize("delay_s", [0.1, 0.4, 0.8])
def test_all_that_is_killed_while_a_pod_starts(plane: Plane, before: Traces, delay_s: float) -> None:
    """Daemon, containerd, shim and machine at once, as by a machine that lacks memory."""
    plane.call("POST", "/alcove/v1/pods", _pod("half"))
    time.sleep(delay_s)
    plane.kill()
    for pid in (plane.containerd().pid, *shims(plane), *map(int, machines(plane.state))):
        subprocess.run(["kill", "-9", str(pid)], check=False, capture_output=True)
    plane.start()
    _runs_once(plane, "half")


def _runs_once(plane: Plane, name: str) -> None:
    """Wait until the pod runs, and what an earlier attempt has left is gone."""
    _until(plane, name, "Running")
    deadline = time.monotonic() + 60
    # It is shown as it was before until it has been looked at.
    while plane.cli("exec", name, "--", "echo", "here").stdout != "here\n":
        assert time.monotonic() < deadline, plane.tail()
        time.sleep(0.2)
    while not len(machines(plane.state)) == len(shims(plane)) == 1:
        assert time.monotonic() < deadline, plane.tail()
        time.sleep(0.1)


def _pod(name: str) -> dict[str, Any]:
    container = {"name": "main", "image": BUSYBOX, "args": list(FOREVER)}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0}
    return {"metadata": {"name": name}, "spec": spec}


def _start(plane: Plane, name: str, *options: str) -> None:
    done = plane.cli("run", "-d", "--name", name, *options, BUSYBOX, "--", *FOREVER)
    assert done.returncode == 0, done.stderr


def _id(plane: Plane, name: str) -> str:
    return str(plane.pod(name)["status"]["containerStatuses"][0]["containerID"])


def _shim_of(plane: Plane, name: str) -> int:
    """Return the pid of the pod's shim, which has its sandbox's id on its command line."""
    uid = plane.pod(name)["metadata"]["uid"]
    command = ["/usr/bin/ctr", "--address", str(plane.run / "containerd/containerd.sock"), "-n", "k8s.io"]
    for pid in shims(plane):
        words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        sandbox = words[words.index("-id") + 1]
        done = subprocess.run([*command, "containers", "info", sandbox], capture_output=True, text=True, check=True)
        if json.loads(done.stdout)["Labels"]["io.kubernetes.pod.uid"] == uid:
            return pid
    raise AssertionError(name)


def _until_new(plane: Plane, name: str) -> dict[str, Any]:
    """Wait until the pod's container has been started anew."""
    deadline = time.monotonic() + 60
    while True:
        pod = plane.pod(name)
        status = pod["status"]["containerStatuses"][0]
        if status["restartCount"] > 0 and pod["status"]["phase"] == "Running" and "running" in status["state"]:
            return pod
        assert time.monotonic() < deadline, (pod, plane.tail())
        time.sleep(0.05)


def _until(plane: Plane, name: str, phase: str) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while True:
        pod = plane.pod(name)
        if pod["status"]["phase"] == phase:
            return pod
        assert time.monotonic() < deadline, (pod, plane.tail())
        time.sleep(0.05)
