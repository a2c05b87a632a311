"""The agent's operations, each asked of a real machine (docs/architecture.md, control channel)."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import pytest_asyncio
from tests.machine.lab import Guest, Lab, until

from alcove.host.memory import create_memory
from alcove.host.process import spawn
from alcove.sandbox.agent import AgentClient, AgentError
from alcove.sandbox.vm_tier import BOOT_TIMEOUT_S
from alcove.vmm.jail import PROGRAM
from alcove.vmm.machine import Machine
from alcove.vmm.qmp import Monitor, listen
from alcove.vmm.spec import KERNEL_COMMAND_LINE, MIB, Boot, Channel, Drive, MachineSpec, render

pytestmark = [pytest.mark.machine, pytest.mark.asyncio(loop_scope="session")]


async def test_hello(booted: Guest) -> None:
    reply = await booted.sandbox.agent.hello(5)
    assert reply["protocol"] == 1
    assert reply["kernel"]
    assert len(reply["processes"]) == 1


async def test_what_it_does_not_know_is_refused(restored: Guest) -> None:
    agent = restored.sandbox.agent
    for op, fields in (
        ("nonsense", {}),
        ("kill", {"process": 999}),
        ("wait", {"process": 999}),
        ("mount_code", {"device": "../sda", "path": "/var/task"}),
        ("mount_code", {"device": "vdz", "path": "/var/task"}),
        ("copy_end", {"stream": 9, "path": "/var/task"}),
        ("start_runtime", {"runtime": "cobol"}),
        ("run", {}),
    ):
        with pytest.raises(AgentError):
            await agent.request(op, **fields)
    with pytest.raises(AgentError, match="nonsense"):
        await agent.batch({"op": "hello"}, {"op": "nonsense"}, {"op": "shutdown"})
    await agent.hello(5)


async def test_a_process_runs_as_the_tenant_with_what_it_is_given(restored: Guest) -> None:
    report, printed = await restored.run(
        "/bin/sh", "-c", "id -u; id -g; pwd; echo $GIVEN; cat",
        env={"GIVEN": "value"}, cwd="/var", stdin=base64.b64encode(b"from stdin").decode(),
    )  # fmt: skip
    assert printed == b"1000\n1000\n/var\nvalue\nfrom stdin"
    assert (report["reason"], report["code"], report["signal"]) == ("exited", 0, None)


@pytest.mark.parametrize(
    ("source", "reason", "code", "number"),
    [
        ("exit 0", "exited", 0, None),
        ("exit 77", "exited", 77, None),
        ("kill -TERM $$", "signal", None, 15),
        ("kill -SEGV $$", "signal", None, 11),
        ("kill -KILL $$", "signal", None, 9),
        ("head -c 900m /dev/zero | tail -c 900m", "out_of_memory", None, 9),
    ],
)
async def test_ends_are_reported_exactly(
    restored: Guest, source: str, reason: str, code: int | None, number: int | None
) -> None:
    if reason == "out_of_memory":
        await restored.sandbox.agent.request("limits", memory_mib=128, pids=64)
    report, _ = await restored.run("/bin/sh", "-c", source)
    assert (report["reason"], report["code"], report["signal"]) == (reason, code, number)


async def test_a_program_that_is_not_there(restored: Guest) -> None:
    report, _ = await restored.run("/no/such/program")
    assert (report["reason"], report["code"]) == ("exited", 126)


async def test_a_time_out_ends_the_whole_session(restored: Guest) -> None:
    report, _ = await restored.run("/bin/sh", "-c", "sleep 100 & sleep 100", timeout_s=0.5)
    assert (report["reason"], report["signal"]) == ("timeout", 9)
    _, printed = await restored.run("/bin/sh", "-c", "ps -e -o args | grep -c '[s]leep 100'; true")
    assert printed.strip() in (b"0", b"")


async def test_waiting_holds_up_nobody_and_kill_reaches(restored: Guest) -> None:
    agent = restored.sandbox.agent
    number = (await agent.request("run", argv=["/bin/sleep", "100"]))["process"]
    waits = [asyncio.ensure_future(agent.request("wait", process=number)) for _ in range(2)]
    assert number in (await agent.hello(5))["processes"]
    await agent.request("kill", process=number, signal=15)
    for wait in waits:
        assert (await wait)["signal"] == 15
    await agent.request("kill", process=number)
    assert (await agent.request("wait", process=number))["signal"] == 15
    assert number not in (await agent.hello(5))["processes"]


async def test_processes_are_limited_in_number(restored: Guest) -> None:
    await restored.sandbox.agent.request("limits", memory_mib=256, pids=16)
    source = """
