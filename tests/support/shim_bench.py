"""A shim as containerd has it: started as a process, between a scripted node service, a scripted guest and a listener
of events that stands for containerd.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.support.pod_wire import AgentServer, Fields, NodeServer, Operation, Refused

from alcove.wire import event_messages, task_messages, ttrpc

SHIM = Path(__file__).parents[2] / "scripts/containerd-shim-alcove-v2"
EVENTS = {table.name: table for table in vars(event_messages).values() if isinstance(table, ttrpc.Message)}


class Ttrpc:
    """A client that has any number of calls on their way."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._stream = -1
        self._answers: dict[int, asyncio.Future[bytes]] = {}
        self._task = asyncio.create_task(self._read(reader))

    async def call(self, method: str, **fields: Any) -> Fields:
        """Raises ``Failure``."""
        takes, returns = task_messages.METHODS[method]
        self._stream += 2
        answer = self._answers[self._stream] = asyncio.get_running_loop().create_future()
        self._writer.write(ttrpc.request(self._stream, task_messages.SERVICE, method, takes.encode(fields)))
        return returns.decode(ttrpc.result(await answer))

    async def close(self) -> None:
        self._writer.transport.abort()
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError, ConnectionError):
            await self._task

    async def _read(self, reader: asyncio.StreamReader) -> None:
        decoder = ttrpc.Decoder()
        while chunk := await reader.read(65536):
            for stream, _, data in decoder.feed(chunk):
                self._answers.pop(stream).set_result(data)
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(ConnectionError("the shim hung up"))


class Listener:
    """What containerd hears: (topic, event), in order."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.heard: list[tuple[str, Fields]] = []
        self._news = asyncio.Event()
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, str(self._path))

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self._writers:
            writer.transport.abort()
        self._path.unlink(missing_ok=True)

    async def until(self, topic: str, **fields: Any) -> Fields:
        """Wait for an event."""
        while True:
            for heard, event in self.heard:
                if heard == topic and fields.items() <= event.items():
                    return event
            self._news.clear()
            async with asyncio.timeout(20):
                await self._news.wait()

    def topics(self) -> list[str]:
        return [topic for topic, _ in self.heard]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        decoder = ttrpc.Decoder()
        with contextlib.suppress(ConnectionError):
            while chunk := await reader.read(65536):
                for stream, _, data in decoder.feed(chunk):
                    request = ttrpc.REQUEST_MESSAGE.decode(data)
                    envelope = event_messages.FORWARD_REQUEST.decode(request["payload"])["envelope"]
                    event = EVENTS[envelope["event"]["type_url"]].decode(envelope["event"]["value"])
                    self.heard.append((envelope["topic"], event))
                    self._news.set()
                    writer.write(ttrpc.response(stream, b""))
        writer.close()


class Guest:
    """A scripted agent: every operation succeeds unless the test replaced it; ``asked`` has them all."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Fields]] = []
        self.data: dict[int, bytes] = {}
        self.agent = AgentServer({})
        self._processes = 0
        special: dict[str, Operation] = {
            "create_container": self._create,
            "exec_create": self._create,
            "exec_start": self._exec_start,
        }
        names = (
            *("mount_image", "unmount_image", "mount_disk", "mount_memory", "mount_share", "mount_nfs"),
            *("copy_begin", "put_files"),
            *("start_container", "delete_container", "exec_start", "signal_container", "resize", "close_stdin", "ack"),
            *("pause_container", "resume_container", "update_container", "read_file", "sysctl", "shutdown"),
            *("create_container", "exec_create", "container_pids", "container_stats"),
        )
        for name in names:
            self.on(name, special.get(name, _nothing))
        self.agent.data = self._data

    def on(self, name: str, operation: Operation) -> None:
        async def carry_out(fields: Fields) -> Fields | None:
            self.asked.append((name, fields))
            return await operation(fields)

        self.agent.operations[name] = carry_out

    def requests(self, name: str) -> list[Fields]:
        return [fields for asked, fields in self.asked if asked == name]

    async def until(self, name: str, count: int = 1) -> list[Fields]:
        async with asyncio.timeout(20):
            while len(self.requests(name)) < count:
                await asyncio.sleep(0.01)
        return self.requests(name)

    def exit(self, id: str, *, exec: str | None = None, code: int = 0, signal: int = 0) -> None:
        self.agent.event(event="container_exit", id=id, exec=exec, process=1, code=code, signal=signal, time_ns=0)

    async def _create(self, fields: Fields) -> Fields:
        self._processes += 1
        return {"process": self._processes, "pid": 100 + self._processes}

    async def _exec_start(self, fields: Fields) -> Fields:
        return {"process": self._processes, "pid": 100 + self._processes}

    def _data(self, stream: int, chunk: bytes) -> None:
        self.data[stream] = self.data.get(stream, b"") + chunk


