"""All that pods have on this machine, by kind: what is there before a pod is made is all there is when it is gone."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.instances.plane import Plane, machines, vacant

from alcove.host.files import instance_tag

Traces = frozenset[str]


def traces(plane: Plane) -> Traces:
    """Return what pods of this server have: processes, networks, cgroups, mounts, records, images' leases."""
    waiting = vacant(plane.state)
    found = frozenset(
        [
            *(f"machine {pid}" for pid in machines(plane.state)),
            *(f"shim {pid}" for pid in shims(plane)),
            *_files(plane),
            *_networks(plane),
            *_mounts(plane),
            *(f"cgroup {path}" for path in _cgroups(instance_tag(plane.state))),
            *_containerds(plane),
        ]
    )
    return frozenset(name for name in found if name.rpartition("/")[2] not in waiting)


def lasting(plane: Plane) -> Traces:
    """Return what is there that is no pod's."""
    pods = ("machine", "shim", "cgroup", "task", "container")
    return frozenset(name for name in traces(plane) if not name.startswith(pods))


def settled(plane: Plane, before: Traces, timeout_s: float = 30.0) -> list[str]:
    """Return what is there that was not; wait for it to go."""
    deadline = time.monotonic() + timeout_s
    while (left := sorted(traces(plane) - before)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return left


def shims(plane: Plane) -> list[int]:
    """Return the pids of our shims' processes, of all pods."""
    program, found = str(plane.state / "containerd"), []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes().decode(errors="replace") if folder.name.isdigit() else ""
            if "containerd-shim" in words and (program in words or str(plane.run / "containerd") in words):
                found.append(int(folder.name))
    return found


def _mounts(plane: Plane) -> Iterator[str]:
    for line in Path("/proc/mounts").read_text().splitlines():
        if str(plane.state) in line or str(plane.run) in line:
            yield f"mount {line.split()[1]}"


def _files(plane: Plane) -> Iterator[str]:
    globs = (
        (plane.state, "pods/*"),
        (plane.state, "instances/*"),
        (plane.state, "containerd/addresses/*/10.*"),
        (plane.run, "shims/*.sock"),
        (plane.run, "containerd/state/io.containerd.grpc.v1.cri/*/*"),
        (plane.run, "containerd/state/io.containerd.runtime.v2.task/*/*"),
        (plane.state, "containerd/root/io.containerd.runtime.v2.task/*/*"),
        (plane.state, "containerd/root/io.containerd.grpc.v1.cri/*/*"),
    )
    for folder, pattern in globs:
        yield from (f"file {path}" for path in folder.glob(pattern))


def _networks(plane: Plane) -> Iterator[str]:
    bridge = Path(f"/sys/class/net/alc{instance_tag(plane.state)}p/brif")
    if bridge.is_dir():
        yield from (f"port {port}" for port in os.listdir(bridge))
    with contextlib.suppress(OSError):
        yield from (f"netns {name}" for name in os.listdir("/run/netns") if name.startswith("cni-"))
    rules = subprocess.run(["iptables-save", "-t", "nat"], capture_output=True, text=True, check=False).stdout
    # Chains of the plugins' own, which they leave for the next pod, are no pod's.
    yield from (f"rule {line}" for line in rules.splitlines() if f"alc{instance_tag(plane.state)}p" in line)


def _cgroups(tag: str) -> Iterator[Path]:
    for base in ("*/alcove-{}/p-*", "alcove-{}/p-*"):
        yield from Path("/sys/fs/cgroup").glob(base.format(tag))


def _containerds(plane: Plane) -> Iterator[str]:
    """What containerd itself knows, images apart."""
    socket = plane.run / "containerd/containerd.sock"
    if not socket.exists():
        return
    for what, words in (
        ("task", ("tasks", "ls", "-q")),
        ("container", ("containers", "ls", "-q")),
        ("lease", ("leases", "ls", "-q")),
        ("snapshot", ("snapshots", "ls")),
    ):
        command = ["/usr/bin/ctr", "--address", str(socket), "-n", "k8s.io", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        for line in done.stdout.splitlines():
            if what != "snapshot" or line.rstrip().endswith("Active"):
                yield f"{what} {line.split()[0]}"
