"""What pods are billed for, by what a real containerd tells of them, over kills of the daemon."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from typing import Any

from tests.instances.conftest import BUSYBOX
from tests.instances.plane import Plane

from alcove.instances.cri import Cri
from alcove.instances.view import container_view

# The state of machines is kept between runs, and bills with it.
NAME = f"billed-{secrets.token_hex(4)}"
TALKS = f"talks-{secrets.token_hex(4)}"
KILLS = 4
PODS = 4


def used(plane: Plane) -> dict[str, dict[str, Any]]:
    return {one["instance"]: one for one in plane.call("GET", "/alcove/v1/usage/instances")["instances"]}


async def told(plane: Plane) -> dict[str, int]:
    """Return for how many milliseconds each pod ran, as the runtime says itself."""
    cri = Cri(plane.run / "containerd/containerd.sock")
    try:
        found = {}
        for item in await cri.containers({}):
            view = container_view(item, await cri.container(item["id"]))
            assert view.exited
            found[item["labels"]["io.kubernetes.pod.name"]] = view.finished_ms - view.started_ms
        return found
    finally:
        cri.close()


def ended(plane: Plane) -> bool:
    return all(one["status"]["phase"] == "Succeeded" for one in plane.call("GET", "/alcove/v1/pods")["items"])


def test_kills_at_any_moment_bill_no_second_twice_or_never(plane: Plane) -> None:
    chance = random.Random(4)
    for number in range(PODS):
        sleeps = f"sleep {0.5 + 1.2 * number}"
        done = plane.cli("run", "-d", "--name", f"{NAME}-{number}", "--cpus", "0.5", BUSYBOX, "--", "sh", "-c", sleeps)
        assert done.returncode == 0, done.stderr
        if number < KILLS:
            time.sleep(chance.uniform(0, 0.4))
            plane.kill()
            plane.start()
    deadline = time.monotonic() + 60
    while not ended(plane):
        assert time.monotonic() < deadline, plane.tail()
        time.sleep(0.1)
    truth = asyncio.run(told(plane))
    assert len(truth) == PODS
    found = used(plane)
    assert {name: found[name]["run_ms"] for name in truth} == truth
    assert all(found[name]["milli_vcpu_ms"] == 500 * ran for name, ran in truth.items())
    # Removed, and the daemon killed in the midst of it: nothing is billed anew.
    plane.cli("rm", f"{NAME}-0")
    plane.call("DELETE", f"/alcove/v1/pods/{NAME}-1")
    plane.kill()
    plane.start()
    for number in range(1, PODS):
        plane.cli("rm", "-f", f"{NAME}-{number}")
    after = used(plane)
    assert {name: after[name]["run_ms"] for name in truth} == truth


def test_what_runs_is_billed_until_now_and_what_it_sent_is_counted(plane: Plane) -> None:
    script = "ping -c 50 -i 0.02 -s 1000 -w 5 10.198.0.1 >/dev/null; sleep 1000"
    assert plane.cli("run", "-d", "--name", TALKS, BUSYBOX, "--", "sh", "-c", script).returncode == 0
    deadline = time.monotonic() + 60
    while (one := used(plane).get(TALKS, {})).get("sent_bytes", 0) < 50_000 or not one["run_ms"]:
        assert time.monotonic() < deadline, (one, plane.tail())
        time.sleep(0.5)
    assert one["sent_bytes"] < 100_000
    (interval,) = plane.call("GET", f"/alcove/v1/usage/intervals?instance={TALKS}")["intervals"]
    assert (interval["milli_vcpu"], interval["memory_mib"], interval["disk_mib"]) == (1000, 2048, 10_240)
    # While the daemon is away it runs on, and is billed for that.
    plane.kill()
    time.sleep(2)
    plane.start()
    deadline = time.monotonic() + 60
    while used(plane)[TALKS]["run_ms"] < one["run_ms"] + 2000:
        assert time.monotonic() < deadline, plane.tail()
        time.sleep(0.5)
    plane.cli("rm", "-f", TALKS)
    (last,) = plane.call("GET", f"/alcove/v1/usage/intervals?instance={TALKS}")["intervals"]
    assert used(plane)[TALKS]["run_ms"] == last["until_ms"] - last["begin_ms"]
    assert TALKS in plane.cli("usage", "--instance", TALKS).stdout
