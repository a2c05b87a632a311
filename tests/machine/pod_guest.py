"""A pod's guest by itself: a machine of the family ``pod`` with an image and a scratch disk as plain drives."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.machine.lab import ROOT, until

from alcove.host.memory import create_memory
from alcove.host.process import spawn
from alcove.images.families import Family
from alcove.images.guest import build_guest_image
from alcove.images.scratch import SMALLEST_MIB, disk_bytes, empty_disk
from alcove.pods.templates import rehearse_container
from alcove.sandbox.agent import AgentClient
from alcove.sandbox.vm_tier import BOOT_TIMEOUT_S
from alcove.vmm.accelerator import probe
from alcove.vmm.jail import PROGRAM
from alcove.vmm.machine import Machine
from alcove.vmm.qmp import Monitor, listen
from alcove.vmm.spec import KERNEL_COMMAND_LINE, MIB, Boot, Channel, Drive, MachineSpec, render
from alcove.wire.streams import CHANNEL

FOLDERS = ("bin", "dev", "etc", "proc", "sys", "tmp")


def make_image(folder: Path, layers: int = 2) -> Path:
    """Make a disk of squashfs partitions: busybox is in the lowest, each layer says its number in /top."""
    parts = []
    for number in range(1, layers + 1):
        tree = folder / f"layer{number}"
        for name in FOLDERS if number == 1 else ():
            (tree / name).mkdir(parents=True)
        if number == 1:
            shutil.copy("/bin/busybox", tree / "bin/busybox")
            (tree / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\n")
            for name in ("sh", "cat", "sleep", "stty", "id", "head", "tail"):
                (tree / "bin" / name).symlink_to("busybox")
        tree.mkdir(exist_ok=True)
        (tree / "top").write_text(f"{number}\n")
        part = folder / f"layer{number}.squashfs"
        subprocess.run(["mksquashfs", tree, part, "-quiet", "-noI", "-noD", "-noF", "-no-progress"], check=True)
        parts.append(part)
    return _join(folder / "image", parts)


def _join(disk: Path, parts: list[Path]) -> Path:
    table, start = ["label: gpt"], 2048
    with disk.open("wb") as file:
        for part in parts:
            file.seek(start * 512)
            file.write(part.read_bytes())
            sectors = -(-part.stat().st_size // 4096) * 8
            table.append(f"start={start}, size={sectors}")
            start += -(-sectors // 2048) * 2048
        file.truncate((start + 2048) * 512)
    subprocess.run(["sfdisk", "-q", disk], input="\n".join(table), text=True, check=True)
    return disk


def spec(*words: str, **more: Any) -> dict[str, Any]:
    """A configuration as containerd's, for the words as a process."""
    mounts = [
        ("/proc", "proc", []),
        ("/dev", "tmpfs", ["nosuid", "mode=755"]),
        ("/dev/pts", "devpts", ["newinstance", "ptmxmode=0666", "mode=0620"]),
        ("/sys", "sysfs", ["nosuid", "noexec", "nodev", "ro"]),
    ]
    return {
        "ociVersion": "1.0.2",
        "process": process(*words),
        "root": {"path": "rootfs"},
        "mounts": [{"destination": at, "type": kind, "source": kind, "options": how} for at, kind, how in mounts],
        "linux": {
            "namespaces": [{"type": "mount"}, {"type": "cgroup"}],
            "resources": {"devices": [{"allow": False, "access": "rwm"}], **more.pop("resources", {})},
        },
        **more,
    }


def process(*words: str) -> dict[str, Any]:
    capabilities = ["CAP_CHOWN", "CAP_KILL", "CAP_MKNOD", "CAP_SETUID"]
    return {
        "args": list(words),
        "cwd": "/",
        "env": ["PATH=/bin"],
        "user": {"uid": 0, "gid": 0},
        "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), capabilities),
    }


