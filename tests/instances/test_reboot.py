"""A host that is restarted: what ran has ended then and not later, what shall run does, and nothing else is left."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from tests.instances.conftest import BUSYBOX
from tests.instances.plane import Plane
from tests.instances.reboot import Host
from tests.instances.traces import lasting, settled, traces

# Bills are kept between runs.
SUFFIX = secrets.token_hex(4)
ONCE, AGAIN, DONE, GOING = (f"{name}-{SUFFIX}" for name in ("once", "again", "done", "going"))
AWAY_S = 5.0
_SCRIPT = ("sh", "-c", "trap '' TERM; echo begun; sleep 1000 & wait; wait")


def test_a_host_that_is_restarted(plane: Plane) -> None:
    assert plane.cli("run", "--rm", BUSYBOX, "--", "true").returncode == 0
    assert settled(plane, lasting(plane)) == []
    before = traces(plane)
    host = Host(plane)
    assert plane.cli("run", "--name", DONE, BUSYBOX, "--", "echo", "over").returncode == 0
    plane.call("POST", "/alcove/v1/pods", _always(AGAIN))
    for name in (ONCE, GOING):
        done = plane.cli("run", "-d", "--name", name, BUSYBOX, "--", *_SCRIPT)
        assert done.returncode == 0, done.stderr
    _until(plane, lambda: plane.pod(AGAIN)["status"]["phase"] == "Running")
    # What it was billed for until now is proven; more than until now it cannot be.
    used_ms = _used_ms(plane, ONCE)
    plane.call("DELETE", f"/alcove/v1/pods/{GOING}?grace=1000")
    lost_s = time.time()
    host.lose_power()
    on_disk = f"file {plane.state}/"
    assert [name for name in settled(plane, before, 0) if not name.startswith(on_disk)] == []
    time.sleep(AWAY_S)
    host.boot()
    _until(plane, lambda: _ended(plane, ONCE) and _runs(plane, AGAIN) and GOING not in _names(plane))
    ending = _container(plane, ONCE)["state"]["terminated"]
    assert (plane.pod(ONCE)["status"]["phase"], ending["exitCode"]) == ("Failed", 255)
    assert _container(plane, AGAIN)["restartCount"] == 1
    assert _container(plane, DONE)["state"]["terminated"]["exitCode"] == 0
    for name, printed in ((DONE, "over\n"), (ONCE, "begun\n"), (AGAIN, "begun\n")):
        assert plane.cli("logs", name).stdout == printed
    assert plane.cli("logs", "--previous", AGAIN).stdout == "begun\n"
    # A volume in memory is there again, and as large as it was.
    filled = plane.cli("exec", AGAIN, "--", "sh", "-c", "ls /m; dd if=/dev/zero of=/m/big bs=4096 count=500")
    assert (filled.stdout, "No space left" in filled.stderr) == ("", True)
    # In whole seconds, as Kubernetes tells it, it may have begun a second later.
    ran_s = lost_s - datetime.fromisoformat(ending["startedAt"]).timestamp()
    assert used_ms <= _used_ms(plane, ONCE) <= ran_s * 1000
    assert plane.cli("rm", "-f", ONCE, AGAIN, DONE).returncode == 0
    assert settled(plane, before) == [], plane.tail()


def _always(name: str) -> dict[str, Any]:
    """With a volume in memory."""
    mount = {"name": "m", "mountPath": "/m"}
    container = {"name": "main", "image": BUSYBOX, "command": list(_SCRIPT), "volumeMounts": [mount]}
    volume = {"name": "m", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}
    return {"metadata": {"name": name}, "spec": {"containers": [container], "volumes": [volume]}}


def _names(plane: Plane) -> list[str]:
    return [one["metadata"]["name"] for one in plane.call("GET", "/alcove/v1/pods")["items"]]


def _container(plane: Plane, name: str) -> dict[str, Any]:
    return dict(plane.pod(name)["status"]["containerStatuses"][0])


def _ended(plane: Plane, name: str) -> bool:
    return plane.pod(name)["status"]["phase"] in ("Succeeded", "Failed")


def _runs(plane: Plane, name: str) -> bool:
    one = _container(plane, name)
    return one["restartCount"] > 0 and "running" in one["state"]


def _used_ms(plane: Plane, name: str) -> int:
    found = plane.call("GET", "/alcove/v1/usage/instances")["instances"]
    return next(int(one["run_ms"]) for one in found if one["instance"] == name)


def _until(plane: Plane, done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 90
    while not done():
        assert time.monotonic() < deadline, plane.tail()
        time.sleep(0.1)
