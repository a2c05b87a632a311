"""Root in a container with all there is to have: what is shared stays as it was, the neighbours and the host notice
nothing, and its own machine is all that it can end.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.machine import pod_guest
from tests.machine.lab import Lab, until
from tests.machine.pod_guest import PodGuest
from tests.machine.podlab import PodLab

from alcove.sandbox.agent import AgentClient, AgentError

pytestmark = [pytest.mark.machine, pytest.mark.asyncio(loop_scope="session")]

MIB = 1 << 20
_TOOLS = "blockdev cat dd head ls mkdir mknod mount printf sh sleep sync timeout yes"
APPLETS = tuple(_TOOLS.split())
# Every capability of Linux 6.1.
_NAMES = """
CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN
SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE
MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE
"""
CAPABILITIES = [f"CAP_{name}" for name in _NAMES.split()]
# A qcow2 header (version 2) that asks for a file of the host's behind it.
HEADER = r"QFI\373\000\000\000\002\000\000\000\000\000\000\020\000\000\000\000\013\000\000\000\020"
# Make a node of each disk there is, and write to it by every way: which of them took it?
WRITE_ALL = f"""
mkdir /nodes
for disk in /sys/class/block/vd*; do
    name=${{disk##*/}}; IFS=: read major minor < $disk/dev
    mknod /nodes/$name b $major $minor
    blockdev --setrw /nodes/$name 2>/dev/null
    if printf '{HEADER}' | dd of=/nodes/$name conv=notrunc,fsync 2>/dev/null; then echo $name; fi
done
for folder in / /proc /sys /dev; do mount -o remount,rw $folder 2>/dev/null; done
mount -t devtmpfs none /dev 2>/dev/null
true
"""
# A port that nobody has open on the host lets a writer wait.
PORTS = """
for port in /sys/class/virtio-ports/*; do
    IFS=: read major minor < $port/dev
    mknod /${port##*/} c $major $minor
    timeout 3 sh -c "printf garbage > /${port##*/}" && echo wrote $(cat $port/name)
    echo tried $(cat $port/name)
done
true
"""
SHADOWED = "mount -t tmpfs none /proc; mkdir /proc/self /proc/1; echo lie > /proc/self/status; sleep 1000"
ATTACKS = {
    "forks": "f() { f | f & }; f; sleep 1000",
    "hog": "while true; do set -- $@ xxxxxxxxxxxxxxxx$@; done",
    "loops": "while true; do :; done & while true; do :; done & while true; do :; done",
    "disk": "while true; do dd if=/dev/zero of=/fill bs=65536 2>/dev/null; done",
    "output": "yes & yes >&2",
}


# What another user of this host gets into of the paths that it is told.
STRANGER = """
import os, socket, sys
for path in sys.argv[1:]:
    try:
        if os.path.isdir(path):
            os.listdir(path)
        else:
            socket.socket(socket.AF_UNIX).connect(path)
    except PermissionError:
        continue
    print(path)
"""


def privileged(*words: str) -> dict[str, Any]:
    spec = pod_guest.spec(*words, resources={"devices": [{"allow": True, "access": "rwm"}]})
    sets = ("bounding", "effective", "permitted", "inheritable")
    spec["process"]["capabilities"] = dict.fromkeys(sets, CAPABILITIES)
    for mount in spec["mounts"]:
        mount["options"] = [option for option in mount["options"] if option != "ro"]
    return spec


class HostilePod:
    """A pod with an image, a container of it at a time, and the shim's place at its agent."""

    def __init__(self, pods: PodLab, name: str, guest: PodGuest, started: dict[str, Any]) -> None:
        self.pods, self.name, self.guest, self.started = pods, name, guest, started
        self._count = 0

    async def begin(self, script: str, spec: dict[str, Any] | None = None) -> tuple[str, int]:
        """Start a container with all privileges; return its name, and the agent's number for its process."""
        self._count += 1
        id = f"c{self._count}"
        fields = {"image": "layers", "pid": "container", "terminal": False, "stdin": False}
        spec = spec or privileged("/bin/sh", "-c", script)
        made = await self.guest.agent.request("create_container", id=id, spec=spec, **fields)
        await self.guest.agent.request("start_container", id=id)
        return id, int(made["process"])

    async def run(self, script: str) -> str:
        """Run it to its end; return what it printed."""
        id, number = await self.begin(script)
        await self.guest.end(number)
        await self.guest.agent.request("delete_container", id=id)
        return bytes(self.guest.printed.get(number, b"")).decode()


@pytest.fixture(scope="module")
def layers(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    below, above = (tmp_path_factory.mktemp(name) for name in ("below", "above"))
    for name in pod_guest.FOLDERS:
        (below / name).mkdir()
    shutil.copy("/bin/busybox", below / "bin/busybox")
    (below / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\n")
    for name in APPLETS:
        (below / "bin" / name).symlink_to("busybox")
    (above / "shared").write_text("as it was\n")
    return [below, above]


@pytest_asyncio.fixture(loop_scope="session")
async def pods(lab: Lab) -> AsyncIterator[PodLab]:
    pods = PodLab(lab)
    await pods.service.recover()
    await pods.end_all()
    yield pods
    await pods.close()
    assert pods.leftovers() == []


@asynccontextmanager
async def pod(pods: PodLab, name: str, layers: list[Path]) -> AsyncIterator[HostilePod]:
    started = await pods.ask("start_pod", pod=name)
    agent = await AgentClient.connect(Path(started["agent"]))
    try:
        await agent.hello(30)
        attached = await pods.ask("attach_image", pod=name, layers=[str(layer) for layer in layers])
        await agent.request("mount_image", name="layers", **attached)
        yield HostilePod(pods, name, PodGuest(agent, None), started)  # type: ignore[arg-type]
    finally:
        agent.close()


def digests(lab: Lab) -> dict[str, str]:
    """Of all that guests have read-only: layers of images, and the guest's own."""
    files = [*(lab.state / "images/layers").glob("*.squashfs"), *(lab.state / "images").glob("guest-pod/*/*")]
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files if file.is_file()}


async def nodes(pods: PodLab, name: str) -> list[dict[str, Any]]:
    (one,) = [one for key, one in pods.service._pods.items() if key.pod == name]
    return list(await one.machine.monitor.execute("query-named-block-nodes"))


async def test_it_changes_nothing_that_is_shared(pods: PodLab, layers: list[Path]) -> None:
    """Neither image nor another pod's disk; its own disk is never taken for more than bytes."""
    async with AsyncExitStack() as stack:
        hostile = await stack.enter_async_context(pod(pods, "hostile", layers))
        neighbour = await stack.enter_async_context(pod(pods, "neighbour", layers))
        own = await pods.ask("attach_disk", pod="hostile", name="own", bytes=8 * MIB)
        other = await pods.ask("attach_disk", pod="neighbour", name="own", bytes=8 * MIB)
        await neighbour.guest.agent.request("mount_disk", name="own", **other)
        before = digests(pods.lab)
        assert len(before) > len(layers)
        written = set((await hostile.run(WRITE_ALL)).split())
        # The machine's writable layer and its own disk; partitions of the image, and the guest's root, refuse.
        assert own["device"] in written
        assert not written & {"vda", "vdc", "vdc1", "vdc2"}, written
        shown = await neighbour.run("cat /shared; ls /nodes")
        assert shown.startswith("as it was\n")
        await pods.restart()
        assert await pods.ask("attach_disk", pod="hostile", name="own", bytes=8 * MIB) == own
        found = await nodes(pods, "hostile")
        assert {node["drv"] for node in found} <= {"raw", "file", "null-co", "throttle", "vmdk"}
        assert not [node for node in found if node["drv"] != "vmdk" and node.get("backing_file")]
        # What was written there is all that can be: the file has the bytes, and they are no header to anybody.
        await pods.ask("stop_pod", pod="hostile")
        assert digests(pods.lab) == before
        assert (await neighbour.run("cat /shared")) == "as it was\n"


@pytest.mark.parametrize("attack", ATTACKS)
async def test_the_neighbour_keeps_its_speed(pods: PodLab, layers: list[Path], attack: str) -> None:
    async with AsyncExitStack() as stack:
        hostile = await stack.enter_async_context(pod(pods, "hostile", layers))
        neighbour = await stack.enter_async_context(pod(pods, "neighbour", layers))
        hostile.guest.silent = attack == "output"
        await hostile.begin(ATTACKS[attack])
        await asyncio.sleep(2)
        worst = 0.0
        for _ in range(5):
            began = time.perf_counter()
            assert await neighbour.run("cat /shared") == "as it was\n"
            worst = max(worst, time.perf_counter() - began)
        assert worst < 5.0
        # The host keeps its hands on it: its agent answers, or its machine is gone, and it ends when it shall.
        pid = hostile.started["machine"]["pid"]
        if os.path.exists(f"/proc/{pid}"):
            await hostile.guest.agent.hello(30)
        if attack == "output":
            assert sum(map(len, hostile.guest.printed.values())) < MIB
        began = time.perf_counter()
        await pods.ask("stop_pod", pod="hostile")
        assert time.perf_counter() - began < 10


async def test_it_reaches_the_agent_by_no_port_and_no_proc(pods: PodLab, layers: list[Path]) -> None:
    async with pod(pods, "hostile", layers) as hostile:
        tried = (await hostile.run(PORTS)).splitlines()
        assert "tried alcove.agent" in tried
        assert "wrote alcove.agent" not in tried
        await hostile.guest.agent.hello(10)
        id, _ = await hostile.begin(SHADOWED)
        await asyncio.sleep(0.5)
        # An exec into what lies about /proc runs in it or is refused, and nowhere else.
        with contextlib.suppress(AgentError):
            number = await hostile.guest.execute(id, "e", "/bin/cat", "/shared")
            await hostile.guest.end(number)
            assert bytes(hostile.guest.printed.get(number, b"")) in (b"as it was\n", b"")
        await hostile.guest.agent.request("delete_container", id=id)
        assert await hostile.run("cat /shared") == "as it was\n"


async def test_floods_of_containers_execs_and_words_have_an_end(pods: PodLab, layers: list[Path]) -> None:
    async with pod(pods, "hostile", layers) as hostile:
        agent = hostile.guest.agent
        id, _ = await hostile.begin("sleep 1000")
        named = {"terminal": False, "stdin": False, "process": pod_guest.process("/bin/sleep", "1000")}
        refused = None
        for number in range(1100):
            try:
                await agent.request("exec_create", id=id, exec=f"e{number}", **named)
            except AgentError as error:
                refused = str(error)
                break
        assert refused is not None
        deep: Any = "x"
        for _ in range(500):
            deep = [deep]
        for spec in (
            privileged("/bin/sh") | {"annotations": {f"a{n}": "x" * 1000 for n in range(3000)}},
            privileged("/bin/sh") | {"mounts": [{"destination": deep}]},
            privileged(*["x" * 100_000] * 30),
            privileged("/bin/sh") | {"root": {"path": "/"}, "linux": {"namespaces": "all"}},
        ):
            # Refused in words, or run as it says: it is the agent that must come through.
            with contextlib.suppress(AgentError):
                await hostile.begin("", spec)
        await agent.hello(10)
        assert await hostile.run("cat /shared") == "as it was\n"


async def test_a_guest_that_crashes_ends_alone(pods: PodLab, layers: list[Path]) -> None:
    async with AsyncExitStack() as stack:
        hostile = await stack.enter_async_context(pod(pods, "hostile", layers))
        neighbour = await stack.enter_async_context(pod(pods, "neighbour", layers))
        pid = hostile.started["machine"]["pid"]
        await hostile.begin("echo c > /proc/sysrq-trigger; sleep 1000")
        await until(lambda: not os.path.exists(f"/proc/{pid}"), 30)
        assert await neighbour.run("cat /shared") == "as it was\n"


async def test_nobody_else_reaches_what_is_a_pods(pods: PodLab, layers: list[Path]) -> None:
    """Its sockets and its folder are root's and its own machine's: not those of whoever else is on this host."""
    async with pod(pods, "hostile", layers) as hostile:
        state = pods.lab.state.resolve()
        sockets = [path for path in state.rglob("*") if path.is_socket()]
        assert Path(hostile.started["agent"]).resolve() in sockets
        folders = list((state / "pods").iterdir())
        assert folders
        tried = [str(path) for path in (*sockets, *folders)]
        done = await asyncio.to_thread(
            subprocess.run, ["/usr/bin/python3", "-c", STRANGER, *tried], user=65534, group=65534, extra_groups=[],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout == ""
