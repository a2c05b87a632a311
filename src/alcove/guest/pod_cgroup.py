"""Control groups (v2) in a pod's guest: one for the pod as a whole, in it one for each container."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import Any

from alcove.guest import cgroup

# Below the root of the hierarchy, as crun's configuration names it.
POD = "/pod"
_CONTROLLERS = ("cpu", "cpuset", "io", "memory", "pids")
_FREEZE_S = 5.0


def set_up() -> None:
    os.mkdir(cgroup.ROOT + POD)
    for folder in (cgroup.ROOT, cgroup.ROOT + POD):
        for controller in _CONTROLLERS:
            # One that the kernel was built without is nobody's.
            with contextlib.suppress(OSError):
                _write(f"{folder}/cgroup.subtree_control", f"+{controller}")
    # The agent, and crun, answer while containers want every cycle.
    with contextlib.suppress(OSError):
        _write(f"{cgroup.AGENT}/cpu.weight", "10000")


def limit(request: dict[str, Any]) -> None:
    """What the pod's containers may have together: ``memory_mib``, ``pids``; where it is not named it stays."""
    if request.get("memory_mib"):
        _write(f"{cgroup.ROOT}{POD}/memory.max", str(int(request["memory_mib"]) << 20))
    if request.get("pids"):
        _write(f"{cgroup.ROOT}{POD}/pids.max", str(int(request["pids"])))


def folder(id: str) -> str:
    return f"{cgroup.ROOT}{POD}/{id}"


def pids(id: str) -> list[int]:
    """Return the container's processes, those in groups that it made itself too."""
    found: list[int] = []
    for base, _, _ in os.walk(folder(id)):
        found += [int(line) for line in _read(f"{base}/cgroup.procs").split()]
    return sorted(found)


def signal_all(id: str, number: int) -> None:
    if number == signal.SIGKILL:
        with contextlib.suppress(FileNotFoundError):
            _write(f"{folder(id)}/cgroup.kill", "1")
        return
    for pid in pids(id):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def freeze(id: str, frozen: bool) -> None:
    """Stop the container's processes, or let them go on. Raises ``TimeoutError``, ``OSError``."""
    _write(f"{folder(id)}/cgroup.freeze", str(int(frozen)))
    deadline = time.monotonic() + _FREEZE_S
    while _numbers(f"{folder(id)}/cgroup.events").get("frozen") != int(frozen):
        if time.monotonic() > deadline:
            raise TimeoutError("the container's processes do not freeze")
        # They must run to stop.
        time.sleep(0.002)


def frozen(id: str) -> bool:
    return _numbers(f"{folder(id)}/cgroup.events").get("frozen") == 1


def out_of_memory_kills(id: str) -> int:
    return _numbers(f"{folder(id)}/memory.events").get("oom_kill", 0)


def stats(id: str) -> dict[str, Any]:
    """Return the kernel's numbers under the kernel's names; what it does not count is not there."""
    base = folder(id)
    memory: dict[str, Any] = {name: _one(f"{base}/memory.{name}") for name in ("current", "max", "peak")}
    memory |= {name: _numbers(f"{base}/memory.{name}") for name in ("stat", "events")}
    return {
        "memory": memory,
        "cpu": _numbers(f"{base}/cpu.stat"),
        "pids": {name: _one(f"{base}/pids.{name}") for name in ("current", "max")},
        "io": [_disk(line) for line in _read(f"{base}/io.stat").splitlines()],
    }


def _disk(line: str) -> dict[str, int]:
    device, *fields = line.split()
    major, _, minor = device.partition(":")
    numbers = {name: int(value) for name, _, value in (field.partition("=") for field in fields)}
    return {"major": int(major), "minor": int(minor), **numbers}


def _one(path: str) -> int | str | None:
    text = _read(path).strip()
    return int(text) if text.isdigit() else text or None


def _numbers(path: str) -> dict[str, int]:
    pairs = (line.split() for line in _read(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2}


def _read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""


def _write(path: str, value: str) -> None:
    with open(path, "w") as file:
        file.write(value)
