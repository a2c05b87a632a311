"""Hostile functions in real machines: their neighbours, the host and shared images do not notice."""

from __future__ import annotations

import asyncio
import hashlib
import os
import resource
import struct
import time
from pathlib import Path

import pytest
from tests.machine.lab import PLAIN, Guest, Lab, until

from alcove.errors import ProtocolError, SandboxError, SandboxGone
from alcove.images.code import IMAGE_SIZE
from alcove.sandbox.vm import CODE_DRIVE, SCRATCH_DRIVE

pytestmark = [pytest.mark.machine, pytest.mark.asyncio(loop_scope="session")]

FORK_BOMB = """
while True:
    try:
        os.fork()
    except OSError:
        pass
"""
HOG = """
held = []
while True:
    held.append(bytearray(b"x" * (8 << 20)))
"""
LOOP = "while True: pass"
DISK = """
try:
    with open("/tmp/big", "wb") as file:
        while True:
            file.write(b"x" * (1 << 20))
except OSError as error:
    result = error.errno
"""


async def slowest(neighbour: Guest, calls: int) -> float:
    worst = 0.0
    for number in range(calls):
        began = time.perf_counter()
        assert await neighbour.call(number) == number
        worst = max(worst, time.perf_counter() - began)
        await asyncio.sleep(0.05)
    return worst


@pytest.mark.parametrize("source", [FORK_BOMB, HOG, LOOP], ids=["fork bomb", "memory hog", "endless loop"])
async def test_the_neighbour_answers(lab: Lab, source: str) -> None:
    neighbour = await lab.load(PLAIN, tenant="tenant-b")
    hostile = await lab.load(memory_mib=256)
    attack = asyncio.ensure_future(hostile.do(source, timeout_s=20))
    try:
        await asyncio.sleep(0.5)
        assert await slowest(neighbour, 20) < 1.0
        assert neighbour.exits == []
        # The agent answers too, wherever the machine is still there: the host keeps its hands on it.
        if not hostile.exits:
            await hostile.sandbox.agent.hello(10)
        began = time.perf_counter()
        await hostile.sandbox.close()
        assert time.perf_counter() - began < 5
    finally:
        attack.cancel()
        await asyncio.gather(attack, return_exceptions=True)


async def test_a_memory_hog_ends_with_the_reason(lab: Lab) -> None:
    hostile = await lab.load(memory_mib=256)
    with pytest.raises(SandboxGone):
        await hostile.do(HOG)
    await until(lambda: hostile.exits == ["out_of_memory"])


async def test_a_full_disk_is_the_functions_own(lab: Lab) -> None:
    hostile, neighbour = await lab.load(memory_mib=1769), await lab.load(PLAIN, tenant="tenant-b")
    assert await hostile.do(DISK, timeout_s=60) == 28
    assert await neighbour.call(1) == 1
    assert await hostile.do("os.unlink('/tmp/big'); result = 1") == 1


async def test_a_flood_of_output_is_bounded(lab: Lab) -> None:
    """100 MB: the call answers, and what the host holds of it is a matter of buffers."""
    guest = await lab.load()
    count = 0

    def swallow(stream: int, data: bytes) -> None:
        nonlocal count
        count += len(data)

    guest.sandbox.listen(log=swallow, exit=guest.exits.append)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    source = "for _ in range(100): sys.stdout.write('x' * (1 << 20))\nsys.stdout.flush()\nresult = 'done'"
    assert await guest.do(source, timeout_s=120) == "done"
    await until(lambda: count >= 100 << 20, 30)
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kib < 32 << 10
    assert (await guest.do("result = 1")) == 1


async def test_killing_everything_kills_itself_alone(lab: Lab) -> None:
    guest = await lab.load()
    with pytest.raises(SandboxGone):
        await guest.do("subprocess.run(['/bin/sh', '-c', 'kill -9 -1'])")
    await until(lambda: guest.exits == ["signal"])
    await guest.sandbox.agent.hello(5)


# The function's own channel

CHANNEL = """
channels = []
for fd in range(64):
    try:
        target = os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        continue
    if "vport" in target:
        channels.append(fd)
"""


async def test_a_handler_that_closes_its_channel(lab: Lab) -> None:
    guest = await lab.load()
    with pytest.raises((SandboxError, TimeoutError)):
        await guest.do(CHANNEL + "for fd in channels: os.close(fd)\nassert channels\nresult = 1", timeout_s=5)
    await guest.sandbox.agent.hello(5)
    await guest.sandbox.close()


