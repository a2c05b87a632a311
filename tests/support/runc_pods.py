"""A stand-in for the node service and for agents in machines: containers are run by runc, on this host.

Shims can be tried with containerd against it before, and faster than, with machines.
``python -m tests.support.runc_pods FOLDER`` serves FOLDER/pods.sock until it is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

from tests.support.pod_wire import AgentServer, Fields, NodeServer, Refused

from alcove.shim.machine import start_time

_SET_CHILD_SUBREAPER = 36
_CREDIT = 256 * 1024


class Process:
    """A process in a container: its pipes or terminal, its output within its credit, and its end."""

    def __init__(self, guest: Guest, number: int, *, terminal: bool, stdin: bool) -> None:
        self._guest = guest
        self.number = number
        self.container = ""
        self.exec: str | None = None
        self.credit = _CREDIT
        self.more = asyncio.Event()
        self.terminal = terminal
        self._input: int | None = None
        self._readers: list[tuple[int, int]] = []
        self.child_fds: list[int] = []
        if terminal:
            master, slave = pty.openpty()
            self._input, self._readers, self.child_fds = master, [(master, 1)], [slave, slave, slave]
        else:
            read, self._input = os.pipe() if stdin else (os.open("/dev/null", os.O_RDONLY), None)
            (out, out_writer), (err, err_writer) = os.pipe(), os.pipe()
            self._readers, self.child_fds = [(out, 1), (err, 2)], [read, out_writer, err_writer]

    def run(self, argv: list[str]) -> subprocess.Popen[bytes]:
        stdin, stdout, stderr = self.child_fds
        child = subprocess.Popen(argv, stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=True)
        for fd in set(self.child_fds):
            os.close(fd)
        return child

    async def forward(self) -> None:
        await asyncio.gather(*(self._forward(fd, stream) for fd, stream in self._readers))

    async def _forward(self, fd: int, stream: int) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while self.credit <= 0:
                self.more.clear()
                await self.more.wait()
            try:
                data = await loop.run_in_executor(None, os.read, fd, min(self.credit, 65536))
            except OSError:
                # A terminal whose last process has gone.
                break
            if not data:
                break
            self.credit -= len(data)
            self._guest.agent.output(self.number, stream, data)
        if fd != self._input:
            os.close(fd)

    def write(self, data: bytes) -> None:
        if self._input is not None:
            with contextlib.suppress(OSError):
                os.write(self._input, data)
            fields = {"id": self.container, "process": self.number, "bytes": len(data)}
            self._guest.agent.event(event="stdin", **fields)

    def close_input(self) -> None:
        if self._input is not None:
            if self.terminal:
                os.write(self._input, b"\x04")
            else:
                os.close(self._input)
                self._input = None

    def resize(self, width: int, height: int) -> None:
        if self._input is not None:
            fcntl.ioctl(self._input, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))


class Guest:
    """A pod's machine: a process that sleeps stands for the VMM, runc for what runs inside."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.machine = subprocess.Popen(["sleep", "infinity"], start_new_session=True)
        self.images: dict[str, list[str]] = {}
        self.processes: dict[int, Process] = {}
        self._streams: dict[int, bytearray] = {}
        self._execs: dict[tuple[str, str], tuple[Process, Path]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        names = (
            *("mount_image", "unmount_image", "mount_disk", "mount_memory", "mount_share", "copy_begin", "put_files"),
            *("create_container", "start_container", "delete_container", "exec_create", "exec_start"),
            *("signal_container", "resize", "close_stdin", "ack", "pause_container", "resume_container"),
            *("update_container", "container_pids", "container_stats", "read_file", "sysctl", "shutdown"),
        )
        self.agent = AgentServer({name: getattr(self, f"_{name}") for name in names})
        self.agent.data = self._data

    async def stop(self) -> None:
        for container in [path.name for path in (self.folder / "runc").glob("*")]:
            self._runc("delete", "--force", container, check=False)
        for mount in sorted(self.folder.glob("containers/*/rootfs")):
            subprocess.run(["umount", "-l", str(mount)], check=False, stderr=subprocess.DEVNULL)
        self.machine.kill()
        self.machine.wait()
        await self.agent.close()

    def _runc(self, *words: str, check: bool = True) -> str:
        command = ["runc", "--root", str(self.folder / "runc"), *words]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if check and done.returncode:
            raise Refused("failed", done.stderr.strip()[-500:])
        return done.stdout

    def _path(self, guest_path: str) -> str:
        return guest_path.replace("/run/alcove/", f"{self.folder}/guest/", 1)

    def _data(self, stream: int, chunk: bytes) -> None:
        if stream in self.processes:
            self.processes[stream].write(chunk)
        elif stream in self._streams:
            self._streams[stream] += chunk

    # Files, images, disks

    async def _mount_image(self, fields: Fields) -> None:
        assert len(self.images[fields["device"]]) == fields["partitions"]

    async def _unmount_image(self, fields: Fields) -> None:
        pass

    async def _mount_disk(self, fields: Fields) -> None:
        os.makedirs(self._path(f"/run/alcove/disks/{fields['name']}"), mode=0o777, exist_ok=True)

    async def _mount_memory(self, fields: Fields) -> None:
        await self._mount_disk(fields)

    async def _mount_share(self, fields: Fields) -> None:
        path = Path(self._path(f"/run/alcove/shares/{fields['name']}"))
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_symlink():
            path.symlink_to(fields["tag"])

    async def _copy_begin(self, fields: Fields) -> None:
        self._streams[fields["stream"]] = bytearray()

    async def _put_files(self, fields: Fields) -> None:
        folder = self._path(f"/run/alcove/files/{fields['path']}")
        os.makedirs(folder, mode=fields["mode"], exist_ok=True)
        data = bytes(self._streams.pop(fields["stream"]))
        subprocess.run(["tar", "-x", "-C", folder], input=data, check=True)

    async def _read_file(self, fields: Fields) -> Fields:
        return {"text": Path(self._path(fields["path"])).read_bytes()[: fields["bytes"]].decode()}

    async def _sysctl(self, fields: Fields) -> None:
        pass

    # Containers

    async def _create_container(self, fields: Fields) -> Fields:
        bundle = self.folder / "containers" / fields["id"]
        for name in ("rootfs", "upper", "work"):
            (bundle / name).mkdir(parents=True)
        lower = ":".join(self.images[fields["image"]][::-1])
        options = f"lowerdir={lower},upperdir={bundle}/upper,workdir={bundle}/work"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, str(bundle / "rootfs")], check=True)
        process = self._process(fields)
        process.container = fields["id"]
        spec = self._host_spec(fields["spec"], bundle, terminal=process.terminal)
        (bundle / "config.json").write_text(json.dumps(spec))
        # Its own session and terminal, if any, is made by runc's caller here: no console socket is needed.
        pid_file = bundle / "pid"
        command = ["runc", "--root", str(self.folder / "runc"), "create", "--bundle", str(bundle)]
        child = process.run([*command, "--pid-file", str(pid_file), fields["id"]])
        if await asyncio.to_thread(child.wait):
            raise Refused("failed", "runc create failed")
        pid = int(pid_file.read_text())
        self._watch(process, lambda: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        return {"process": process.number, "pid": pid}

    def _host_spec(self, spec: Fields, bundle: Path, *, terminal: bool) -> Fields:
        spec["root"]["path"] = str(bundle / "rootfs")
        # runc's own terminals come by a socket; ours is the container's stdio as it is.
        spec["process"]["terminal"] = False
        spec["process"].pop("consoleSize", None)
        spec["process"].pop("oomScoreAdj", None)
        spec["linux"]["namespaces"] += [{"type": kind} for kind in ("ipc", "uts", "network")]
        spec["linux"]["cgroupsPath"] = f"/alcove-runc-pods/{bundle.name}"
        for mount in spec["mounts"]:
            if mount["type"] == "bind":
                mount["source"] = self._path(mount["source"])
        return spec

    async def _start_container(self, fields: Fields) -> None:
        self._runc("start", fields["id"])

    async def _delete_container(self, fields: Fields) -> None:
        self._runc("delete", "--force", fields["id"], check=False)
        bundle = self.folder / "containers" / fields["id"]
        subprocess.run(["umount", "-l", str(bundle / "rootfs")], check=False, stderr=subprocess.DEVNULL)
        subprocess.run(["rm", "-rf", str(bundle)], check=True)

    async def _exec_create(self, fields: Fields) -> Fields:
        process = self._process(fields)
        process.container, process.exec = fields["id"], fields["exec"]
        spec = {**fields["process"], "terminal": False}
        path = self.folder / "containers" / fields["id"] / f"exec-{process.number}.json"
        path.write_text(json.dumps(spec))
        self._execs[fields["id"], fields["exec"]] = process, path
        return {"process": process.number, "pid": 0}

    async def _exec_start(self, fields: Fields) -> Fields:
        process, path = self._execs.pop((fields["id"], fields["exec"]))
        command = ["runc", "--root", str(self.folder / "runc"), "exec", "--process", str(path), fields["id"]]
        child = process.run(command)
        self._watch(process, child.wait)
        return {"process": process.number, "pid": child.pid}

    def _process(self, fields: Fields) -> Process:
        number = len(self.processes) + 1
        process = self.processes[number] = Process(self, number, terminal=fields["terminal"], stdin=fields["stdin"])
        return process

    def _watch(self, process: Process, wait: Any) -> None:
        task = asyncio.create_task(self._report(process, wait))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _report(self, process: Process, wait: Any) -> None:
        output = asyncio.create_task(process.forward())
        status = await asyncio.to_thread(wait)
        await output
        code, number = (status, 0) if status >= 0 else (0, -status)
        self.agent.event(
            event="container_exit",
            id=process.container,
            exec=process.exec,
            process=process.number,
            code=code,
            signal=number,
            time_ns=0,
        )

    async def _signal_container(self, fields: Fields) -> None:
        if fields["exec"] is not None:
            raise Refused("unknown", "signals to execs are not offered here")
        state = self._runc("state", fields["id"], check=False)
        if not state or json.loads(state)["status"] == "stopped":
            raise Refused("not_found", "the container has ended")
        everyone = ["--all"] if fields["all"] else []
        self._runc("kill", *everyone, fields["id"], str(fields["signal"]))

    async def _resize(self, fields: Fields) -> None:
        self.processes[fields["process"]].resize(fields["width"], fields["height"])

    async def _close_stdin(self, fields: Fields) -> None:
        self.processes[fields["process"]].close_input()

    async def _ack(self, fields: Fields) -> None:
        process = self.processes[fields["process"]]
        process.credit += fields["bytes"]
        process.more.set()

    async def _pause_container(self, fields: Fields) -> None:
        self._runc("pause", fields["id"])

    async def _resume_container(self, fields: Fields) -> None:
        self._runc("resume", fields["id"])

    async def _update_container(self, fields: Fields) -> None:
        path = self.folder / "update.json"
        path.write_text(json.dumps(fields["resources"]))
        self._runc("update", "--resources", str(path), fields["id"])

    async def _container_pids(self, fields: Fields) -> Fields:
        return {"pids": json.loads(self._runc("ps", "--format", "json", fields["id"]))}

    async def _container_stats(self, fields: Fields) -> Fields:
        stats = json.loads(self._runc("events", "--stats", fields["id"]))["data"]
        cpu = {"usage_usec": stats["cpu"]["usage"]["total"] // 1000}
        memory = {"current": stats["memory"]["usage"]["usage"], "max": "max"}
        return {"cpu": cpu, "memory": memory, "pids": {"current": stats["pids"].get("current", 0), "max": "max"}}

    async def _shutdown(self, fields: Fields) -> None:
        asyncio.get_running_loop().create_task(self.stop())


class Pods:
    """The node service."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.guests: dict[str, Guest] = {}
        names = ("start_pod", "attach_image", "detach_image", "attach_disk", "share_path")
        more = ("update_pod", "pod_stats", "stop_pod", "pods")
        self.node = NodeServer({name: getattr(self, f"_{name}") for name in (*names, *more)})

    async def _start_pod(self, fields: Fields) -> Fields:
        pod = fields["pod"]
        guest = self.guests[pod] = Guest(self._folder / pod[:12])
        guest.folder.mkdir(parents=True)
        await guest.agent.listen(guest.folder / "agent.sock")
        machine = {"pid": guest.machine.pid, "start_time": start_time(guest.machine.pid)}
        return {"agent": str(guest.folder / "agent.sock"), "machine": machine, "kernel": "", "interfaces": []}

    async def _attach_image(self, fields: Fields) -> Fields:
        images = self.guests[fields["pod"]].images
        device = next((name for name, layers in images.items() if layers == fields["layers"]), f"vd{len(images)}")
        images[device] = fields["layers"]
        return {"device": device, "partitions": len(fields["layers"])}

    async def _detach_image(self, fields: Fields) -> None:
        pass

    async def _attach_disk(self, fields: Fields) -> Fields:
        return {"device": "vdk", "fresh": True}

    async def _share_path(self, fields: Fields) -> Fields:
        return {"tag": fields["source"], "path": fields["source"]}

    async def _update_pod(self, fields: Fields) -> None:
        pass

    async def _pod_stats(self, fields: Fields) -> Fields:
        return {"machine": {"rss_bytes": 1 << 20, "cpu_ns": 1_000_000}, "network": []}

    async def _stop_pod(self, fields: Fields) -> None:
        guest = self.guests.pop(fields["pod"], None)
        if guest is not None:
            await guest.stop()
            subprocess.run(["rm", "-rf", str(guest.folder)], check=True)

    async def _pods(self, fields: Fields) -> Fields:
        return {"pods": list(self.guests)}


async def _serve(folder: Path) -> None:
    ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    pods = Pods(folder / "pods")
    await pods.node.listen(folder / "pods.sock")
    done = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, done.set)
    await done.wait()
    for pod in list(pods.guests):
        await pods._stop_pod({"pod": pod})


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1])))