async def _nothing(fields: Fields) -> None:
    return None


class Bench:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.guest = Guest()
        self.asked: list[tuple[str, Fields]] = []
        self.node = NodeServer({name: self._operation(name) for name in ("start_pod", "attach_image", "attach_disk")})
        for name in ("detach_image", "share_path", "update_pod", "pod_stats", "stop_pod"):
            self.node.operations[name] = self._operation(name)
        self.answers: dict[str, Fields | Refused] = {
            "start_pod": {"agent": str(folder / "agent"), "machine": {"pid": 4242, "start_time": 1}},
            "attach_image": {"device": "vdb", "partitions": 1},
            "attach_disk": {"device": "vdk", "fresh": True},
            "share_path": {"tag": "t", "path": "/x"},
        }
        self.events = Listener(folder / "events")
        self.address = ""
        self.clients: list[Ttrpc] = []

    async def connect(self) -> Ttrpc:
        client = Ttrpc(*await asyncio.open_unix_connection(self.address.removeprefix("unix://")))
        self.clients.append(client)
        return client

    def _operation(self, name: str) -> Operation:
        async def carry_out(fields: Fields) -> Fields:
            self.asked.append((name, fields))
            answer = self.answers.get(name, {})
            if isinstance(answer, Refused):
                raise answer
            return answer

        return carry_out

    def requests(self, name: str) -> list[Fields]:
        return [fields for asked, fields in self.asked if asked == name]

    def bundle(self, id: str, **changes: Any) -> Path:
        path = self.folder / "b" / id
        path.mkdir(parents=True)
        spec = {
            "ociVersion": "1.0.2",
            "process": {"args": ["sh"], "cwd": "/"},
            "root": {"path": "rootfs"},
            "mounts": [],
            "linux": {"namespaces": [{"type": "pid"}, {"type": "network", "path": "/no/netns"}, {"type": "mount"}]},
            **changes,
        }
        (path / "config.json").write_text(json.dumps(spec))
        return path

    def run(self, action: str, id: str, bundle: Path) -> subprocess.CompletedProcess[bytes]:
        """Start the program as containerd does."""
        environment = {
            "PATH": os.environ["PATH"],
            "TTRPC_ADDRESS": str(self.folder / "events"),
            "ALCOVE_PODS_SOCKET": str(self.folder / "pods"),
            "ALCOVE_SHIM_FOLDER": str(self.folder / "s"),
        }
        flags = ["-namespace", "ns", "-address", "/c", "-publish-binary", "/bin/false", "-id", id]
        command = [str(SHIM), *flags, "-bundle", str(bundle), action]
        return subprocess.run(command, cwd=bundle, env=environment, capture_output=True, check=False, timeout=30)

    async def start(self, id: str, **changes: Any) -> Ttrpc:
        """Start the shim of a container and connect to it."""
        bundle = self.bundle(id, **changes)
        done = await asyncio.to_thread(self.run, "start", id, bundle)
        assert done.returncode == 0, done.stderr
        assert done.stderr == b""
        self.address = done.stdout.decode()
        return await self.connect()

    async def create(self, shim: Ttrpc, id: str, **fields: Any) -> Fields:
        rootfs = [{"type": "overlay", "source": "overlay", "options": ["workdir=/w", "upperdir=/no", "lowerdir=/b:/a"]}]
        return await shim.call("Create", id=id, bundle=str(self.folder / "b" / id), rootfs=rootfs, **fields)

    def fifo(self, name: str) -> str:
        path = self.folder / name
        os.mkfifo(path)
        return str(path)


@contextlib.asynccontextmanager
async def shim_bench(folder: Path) -> AsyncIterator[Bench]:
    bench = Bench(folder)
    await bench.node.listen(folder / "pods")
    await bench.guest.agent.listen(folder / "agent")
    await bench.events.start()
    try:
        yield bench
    finally:
        await end_shim(bench)
        for client in bench.clients:
            await client.close()
        await bench.guest.agent.close()
        await bench.events.stop()
        await bench.node.close()


async def end_shim(bench: Bench) -> None:
    """Kill the shim, if it still serves."""
    with contextlib.suppress(OSError, ConnectionError):
        pid = (await (await bench.connect()).call("Connect", id=""))["shim_pid"]
        os.kill(pid, signal.SIGKILL)


@contextlib.asynccontextmanager
async def short_bench() -> AsyncIterator[Bench]:
    """A bench in a folder of its own: sockets' paths are short, whatever pytest's folders are called."""
    folder = Path(tempfile.mkdtemp(prefix="shim-"))
    try:
        async with shim_bench(folder) as made:
            yield made
    finally:
        shutil.rmtree(folder)


async def running(bench: Bench, id: str = "c1", **fields: Any) -> Ttrpc:
    shim = await bench.start(id)
    await bench.create(shim, id, **fields)
    await shim.call("Start", id=id)
    return shim