@pytest.mark.parametrize(
    "garbage",
    [
        "b'\\xff' * 65536",
        # An answer to another request, and one of a kind that is none.
        "b'\\0\\0\\0\\1' + bytes([20]) + b'\\0\\0\\0\\x63' + b'1'",
        "b'\\0\\0\\0\\1' + bytes([26]) + b'\\0\\0\\0\\2' + b'1'",
        # A frame over the limit, never to come.
        "b'\\x7f\\xff\\xff\\xff' + bytes([20]) + b'\\0\\0\\0\\2'",
    ],
    ids=["noise", "wrong id", "wrong kind", "oversize"],
)
async def test_garbage_ends_the_channel(lab: Lab, garbage: str) -> None:
    guest = await lab.load()
    with pytest.raises(ProtocolError):
        await guest.do(CHANNEL + f"for fd in channels: os.write(fd, {garbage})\ntime.sleep(10)", timeout_s=10)
    with pytest.raises(SandboxError):
        await guest.call(1)
    await guest.sandbox.close()


async def test_half_a_frame_is_held_and_no_more(lab: Lab) -> None:
    guest = await lab.load()
    half = "b'\\0\\x10\\0\\0' + bytes([20]) + b'\\0\\0\\0\\2' + b'x' * 1000"
    with pytest.raises(TimeoutError):
        await guest.do(CHANNEL + f"for fd in channels: os.write(fd, {half})\ntime.sleep(60)", timeout_s=2)
    await guest.sandbox.close()


# Shared images


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


async def test_shared_images_are_unchanged(lab: Lab) -> None:
    """The disks are read-only below the guest: even its root user, the agent, cannot write to them."""
    load = await lab.workload()
    root = lab.tier.launcher.images.base.root
    before = digest(load.code.path), digest(root)
    guest = await lab.load()
    attempts = await guest.do("""
import glob
def attempt(act):
    try:
        act()
    except OSError as error:
        return type(error).__name__
    return "done"
result = [attempt(lambda: open(path, mode)) for path in ("/dev/vda", "/dev/vdb") for mode in ("rb", "r+b", "ab")]
result += [attempt(lambda: open(path, "a")) for path in ("/var/task/app.py", "/etc/passwd", "/opt/alcove/start")]
result += [attempt(lambda: os.unlink("/var/task/app.py")), attempt(lambda: os.symlink("x", "/var/task/x"))]
""")
    assert "done" not in attempts
    for device in ("vda", "vdb"):
        # mke2fs runs as root in the guest.
        with pytest.raises(SandboxError):
            await guest.sandbox.agent.request("mount_scratch", device=device, path="/mnt", format=True)
        with pytest.raises(SandboxError):
            await guest.sandbox.agent.request("mount_scratch", device=device, path="/mnt", format=False)
    nodes = await guest.sandbox.machine.monitor.execute("query-named-block-nodes")
    assert all(node["ro"] for node in nodes if not node["node-name"].startswith(SCRATCH_DRIVE))
    assert (digest(load.code.path), digest(root)) == before


async def test_a_qcow2_header_is_not_believed(lab: Lab, tmp_path: Path) -> None:
    """The format of a disk is said, never probed: this one asks for a file of the host's behind it."""
    secret = b"/etc/shadow"
    # Version 2: magic, version, where the backing file's name is and its length, cluster bits, size (qcow2.txt).
    header = b"QFI\xfb" + struct.pack(">IQIIQ", 2, 4096, len(secret), 16, 1 << 20)
    disk = tmp_path / "disk"
    disk.write_bytes(header.ljust(4096, b"\0") + secret)
    os.truncate(disk, IMAGE_SIZE)
    guest = await lab.start()
    with disk.open("rb") as file:
        await guest.sandbox.machine.swap(CODE_DRIVE, file.fileno(), size=IMAGE_SIZE)
    nodes = await guest.sandbox.machine.monitor.execute("query-named-block-nodes")
    assert {node["drv"] for node in nodes} <= {"raw", "file", "null-co", "throttle"}
    assert not [node for node in nodes if node.get("backing_file")]
    (code,) = [node for node in nodes if node["node-name"] == CODE_DRIVE]
    assert code["image"]["virtual-size"] == IMAGE_SIZE


async def test_output_is_held_back_while_nobody_reads(lab: Lab) -> None:
    """The agent's queue is bounded: the tenant's process waits, and loses nothing."""
    guest = await lab.load()
    transport = guest.sandbox.agent._transport
    assert transport is not None
    transport.pause_reading()
    await guest.do("""
import threading
class probe: written = 0
def pump():
    while probe.written < 16 << 20:
        probe.written += os.write(1, b"x" * 65536)
threading.Thread(target=pump, daemon=True).start()
sys.modules["probe"] = probe
result = None
""")
    await asyncio.sleep(3)
    assert await guest.do("result = sys.modules['probe'].written") < 4 << 20
    transport.resume_reading()
    await until(lambda: len(guest.logs[1]) == 16 << 20, 60)


async def test_a_flooded_console_is_a_ring(lab: Lab) -> None:
    guest = await lab.load()
    for _ in range(16):
        await guest.sandbox.machine.monitor.execute("ringbuf-write", {"device": "console", "data": "x" * 65535})
    assert 0 < len(await guest.sandbox.machine.console()) <= 65536
    assert await guest.do("result = 1") == 1