import os, signal
n = 0
try:
    while True:
        if os.fork() == 0:
            signal.pause()
        n += 1
except OSError as error:
    print(n, type(error).__name__, flush=True)
    os.killpg(0, 9)
"""
    _, printed = await restored.run("/usr/bin/python3.11", "-u", "-c", source)
    count, error = printed.split()
    assert error == b"BlockingIOError"
    assert int(count) < 16


async def test_freeze_and_thaw(lab: Lab) -> None:
    guest = await lab.load()
    agent = guest.sandbox.agent
    number = (await agent.request("run", argv=["/bin/sh", "-c", "while :; do echo tick; sleep 0.05; done"]))["process"]
    await until(lambda: guest.logs[1].count(b"tick") > 2)
    await agent.request("freeze")
    await asyncio.sleep(0.3)
    count = guest.logs[1].count(b"tick")
    call = asyncio.ensure_future(guest.do("result = 1"))
    await asyncio.sleep(0.5)
    assert guest.logs[1].count(b"tick") == count
    assert not call.done()
    await agent.hello(5)
    await agent.request("thaw")
    assert await call == 1
    await until(lambda: guest.logs[1].count(b"tick") > count)
    await agent.request("kill", process=number)


async def test_busy_processes_freeze_too(restored: Guest) -> None:
    """Fixed: the agent, which has priority, yielded instead of sleeping, and they had no time in which to stop."""
    agent = restored.sandbox.agent
    for _ in range(8):
        await agent.request("run", argv=["/bin/sh", "-c", "while :; do :; done"])
    for _ in range(10):
        await agent.request("freeze")
        await agent.request("thaw")


async def test_the_agent_is_beyond_the_tenants_reach(loaded: Guest) -> None:
    source = """
import ctypes, glob
libc = ctypes.CDLL(None)
def attempt(act):
    try:
        act()
    except OSError as error:
        return error.errno
    return "done"