class PodGuest:
    """What the agent said, by process; every byte is acknowledged at once unless ``silent``."""

    def __init__(self, agent: AgentClient, machine: Machine) -> None:
        self.agent = agent
        self.machine = machine
        self.silent = False
        self.printed: dict[int, bytearray] = {}
        self.events: list[dict[str, Any]] = []
        agent.on_log = self._on_log
        agent.on_event = self.events.append
        self._tasks: set[asyncio.Task[Any]] = set()

    def _on_log(self, process: int, stream: int, data: bytes) -> None:
        self.printed.setdefault(process, bytearray()).extend(data)
        if not self.silent:
            task = asyncio.ensure_future(self.agent.request("ack", process=process, bytes=len(data)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def create(self, id: str, *words: str, **fields: Any) -> int:
        resources = fields.pop("resources", {})
        fields = {"image": "layers", "pid": "container", "terminal": False, "stdin": False, **fields}
        made = await self.agent.request("create_container", id=id, spec=spec(*words, resources=resources), **fields)
        return int(made["process"])

    async def run(self, id: str, *words: str, **fields: Any) -> int:
        number = await self.create(id, *words, **fields)
        await self.agent.request("start_container", id=id)
        return number

    async def execute(self, id: str, name: str, *words: str, **fields: Any) -> int:
        named = {"id": id, "exec": name}
        fields = {"terminal": False, "stdin": False, **fields}
        ops = ({"op": "exec_create", **named, "process": process(*words), **fields}, {"op": "exec_start", **named})
        return int((await self.agent.batch(*ops))[1]["process"])

    async def end(self, number: int) -> dict[str, Any]:
        def found() -> list[dict[str, Any]]:
            return [one for one in self.events if one["event"] == "container_exit" and one["process"] == number]

        await until(found, 30)
        return found()[0]


@contextlib.asynccontextmanager
async def pod_guest(folder: Path) -> AsyncIterator[PodGuest]:
    """Boot a guest; ``layers`` are mounted, and the scratch disk."""
    image = build_guest_image((ROOT / "images").resolve(), Family.POD, progress=print)
    with contextlib.ExitStack() as stack:

        def opened(path: Path) -> int:
            fd = os.open(path, os.O_RDONLY)
            stack.callback(os.close, fd)
            return fd

        memory = create_memory("pod-guest", 1024 * MIB)
        stack.callback(os.close, memory)
        scratch = empty_disk(folder)
        stack.callback(os.close, scratch)
        os.ftruncate(scratch, disk_bytes(SMALLEST_MIB))
        qmp, control, streams = (
            stack.enter_context(listen(folder / f"{name}.sock")) for name in ("qmp", "agent", "streams")
        )
        machine_spec = MachineSpec(
            name="pod-guest",
            accelerator=probe(folder, image.kernel).kind,
            memory_mib=1024,
            memory_fd=memory,
            share=False,
            drives=(
                Drive("root", opened(image.root)),
                Drive("scratch", scratch, read_only=False),
                Drive("image0", opened(make_image(folder))),
            ),
            channels=(Channel("alcove.agent", control.fileno()), Channel(CHANNEL, streams.fileno())),
            qmp_fd=qmp.fileno(),
            boot=Boot(opened(image.kernel), opened(image.initrd), KERNEL_COMMAND_LINE),
        )
        child = spawn([str(PROGRAM), *render(machine_spec)], pass_fds=machine_spec.descriptors())
        machine = Machine("pod-guest", child, Monitor())
        try:
            await machine.monitor.connect(folder / "qmp.sock")
            agent = await AgentClient.connect(folder / "agent.sock")
            try:
                await agent.hello(BOOT_TIMEOUT_S)
            except BaseException:
                print((await machine.console())[-4000:])
                raise
            guest = PodGuest(agent, machine)
            await agent.request("mount_scratch", device="vdb", path="/")
            await agent.request("mount_image", device="vdc", partitions=2, name="layers")
            try:
                yield guest
            except BaseException:
                print((await machine.console())[-4000:])
                raise
            agent.close()
        finally:
            await machine.kill()


async def _translated(guest: PodGuest) -> int:
    """Return how many blocks of code the emulator has translated since it last threw all away."""
    said = str(await guest.machine.monitor.execute("human-monitor-command", {"command-line": "info jit"}))
    return int(said.partition("TB count")[2].split()[0])


async def _figures() -> None:
    with tempfile.TemporaryDirectory(dir=ROOT) as folder:
        async with pod_guest(Path(folder)) as guest:
            for turn in range(2):
                begun = time.monotonic()
                await rehearse_container(guest.agent)
                print(f"rehearsal {turn}: {(time.monotonic() - begun) * 1e3:.0f} ms")
            print("create, start, exec to its end, delete in ms; blocks of code translated meanwhile")
            for turn in range(5):
                marks, blocks = [time.monotonic()], await _translated(guest)
                await guest.create(f"c{turn}", "/bin/sleep", "100")
                marks.append(time.monotonic())
                await guest.agent.request("start_container", id=f"c{turn}")
                marks.append(time.monotonic())
                await guest.end(await guest.execute(f"c{turn}", "e", "/bin/id"))
                marks.append(time.monotonic())
                await guest.agent.request("delete_container", id=f"c{turn}")
                marks.append(time.monotonic())
                spent = [f"{(b - a) * 1e3:.0f}" for a, b in itertools.pairwise(marks)]
                print(turn, spent, await _translated(guest) - blocks)


if __name__ == "__main__":
    asyncio.run(_figures())
