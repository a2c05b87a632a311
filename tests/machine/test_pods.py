"""Pods in real machines: network taken over, images and disks put into slots, ends that leave nothing."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from tests.machine.lab import until
from tests.machine.podlab import OTHER_POD, POD, POD_6, PodLab, add_more, pings, pings_6, pod_network

from alcove.errors import InvalidRequest
from alcove.host.process import start_time
from alcove.pods.host import PodHost
from alcove.pods.shape import Shape
from alcove.pods.starting import Starter
from alcove.sandbox.agent import AgentError
from alcove.sandbox.scratch_guard import ScratchGuard
from alcove.vmm.machine import Machine

pytestmark = [pytest.mark.machine, pytest.mark.asyncio(loop_scope="session")]

MIB = 1 << 20
# Write until the disk is full, and say how much went in.
FILL = """
import errno, os
fd, held = os.open("/run/alcove/disks/cache/fill", os.O_WRONLY | os.O_CREAT), 0
try:
    while True:
        held += os.write(fd, bytes(65536))
except OSError as error:
    assert error.errno == errno.ENOSPC
print(held)
"""


@pytest.mark.parametrize("model", ["tcfilter", "macvtap"])
async def test_a_pod_takes_over_its_network_and_gives_it_back(pods: PodLab, model: str) -> None:
    with pod_network() as network:
        before = network.describe()
        annotations = {"io.alcove.network-model": model}
        started = await pods.ask("start_pod", pod="net", netns=network.path, hostname="web", annotations=annotations)
        assert started["interfaces"][0]["mac"] == before["mac"]
        assert pings(POD)
        async with pods.guest(started) as guest:
            assert (await guest.run("/bin/cat", "/sys/class/net/eth0/address"))[1].strip() == before["mac"]
            assert (await guest.run("/bin/cat", "/proc/sys/kernel/hostname"))[1].strip() == "web"
        assert (await pods.ask("pod_stats", pod="net"))["network"][0]["rx_bytes"] > 0
        # Asked again, the same machine.
        assert await pods.ask("start_pod", pod="net", netns=network.path, annotations=annotations) == started
        await pods.ask("stop_pod", pod="net")
        assert network.describe() == before


async def test_images_and_disks_go_into_slots(pods: PodLab, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "hello").write_text("from the image\n")
    above = tmp_path / "above"
    above.mkdir()
    (above / "hello").write_text("from the layer above\n")
    layers = [str(tree), str(above)]
    started = await pods.ask("start_pod", pod="slots")
    async with pods.guest(started) as guest:
        attached = await pods.ask("attach_image", pod="slots", layers=layers)
        assert attached == {"device": "vdc", "partitions": 2}
        agent = guest.agent
        mount = {"op": "mount_image", "name": "image", **attached}
        unmount = {"op": "unmount_image", "name": "image"}
        await agent.batch(mount)
        for number, words in ((1, "from the image\n"), (2, "from the layer above\n")):
            assert (await guest.run("/bin/cat", f"/run/alcove/images/image/{number}/hello"))[1] == words
        await agent.batch(unmount)
        # Counted: the second time it goes.
        assert await pods.ask("attach_image", pod="slots", layers=layers) == attached
        for _ in range(2):
            await pods.ask("detach_image", pod="slots", device="vdc")
        with pytest.raises(AgentError):
            await agent.batch(mount)
        assert await pods.ask("attach_image", pod="slots", layers=layers) == attached
        await agent.batch(mount)

        settings = [f"/sys/block/vdk/queue/{name}" for name in ("scheduler", "iostats", "wbt_lat_usec")]
        assert (await guest.run("/bin/cat", *settings))[1].split() == ["[none]", "mq-deadline", "0", "0"]

        # As large as no disk without hidden blocks is: a group of blocks ends there.
        size = 31_601 * 4096
        disk = await pods.ask("attach_disk", pod="slots", name="cache", bytes=size)
        assert disk == {"device": "vdk", "fresh": False}
        assert await pods.ask("attach_disk", pod="slots", name="cache", bytes=size) == disk
        with pytest.raises(InvalidRequest):
            await pods.ask("attach_disk", pod="slots", name="cache", bytes=size + 4096)
        await agent.batch({"op": "mount_disk", "name": "cache", **disk})
        held = int((await guest.run("/usr/bin/python3.11", "-c", FILL))[1])
        # Less the block that maps the file's extents, where it needs one.
        assert size - 8192 <= held <= size


async def test_a_daemon_that_restarts_adopts_the_pod(pods: PodLab, tmp_path: Path) -> None:
    began = time.time()
    with pod_network() as network:
        started = await pods.ask("start_pod", pod="kept", netns=network.path)
        first = await pods.ask("attach_disk", pod="kept", name="a", bytes=4 * MIB)
        # The image of a layer that containerd has removed goes with the next look.
        layer = tmp_path / "layer"
        layer.mkdir()
        (layer / "name").write_text(str(tmp_path))
        await pods.ask("attach_image", pod="kept", layers=[str(layer)])
        (made,) = [one for one in (pods.lab.state / "images/layers").glob("*.squashfs") if one.stat().st_mtime > began]
        layer.rename(tmp_path / "removed")
        await pods.restart()
        await until(lambda: not made.exists())
        assert (await pods.ask("pods"))["pods"][0]["machine"] == started["machine"]
        assert pings(POD)
        assert await pods.ask("attach_disk", pod="kept", name="a", bytes=4 * MIB) == first
        assert (await pods.ask("attach_disk", pod="kept", name="b", bytes=4 * MIB))["device"] == "vdl"
        await pods.ask("stop_pod", pod="kept")
        assert network.describe()["queues"] == []


async def test_a_pod_ends_with_its_shim(pods: PodLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alcove.pods.pod.SHIM_GRACE_S", 0.0)
    shim = subprocess.Popen(["sleep", "1000"])
    try:
        identity = {"pid": shim.pid, "start_time": start_time(shim.pid)}
        started = await pods.ask("start_pod", pod="orphan", shim=identity)
        assert (await pods.ask("pods"))["pods"]
    finally:
        shim.kill()
        shim.wait()
    pid = started["machine"]["pid"]
    await until(lambda: not os.path.exists(f"/proc/{pid}"))
    await until(lambda: not pods.leftovers())


@pytest.mark.parametrize("model", ["tcfilter", "macvtap"])
async def test_several_interfaces_and_ipv6(pods: PodLab, model: str) -> None:
    with pod_network() as network:
        add_more(network)
        before = network.describe()
        annotations = {"io.alcove.network-model": model}
        started = await pods.ask("start_pod", pod="cards", netns=network.path, annotations=annotations)
        assert [one["name"] for one in started["interfaces"]] == ["eth0", "net1"]
        assert pings(POD)
        assert pings(OTHER_POD)
        assert pings_6(POD_6)
        async with pods.guest(started) as guest:
            assert "net1" in (await guest.run("/bin/cat", "/proc/net/dev"))[1]
            routes = (await guest.run("/bin/cat", "/proc/net/ipv6_route"))[1]
            assert any(line.split()[1] == "00" and line.endswith("eth0") for line in routes.splitlines())
        names = [one["name"] for one in (await pods.ask("pod_stats", pod="cards"))["network"]]
        assert names == ["eth0", "net1"]
        await pods.ask("stop_pod", pod="cards")
        assert network.describe() == before


@pytest.mark.parametrize(("cpus", "memory_mib"), [(2, 15_744), (4, 64), (8, 64)])
async def test_machines_of_every_shape(pods: PodLab, cpus: int, memory_mib: int) -> None:
    started = await pods.ask("start_pod", pod="shape", cpus=cpus, memory_mib=memory_mib)
    async with pods.guest(started) as guest:
        assert (await guest.run("/bin/cat", "/sys/devices/system/cpu/online"))[1] == f"0-{cpus - 1}\n"
        limit = (await guest.run("/bin/cat", "/sys/fs/cgroup/pod/memory.max"))[1]
        assert int(limit) == memory_mib * MIB
        total = (await guest.run("/bin/cat", "/proc/meminfo"))[1].split()[1]
        assert int(total) > memory_mib * 1024
    # Memory is taken when it is used.
    assert (await pods.ask("pod_stats", pod="shape"))["machine"]["rss_bytes"] < 512 * MIB


async def test_a_machine_that_waits_becomes_one_pods(pods: PodLab) -> None:
    await pods.restart(waiting=1)
    try:
        starter = pods.service._starter
        saved = await starter.templates.get(Shape(1, 4096))
        await until(lambda: starter.waiting.count(saved.key) == 1, 60)
        (id,) = [path.name for path in (pods.lab.state / "pods").iterdir()]
        with pod_network() as network:
            started = await pods.ask("start_pod", pod="a", namespace="one", netns=network.path, hostname="first")
            assert Path(started["agent"]).parent.name == id
            assert pings(POD)
            async with pods.guest(started) as guest:
                assert (await guest.run("/bin/cat", "/proc/sys/kernel/hostname"))[1] == "first\n"
                first = await guest.run("/bin/cat", "/run/machine-id")
                # Nothing of what it has gone through is left.
                left = await guest.run("/bin/ls", "/run/alcove/images", "/sys/fs/cgroup/pod")
                assert "rehearsal" not in left[1]
            # The same name in another namespace is another pod.
            await until(lambda: starter.waiting.count(saved.key) == 1, 60)
            other = await pods.ask("start_pod", pod="a", namespace="two", hostname="second")
            assert other["machine"] != started["machine"]
            async with pods.guest(other) as guest:
                assert await guest.run("/bin/cat", "/run/machine-id") != first
            await pods.ask("stop_pod", pod="a", namespace="two")
            assert pings(POD)
            await pods.end_all()
    finally:
        await pods.restart()


class Killed(BaseException):
    """The daemon is no more: nothing after this is carried out."""


@pytest.mark.parametrize(("owner", "step"), [(Machine, "restore"), (Starter, "_personalise")])
async def test_what_a_daemon_left_that_was_killed_in_the_middle_of_a_start(
    pods: PodLab, monkeypatch: pytest.MonkeyPatch, owner: type, step: str
) -> None:
    hosts: list[PodHost] = []
    free = PodHost.free

    async def die(*arguments: Any, **keywords: Any) -> None:
        raise Killed

    async def free_nothing(host: PodHost, users: Any) -> None:
        hosts.append(host)

    with pod_network() as network:
        before = network.describe()
        with monkeypatch.context() as patched:
            patched.setattr(owner, step, die)
            patched.setattr(PodHost, "free", free_nothing)
            with pytest.raises(Killed):
                await pods.ask("start_pod", pod="half", netns=network.path)
        (host,) = hosts
        assert host.machine is not None
        assert pods.leftovers()
        await pods.restart()
        assert pods.leftovers() == []
        assert host.machine.process.exited()
        assert network.describe() == before
        await free(host, pods.lab.tier.launcher.users)


async def test_the_hosts_disk_is_guarded_from_pods(pods: PodLab) -> None:
    started = await pods.ask("start_pod", pod="writer")
    (pod,) = pods.service._pods.values()
    disk = await pods.ask("attach_disk", pod="writer", name="cache", bytes=100 * MIB)
    assert pod.disk_bytes() < MIB
    async with pods.guest(started) as guest:
        await guest.agent.batch({"op": "mount_disk", "name": "cache", **disk})
        words = ("if=/dev/zero", "of=/run/alcove/disks/cache/fill", "bs=1M", "count=80", "conv=fsync")
        assert (await guest.run("/bin/dd", *words))[0] == 0
    assert pod.disk_bytes() >= 80 * MIB
    launcher = pods.lab.tier.launcher
    assert await ScratchGuard(pods.lab.state, launcher.disk_users, reserve_mib=1 << 40).check() is pod
    await until(lambda: not pods.leftovers())
