"""``alcove run`` and its kin, with a real containerd, runc and registry."""

from __future__ import annotations

import json
import time
from typing import Any

from tests.instances.conftest import BUSYBOX
from tests.instances.plane import Plane


def test_it_prints_what_the_program_prints_and_ends_as_it_ends(plane: Plane) -> None:
    script = "echo hi $WHO; echo err >&2; printf partial; exit 3"
    done = plane.cli("run", "--rm", "-e", "WHO=Ada", BUSYBOX, "--", "sh", "-c", script)
    assert (done.returncode, done.stdout) == (3, "hi Ada\npartial")
    assert done.stderr.endswith("err\n")
    assert plane.call("GET", "/alcove/v1/pods")["items"] == []


def test_an_image_that_is_not_there_is_said_at_once(plane: Plane) -> None:
    done = plane.cli("run", "--rm", "registry.test/nothing:1")
    assert done.returncode == 6
    assert "ErrImagePull" in done.stderr


def test_a_program_that_is_not_there(plane: Plane) -> None:
    done = plane.cli("run", "--rm", BUSYBOX, "--", "/nothing")
    assert done.returncode == 127
    assert "no such file" in done.stderr.lower()


def test_what_has_ended_is_kept_with_its_log_until_it_is_removed(plane: Plane) -> None:
    assert plane.cli("run", "--name", "kept", BUSYBOX, "--", "echo", "said").returncode == 0
    pod = plane.pod("kept")
    state = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (pod["status"]["phase"], state["reason"], state["exitCode"]) == ("Succeeded", "Completed", 0)
    assert plane.cli("logs", "kept").stdout == "said\n"
    assert [one["reason"] for one in json.loads(plane.cli("inspect", "kept").stdout)["events"]][-2:] == [
        "Created",
        "Started",
    ]
    assert plane.cli("rm", "kept").returncode == 0
    assert plane.cli("logs", "kept").returncode == 3
    assert not list((plane.state / "instances").iterdir())


def test_a_program_that_takes_too_much_memory_is_killed_alone(plane: Plane) -> None:
    hog = "tail /dev/zero"
    assert plane.cli("run", "--name", "hog", "--memory", "32Mi", BUSYBOX, "--", "sh", "-c", hog).returncode == 137
    state = plane.pod("hog")["status"]["containerStatuses"][0]["state"]["terminated"]
    assert state["reason"] == "OOMKilled"
    plane.cli("rm", "hog")


def test_a_daemon_that_is_killed_finds_all_again(plane: Plane) -> None:
    """Neither started twice nor lost; what ended meanwhile is told."""
    assert plane.cli("run", "-d", "--name", "stays", BUSYBOX, "--", "sleep", "1000").returncode == 0
    assert plane.cli("run", "-d", "--name", "ends", BUSYBOX, "--", "sh", "-c", "sleep 1.5; exit 4").returncode == 0
    before = _container(_until(plane, "stays", "Running"))
    _until(plane, "ends", "Running")
    containerd = plane.containerd()
    plane.kill()
    time.sleep(2)
    plane.start()
    assert plane.containerd() == containerd, "the containerd that ran is adopted"
    ended = _until(plane, "ends", "Failed")["status"]["containerStatuses"][0]
    assert (ended["state"]["terminated"]["exitCode"], ended["restartCount"]) == (4, 0)
    after = _until(plane, "stays", "Running")
    assert _container(after) == before
    assert after["status"]["containerStatuses"][0]["restartCount"] == 0
    assert plane.cli("rm", "-f", "stays", "ends").returncode == 0


def test_containerd_is_started_anew_and_containers_go_on(plane: Plane) -> None:
    import os
    import signal

    assert plane.cli("run", "-d", "--name", "on", BUSYBOX, "--", "sleep", "1000").returncode == 0
    before = _container(_until(plane, "on", "Running"))
    old = plane.containerd()
    os.kill(old.pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while plane.containerd() == old:
        assert time.monotonic() < deadline, plane.tail()
        time.sleep(0.1)
    done = plane.cli("run", "--rm", BUSYBOX, "--", "echo", "again")
    assert done.stdout == "again\n", done.stderr
    assert _container(plane.pod("on")) == before
    assert plane.cli("rm", "-f", "on").returncode == 0


def _container(pod: dict[str, Any]) -> str:
    return str(pod["status"]["containerStatuses"][0]["containerID"])


def _until(plane: Plane, name: str, phase: str) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while True:
        pod = plane.pod(name)
        if pod["status"]["phase"] == phase:
            return pod
        assert time.monotonic() < deadline, (pod, plane.tail())
        time.sleep(0.05)