result = {
    "kill": attempt(lambda: os.kill(1, 9)),
    "memory": attempt(lambda: open("/proc/1/mem", "rb")),
    "seen": os.path.exists("/proc/1"),
    "setuid": attempt(lambda: os.setuid(0)),
    "mount": libc.mount(b"none", b"/tmp", b"tmpfs", 0, None) or "done",
    "namespace": libc.unshare(0x10000000) or "done",
    "cgroup": attempt(lambda: open("/sys/fs/cgroup/tenant/memory.max", "w")),
    "clock": attempt(lambda: time.clock_settime(time.CLOCK_REALTIME, 0)),
    "hostname": attempt(lambda: socket.sethostname("x")),
    "ports": [attempt(lambda: os.open(path, os.O_RDWR)) for path in sorted(glob.glob("/dev/vport*"))],
    "disks": [attempt(lambda: os.open("/dev/" + name, os.O_RDONLY)) for name in ("vda", "vdb", "mem", "port")],
    "node": attempt(lambda: os.mknod("/tmp/node", 0o600 | 0o060000, os.makedev(254, 0))),
    "kernel": attempt(lambda: open("/dev/kmsg", "w")),
}
"""
    found = await loaded.do(source)
    assert not found.pop("seen")
    for name, value in found.items():
        for one in value if isinstance(value, list) else [value]:
            assert one not in ("done", 0), name


# A scratch disk: no tier gives one yet, so a machine is made by hand


@pytest_asyncio.fixture(loop_scope="session")
async def with_scratch(lab: Lab, tmp_path: Path) -> AsyncIterator[AgentClient]:
    image = lab.tier.launcher.images.base
    with ExitStack() as stack:

        def opened(path: Path, flags: int = os.O_RDONLY) -> int:
            fd = os.open(path, flags)
            stack.callback(os.close, fd)
            return fd

        (tmp_path / "scratch").touch()
        os.truncate(tmp_path / "scratch", 64 << 20)
        memory = create_memory("scratch-test", 1024 * MIB)
        stack.callback(os.close, memory)
        sockets: dict[str, socket.socket] = {
            name: stack.enter_context(listen(tmp_path / f"{name}.sock")) for name in ("qmp", "agent", "invoke")
        }
        spec = MachineSpec(
            name="scratch",
            accelerator=lab.tier.launcher.accelerator.kind,
            memory_mib=1024,
            memory_fd=memory,
            share=False,
            drives=(
                Drive("root", opened(image.root)),
                Drive("code", None, size=MIB),
                Drive("scratch", opened(tmp_path / "scratch", os.O_RDWR), read_only=False),
            ),
            channels=(
                Channel("alcove.agent", sockets["agent"].fileno()),
                Channel("alcove.invoke", sockets["invoke"].fileno()),
            ),
            qmp_fd=sockets["qmp"].fileno(),
            boot=Boot(opened(image.kernel), opened(image.initrd), KERNEL_COMMAND_LINE),
        )
        process = spawn([str(PROGRAM), *render(spec)], pass_fds=spec.descriptors())
        monitor = Monitor()
        machine = Machine("scratch", process, monitor)
        try:
            await monitor.connect(tmp_path / "qmp.sock")
            agent = await AgentClient.connect(tmp_path / "agent.sock")
            await agent.hello(BOOT_TIMEOUT_S)
            yield agent
            agent.close()
        finally:
            await machine.kill()


async def test_a_scratch_disk(with_scratch: AgentClient) -> None:
    agent = with_scratch
    printed = bytearray()
    agent.on_log = lambda process, stream, data: printed.extend(data)

    async def shell(source: str) -> int:
        printed.clear()
        number = (await agent.request("run", argv=["/bin/sh", "-c", source]))["process"]
        return int((await agent.request("wait", process=number))["code"])

    await agent.request("mount_scratch", device="vdc", path="/mnt", format=True)
    assert await shell("echo kept > /mnt/file && cat /mnt/file && grep /mnt /proc/mounts") == 0
    assert b"kept" in printed
    assert b"nosuid,nodev" in printed
    # It is full when it is full, and nothing else is.
    assert await shell("head -c 100m /dev/zero > /mnt/big") != 0
    assert await shell("rm /mnt/big; echo fine > /tmp/x") == 0
    await agent.request("unmount_scratch", path="/mnt")
    assert await shell("ls /mnt/file") != 0
    await agent.request("mount_scratch", device="vdc", path="/mnt", format=False)
    assert await shell("cat /mnt/file") == 0
    assert bytes(printed) == b"kept\n"
    await agent.request("unmount_scratch", path="/mnt")


async def test_code_is_unmounted_and_mounted_again(lab: Lab) -> None:
    guest = await lab.load()
    assert await guest.do("result = os.listdir('/var/task') != []")
    await guest.sandbox.agent.request("unmount_code", path="/var/task")
    _, printed = await guest.run("/bin/ls", "/var/task")
    # What is left is the place of the layers' libraries, empty.
    assert printed.split() == [b"lib"]
    _, inside = await guest.run("/bin/ls", "-A", "/var/task/lib")
    assert inside == b""
    await guest.sandbox.agent.request("mount_code", device="vdb", path="/var/task")
    _, printed = await guest.run("/bin/ls", "/var/task")
    assert b"app.py" in printed


async def test_personalise_changes_every_name(restored: Guest) -> None:
    seen = []
    for _ in range(2):
        personality = restored.sandbox.personality()
        await restored.sandbox.agent.batch(personality)
        source = "uname -n; cat /etc/machine-id /proc/sys/kernel/random/boot_id"
        _, printed = await restored.run("/bin/sh", "-c", source)
        expected = [personality[name] for name in ("hostname", "machine_id", "boot_id")]
        assert printed.decode().split() == expected
        seen.append(expected)
    assert seen[0][1:] != seen[1][1:]


async def test_shutdown_powers_off(booted: Guest) -> None:
    await booted.sandbox.agent.request("shutdown")
    await until(lambda: bool(booted.exits), 20)
