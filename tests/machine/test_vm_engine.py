"""A machine's life: every way to start, to bring code in, to save and to restore; and the jail around it."""

from __future__ import annotations

import asyncio
import hashlib
import mmap
import os
import re
import signal
import stat
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.machine.lab import ANYTHING, PLAIN, Guest, Lab, leftovers, package, until

from alcove.errors import SandboxError, SandboxGone
from alcove.host.cgroup import find_hierarchy
from alcove.host.memory import is_sealed
from alcove.sandbox.protocol import CodeImage, Delivery, InitError, Runtime, SnapshotUnfit, Start
from alcove.sandbox.vm import SCRATCH_DRIVE, VmSandbox
from alcove.sandbox.vm_launcher import HOST_PIDS, MEMORY_MIB, OVERHEAD_MIB
from alcove.vmm.jail import machine_users

pytestmark = [pytest.mark.machine, pytest.mark.asyncio(loop_scope="session")]


# Starts


@pytest.mark.parametrize("how", [Start.BOOTED, Start.RESTORED], ids=str)
@pytest.mark.parametrize("delivery", Delivery, ids=str)
async def test_every_start_serves_code_that_comes_either_way(lab: Lab, how: Start, delivery: Delivery) -> None:
    guest = await lab.load(PLAIN, how=how, delivery=delivery)
    assert guest.sandbox.start is how
    assert await guest.call({"n": 1}) == {"n": 1}
    assert await guest.call({"n": 2}) == {"n": 2}
    assert all(duration >= 0 for duration in guest.sandbox.phases_ms.values())


async def test_a_large_package_is_copied_whole(lab: Lab) -> None:
    data = "".join(f"{number:07}\n" for number in range(3 << 20))
    built = await lab.code.build(package({"app.py": ANYTHING, "data.txt": data}), python=True)
    load = await lab.workload()
    guest = await lab.start()
    await guest.sandbox.load(replace(load, code=CodeImage(built.digest, built.path)), Delivery.COPIED)
    found = await guest.do("import hashlib; result = hashlib.md5(open('/var/task/data.txt', 'rb').read()).hexdigest()")
    assert found == hashlib.md5(data.encode()).hexdigest()


async def test_a_rehearsed_machine_forgets_the_rehearsal(lab: Lab) -> None:
    guest = await lab.start()
    for _ in range(2):
        await guest.sandbox.rehearse()
    await guest.sandbox.load(await lab.workload())
    assert await guest.do("result = sorted(os.listdir('/var/task'))") == ["__pycache__", "app.py"]
    assert await guest.do("result = [name for name in sys.modules if 'rehears' in name]") == []
    assert await guest.do("result = os.listdir('/tmp')") == []


async def test_warm_calls_keep_their_state(loaded: Guest) -> None:
    assert await loaded.do("os.counter = 1") is None
    counted = [await loaded.do("os.counter += 1; result = os.counter") for _ in range(20)]
    assert counted == list(range(2, 22))


@pytest.mark.parametrize("runtime", [Runtime.NODE, Runtime.PROVIDED], ids=str)
async def test_the_other_runtimes_restore_too(lab: Lab, runtime: Runtime) -> None:
    await lab.tier.prepare(runtime)
    guest = lab.guest(await lab.tier.start(runtime, Start.RESTORED))
    await guest.sandbox.resume()
    await guest.sandbox.ping(timeout_s=10)


async def test_a_waiting_machine_is_taken_and_replaced(lab: Lab) -> None:
    await lab.tier.keep_waiting(Runtime.PYTHON, 1)
    try:
        guest = await lab.load(PLAIN)
        assert "launch" not in guest.sandbox.phases_ms
        assert await guest.call(1) == 1
        key = lab.tier.templates.key(Runtime.PYTHON)
        await until(lambda: lab.tier.waiting.count(key) == 1)
    finally:
        lab.tier.waiting.size = 0
        for runtime in Runtime:
            lab.tier.waiting.forget(lab.tier.templates.key(runtime))
        await lab.close(show=False)
        await until(lambda: not lab.tier.launcher.live)


async def test_init_code_that_fails_is_told(lab: Lab) -> None:
    with pytest.raises(InitError, match="at import"):
        await lab.load("raise KeyError('at import')\n")


# Snapshots


async def test_a_snapshot_wakes_with_its_init_code_done(lab: Lab) -> None:
    load = await lab.workload(version="7")
    await lab.tier.snapshot(load)
    try:
        assert lab.tier.has_snapshot(load)
        tokens, drawn = [], []
        for _ in range(2):
            guest = lab.guest(await lab.tier.start_snapshot(load))
            assert guest.sandbox.start is Start.SNAPSHOT
            tokens.append(await guest.do("result = TOKEN"))
            drawn.append(await guest.do("result = [os.urandom(8).hex(), random.random(), str(uuid.uuid4())]"))
            assert abs(await guest.do("result = time.time()") - time.time()) < 2
        assert tokens[0] == tokens[1]
        assert not set(drawn[0]) & set(drawn[1])
    finally:
        await lab.tier.drop_snapshot(load)
    assert not lab.tier.has_snapshot(load)
    with pytest.raises(SnapshotUnfit):
        await lab.tier.start_snapshot(load)


