"""The guest's control groups (v2): the agent in one, everything of the tenant's in another."""

from __future__ import annotations

import os
import time

ROOT = "/sys/fs/cgroup"
TENANT = ROOT + "/tenant"
AGENT = ROOT + "/agent"
# Until the host says what the function may have: the largest function's.
DEFAULT_MEMORY_MIB = 3008
DEFAULT_PIDS = 512


# Opened once: opening one costs a restored machine more than writing to it.
_open: dict[str, int] = {}


def write(name: str, value: str) -> None:
    fd = _open.get(name, -1)
    if fd < 0:
        fd = _open[name] = os.open(f"{TENANT}/{name}", os.O_WRONLY | os.O_CLOEXEC)
    os.write(fd, value.encode())


def read(name: str) -> str:
    fd = os.open(f"{TENANT}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 65536).decode()
    finally:
        os.close(fd)


def set_up() -> None:
    os.mkdir(AGENT)
    os.mkdir(TENANT)
    with open(AGENT + "/cgroup.procs", "w") as file:
        file.write(str(os.getpid()))
    with open(ROOT + "/cgroup.subtree_control", "w") as file:
        file.write("+memory +pids")
    # A workload that runs out of memory ends as a whole, not limping without one of its processes.
    write("memory.oom.group", "1")
    limit(DEFAULT_MEMORY_MIB, DEFAULT_PIDS)


def join() -> None:
    """Move the calling process into the tenant's group."""
    write("cgroup.procs", "0")


def limit(memory_mib: int, pids: int) -> None:
    write("memory.max", str(memory_mib << 20))
    write("pids.max", str(pids))


def freeze() -> None:
    """Stop every process of the tenant's, and wait until the kernel says that they stand still."""
    write("cgroup.freeze", "1")
    for _ in range(5_000):
        if "frozen 1" in read("cgroup.events"):
            return
        # They must run to stop, and beside the agent, which has priority, they run only while it sleeps.
        time.sleep(0.002)
    raise TimeoutError("the tenant's processes do not freeze")


def thaw() -> None:
    write("cgroup.freeze", "0")


def out_of_memory_kills() -> int:
    for line in read("memory.events").splitlines():
        key, _, value = line.partition(" ")
        if key == "oom_kill":
            return int(value)
    return 0
