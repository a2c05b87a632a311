"""Logs of a real container that prints fast: bounded on the disk, and read whole over their rotations."""

from __future__ import annotations

import time
from pathlib import Path

from tests.instances.conftest import BUSYBOX
from tests.instances.plane import Plane

from alcove.instances import log_chain

# About 40 MiB with CRI's words before each: four rotations, all of whose files are kept.
LINES = 800_000
MANY = 3_000_000


def files(plane: Plane, name: str) -> list[Path]:
    return list((plane.state / "instances" / plane.pod(name)["metadata"]["uid"] / "logs").glob("*/*"))


def shape(plane: Plane, name: str) -> list[tuple[str, int, list[bytes]]]:
    """Tell how the files of a log join: names, sizes, first and last lines."""
    found = []
    for path in sorted(files(plane, name)):
        lines = path.read_bytes().splitlines()
        found.append((path.name, path.stat().st_size, [*lines[:1], *lines[-2:]]))
    return found


def test_a_log_is_read_whole_while_it_is_rotated(plane: Plane) -> None:
    # It rests at the end: what a program has in the pipes when it ends, containerd 1.6 may lose under load.
    script = f"sleep 1; seq {LINES}; echo said >&2; sleep 3"
    assert plane.cli("run", "-d", "--name", "prints", BUSYBOX, "--", "sh", "-c", script).returncode == 0
    followed = plane.cli("logs", "-f", "prints")
    assert followed.returncode == 0, followed.stderr
    expected = "".join(f"{number}\n" for number in range(1, LINES + 1))
    assert followed.stdout == expected, (len(followed.stdout), followed.stdout[-40:], shape(plane, "prints"))
    assert followed.stderr == "said\n"
    assert len(files(plane, "prints")) > 2, "it was not rotated"
    assert plane.cli("logs", "prints").stdout == expected
    # Two streams: which of them comes last is not known.
    last = plane.cli("logs", "prints", "--tail", "3", "--timestamps").stdout.splitlines()
    assert [line.split()[1] for line in last[-2:]] == [str(LINES - 1), str(LINES)]
    assert plane.cli("logs", "prints", "--since", "1h").stdout == expected
    assert plane.cli("logs", "prints", "--since", "2100-01-01T00:00:00Z").stdout == ""
    plane.cli("rm", "-f", "prints")


def test_a_log_has_a_bound_and_its_end_is_kept(plane: Plane) -> None:
    script = f"seq {MANY}; sleep 1000"
    assert plane.cli("run", "-d", "--name", "floods", BUSYBOX, "--", "sh", "-c", script).returncode == 0
    deadline = time.monotonic() + 100
    while plane.cli("logs", "floods", "--tail", "1").stdout != f"{MANY}\n":
        assert time.monotonic() < deadline, plane.tail()
        time.sleep(0.5)
    found = files(plane, "floods")
    assert len(found) <= log_chain.KEPT + 1
    assert sum(path.stat().st_size for path in found) <= log_chain.CONTAINER_LIMIT
    numbers = [int(line) for line in plane.cli("logs", "floods").stdout.splitlines()]
    assert numbers == list(range(numbers[0], MANY + 1))
    plane.cli("rm", "-f", "floods")


def test_the_log_before_a_restart(plane: Plane) -> None:
    script = "echo one; cat /proc/sys/kernel/random/uuid; exit 1"
    plane.call(
        "POST",
        "/alcove/v1/pods",
        {
            "metadata": {"name": "again"},
            "spec": {"containers": [{"name": "c", "image": BUSYBOX, "command": ["sh", "-c", script]}]},
        },
    )
    deadline = time.monotonic() + 60
    while plane.pod("again")["status"].get("containerStatuses", [{}])[0].get("restartCount", 0) < 1:
        assert time.monotonic() < deadline, plane.tail()
        time.sleep(0.2)
    before = plane.cli("logs", "--previous", "again").stdout
    assert before.startswith("one\n")
    while (now := plane.cli("logs", "again").stdout).count("\n") < 2:
        assert time.monotonic() < deadline, plane.tail()
    assert now != before
    plane.cli("rm", "-f", "again")