async def test_a_machine_that_is_lost_while_it_wakes_is_made_up_for(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    load = await lab.workload(version="8")
    await lab.tier.snapshot(load)
    lost: list[str] = []
    resume = VmSandbox.resume

    async def crash_once(sandbox: VmSandbox, *ops: Any) -> None:
        if not lost:
            lost.append(sandbox.id)
            os.kill(sandbox.machine.process.pid, signal.SIGSEGV)
        await resume(sandbox, *ops)

    monkeypatch.setattr(VmSandbox, "resume", crash_once)
    try:
        guest = lab.guest(await lab.tier.start_snapshot(load))
        assert await guest.do("result = 1 + 1") == 2
        assert [guest.sandbox.id] != lost
    finally:
        await lab.tier.drop_snapshot(load)
    assert "QEMU ended by SIGSEGV" in caplog.text
    assert "was lost while it started" in caplog.text


async def test_hooks_run_around_a_snapshot(lab: Lab) -> None:
    source = """
from snapshot_restore_py import register_before_snapshot, register_after_restore
seen = []
register_before_snapshot(lambda: seen.append("before"))
register_after_restore(lambda: seen.append("after"))

def handler(event, context):
    return seen
"""
    load = await lab.workload(source, version="8")
    await lab.tier.snapshot(load)
    try:
        guest = lab.guest(await lab.tier.start_snapshot(load))
        assert await guest.call(None) == ["before", "after"]
    finally:
        await lab.tier.drop_snapshot(load)


async def test_a_snapshot_that_cannot_be_made_leaves_nothing(lab: Lab) -> None:
    load = await lab.workload("raise KeyError('at import')\n", version="9")
    before = os.listdir("/proc/self/fd")
    with pytest.raises(InitError):
        await lab.tier.snapshot(load)
    assert not lab.tier.has_snapshot(load)
    assert not leftovers(lab.state)
    assert len(os.listdir("/proc/self/fd")) <= len(before)


# Ends


async def test_a_closed_machine_leaves_nothing(lab: Lab) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    guest = await lab.load(PLAIN)
    assert leftovers(lab.state, guest.sandbox.id)
    await asyncio.gather(guest.sandbox.close(), guest.sandbox.close())
    assert not leftovers(lab.state)
    assert guest.exits == []
    with pytest.raises(SandboxGone):
        await guest.call(1)
    await asyncio.sleep(0)
    assert sorted(os.listdir("/proc/self/fd")) == before


async def test_a_killed_machine_is_told_at_once(loaded: Guest) -> None:
    call = asyncio.ensure_future(loaded.do("time.sleep(60)", timeout_s=60))
    await asyncio.sleep(0.1)
    os.kill(loaded.pid, 9)
    with pytest.raises(SandboxError):
        await asyncio.wait_for(call, 5)
    await until(lambda: loaded.exits == ["killed"])


@pytest.mark.parametrize("delay", [0.005, 0.02, 0.04, 0.08, 0.25])
async def test_a_start_that_is_cut_short_leaves_nothing(lab: Lab, delay: float) -> None:
    open_before = len(os.listdir("/proc/self/fd"))
    task = asyncio.create_task(lab.load(PLAIN))
    await asyncio.sleep(delay)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await lab.close(show=False)
    await until(lambda: not leftovers(lab.state))
    await until(lambda: len(os.listdir("/proc/self/fd")) <= open_before)
    # Its place can be taken again.
    assert await (await lab.load(PLAIN)).call(1) == 1


# The jail


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


async def test_the_process_has_no_rights(lab: Lab, loaded: Guest) -> None:
    facts = status(loaded.pid)
    users = {int(word) for word in facts["Uid"].split()} | {int(word) for word in facts["Gid"].split()}
    assert users == {loaded.sandbox.resources.user}
    assert users.pop() in machine_users(lab.tag)
    assert facts["Groups"] == ""
    assert facts["NoNewPrivs"] == "1"
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(facts[name], 16) == 0, name
    for task in Path(f"/proc/{loaded.pid}/task").iterdir():
        assert "Seccomp:\t2" in (task / "status").read_text()
    other = await lab.load(PLAIN)
    assert other.sandbox.resources.user != loaded.sandbox.resources.user


async def test_the_process_sees_nothing_of_the_host(loaded: Guest) -> None:
    root = Path(f"/proc/{loaded.pid}/root")
    assert root.resolve() != Path("/")
    for absent in ("etc", "root", "home", "var", "bin/sh", "usr/bin/env"):
        assert not (root / absent).exists(), absent
    # What is there belongs to root, and the process may write to none of it.
    for folder, _, files in os.walk(root):
        if Path(folder) == root / "proc":
            continue
        if "/proc" in folder.removeprefix(str(root)):
            continue
        for path in (Path(folder), *(Path(folder) / file for file in files)):
            found = path.lstat()
            if stat.S_ISCHR(found.st_mode) or stat.S_ISLNK(found.st_mode):
                continue
            assert found.st_uid == 0, path
            assert not found.st_mode & 0o022, path
    for space in ("mnt", "net", "ipc", "uts"):
        assert os.readlink(f"/proc/{loaded.pid}/ns/{space}") != os.readlink(f"/proc/self/ns/{space}"), space


async def test_every_descriptor_is_known(lab: Lab, loaded: Guest) -> None:
    """Nothing is inherited but what the machine is made of."""
    allowed = re.compile(
        r"/dev/null|/dev/net/tun|/memfd:alcove-.* \(deleted\)|socket:\[\d+\]|pipe:\[\d+\]|anon_inode:.*"
        r"|/tmp/#\d+ \(deleted\)|.*\.squashfs|/"
        # Its own scratch disk.
        rf"|.*/sandboxes/{loaded.sandbox.id}/#\d+ \(deleted\)"
    )
    for fd in Path(f"/proc/{loaded.pid}/fd").iterdir():
        assert allowed.fullmatch(os.readlink(fd)), os.readlink(fd)


async def test_the_cgroup_holds_the_machine_to_its_size(lab: Lab) -> None:
    guest = await lab.load(PLAIN, memory_mib=442)
    assert await guest.call(1) == 1
    hierarchy = find_hierarchy()
    path = f"alcove-{lab.tag}/{guest.sandbox.id}"
    memory = (MEMORY_MIB + OVERHEAD_MIB) << 20
    for folder in hierarchy.folders():
        assert str(guest.pid) in (folder / path / "cgroup.procs").read_text().split()
    if hierarchy.unified is not None:
        group = hierarchy.unified / path
        assert (group / "memory.max").read_text().strip() == str(memory)
        assert (group / "pids.max").read_text().strip() == str(HOST_PIDS)
        quota, period = (group / "cpu.max").read_text().split()
    else:
        folders = hierarchy.controllers
        assert (folders["memory"] / path / "memory.limit_in_bytes").read_text().strip() == str(memory)
        assert (folders["pids"] / path / "pids.max").read_text().strip() == str(HOST_PIDS)
        quota = (folders["cpu"] / path / "cpu.cfs_quota_us").read_text()
        period = (folders["cpu"] / path / "cpu.cfs_period_us").read_text()
        assert (folders["cpu"] / path / "cpu.shares").read_text().strip() == str(int(1024 * 442 / 1769))
    scale = guest.sandbox.resources.cpu_scale
    assert int(quota) / int(period) == pytest.approx(min(1.0, 442 / 1769 * scale), abs=0.01)


async def test_state_is_for_root_alone(lab: Lab, loaded: Guest) -> None:
    assert lab.state.stat().st_mode & 0o777 == 0o700
    for name in ("sandboxes", "templates", "snapshots", "jail"):
        assert (lab.state / name).stat().st_mode & 0o777 == 0o700, name
    folder = loaded.sandbox.resources.folder
    assert folder.stat().st_mode & 0o777 == 0o700
    entries = {entry.name: entry.stat() for entry in folder.iterdir()}
    assert set(entries) == {"agent.sock", "invoke.sock", "qmp.sock", "record.json"}
    for name, found in entries.items():
        assert (found.st_uid, found.st_mode & 0o777) == (0, 0o600), name


# What a machine that was broken into still cannot do


async def test_template_memory_is_sealed_against_its_own_machines(lab: Lab, loaded: Guest) -> None:
    template = await lab.tier.templates.get(Runtime.PYTHON)
    assert is_sealed(template.memory_fd)
    inode = os.fstat(template.memory_fd).st_ino
    found = 0
    for fd in Path(f"/proc/{loaded.pid}/fd").iterdir():
        if not os.readlink(fd).startswith("/memfd:") or fd.stat().st_ino != inode:
            continue
        found += 1
        own = os.open(fd, os.O_RDWR)
        try:
            with pytest.raises(PermissionError):
                os.pwrite(own, b"x", 0)
            with pytest.raises(PermissionError):
                mmap.mmap(own, mmap.PAGESIZE, mmap.MAP_SHARED, mmap.PROT_WRITE)
            with pytest.raises(PermissionError):
                os.ftruncate(own, 0)
        finally:
            os.close(own)
    assert found


async def test_images_are_open_for_reading_alone(lab: Lab, loaded: Guest) -> None:
    images = [fd for fd in Path(f"/proc/{loaded.pid}/fd").iterdir() if os.readlink(fd).endswith(".squashfs")]
    assert len(images) >= 2
    for fd in images:
        flags = re.search(r"flags:\s*(\d+)", Path(f"/proc/{loaded.pid}/fdinfo/{fd.name}").read_text())
        assert flags
        assert int(flags[1], 8) & os.O_ACCMODE == os.O_RDONLY, os.readlink(fd)
    nodes = await loaded.sandbox.machine.monitor.execute("query-named-block-nodes")
    assert nodes
    assert all(node["ro"] for node in nodes if not node["node-name"].startswith(SCRATCH_DRIVE))
    assert await loaded.do("result = [open(f'/sys/block/{d}/ro').read() for d in ('vda', 'vdb')]") == ["1\n", "1\n"]
