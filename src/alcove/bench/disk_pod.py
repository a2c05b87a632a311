"""A pod with a container whose programs do input and output: on an emptyDir, and on a folder of the host's."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from alcove.bench import fio
from alcove.errors import HostError
from alcove.pods.service import PodService
from alcove.sandbox.agent import AgentClient

POD = "bench-disk"
PLACES = {"block": "/block", "virtio-fs": "/share"}
_BLOCK, _SHARE = "/run/alcove/disks/bench", "/run/alcove/shares/bench"
# Pods' disks have a limit that guards their neighbours; the file and its tables fit twice.
_BYTES = 2 * fio.FILE_MIB << 20
_TIMEOUT_S = 300.0


class DiskPod:
    def __init__(self, agent: AgentClient) -> None:
        self._agent = agent
        self._printed = bytearray()
        self._end: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._count = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        agent.on_log = self._on_log
        agent.on_event = self._on_event

    def _on_log(self, process: int, stream: int, data: bytes) -> None:
        self._printed += data
        task = asyncio.ensure_future(self._agent.request("ack", process=process, bytes=len(data)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _on_event(self, event: dict[str, Any]) -> None:
        if event.get("event") == "container_exit" and not self._end.done():
            self._end.set_result(event)

    async def run(self, words: list[str]) -> str:
        """Run a program in a container of its own, to its end; return what it printed. Raises ``HostError``."""
        self._count += 1
        id = f"fio{self._count}"
        self._printed.clear()
        self._end = asyncio.get_running_loop().create_future()
        fields: dict[str, Any] = {"image": "fio", "pid": "container", "terminal": False, "stdin": False}
        await self._agent.request("create_container", id=id, spec=_spec(words), **fields)
        await self._agent.request("start_container", id=id)
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                end = await self._end
        except TimeoutError as error:
            what = f"{words[0]} does not end in the pod, or the pod is gone"
            raise HostError(what, hint="is there room on the disk? see df") from error
        await asyncio.gather(*self._tasks)
        await self._agent.request("delete_container", id=id)
        text = self._printed.decode(errors="replace")
        if end.get("code"):
            raise HostError(f"{words[0]} ended with {end['code']} in the pod: {text[-300:]}")
        return text


@contextlib.asynccontextmanager
async def disk_pod(service: PodService, layer: Path, shared: Path) -> AsyncIterator[DiskPod]:
    """A pod of two processors, for the time of the block."""

    async def ask(op: str, **fields: Any) -> Any:
        return await service.carry_out({"op": op, "pod": POD, "namespace": "bench", **fields})

    started = await ask("start_pod", cpus=2, annotations={"io.alcove.host-paths": "true"})
    try:
        agent = await AgentClient.connect(Path(started["agent"]))
        try:
            await agent.hello(60)
            attached = await ask("attach_image", layers=[str(layer)])
            disk = await ask("attach_disk", name="bench", bytes=_BYTES)
            share = await ask("share_path", name="bench", source=str(shared), read_only=False)
            await agent.request("mount_image", name="fio", **attached)
            await agent.request("mount_disk", name="bench", **disk)
            await agent.request("mount_share", name="bench", tag=share["tag"])
            yield DiskPod(agent)
        finally:
            agent.close()
    finally:
        await ask("stop_pod")


def _spec(words: list[str]) -> dict[str, Any]:
    mounts: list[tuple[str, str, str, list[str]]] = [
        ("/proc", "proc", "proc", []),
        ("/dev", "tmpfs", "tmpfs", ["nosuid", "mode=755"]),
        ("/tmp", "tmpfs", "tmpfs", []),
        (PLACES["block"], "bind", _BLOCK, ["rbind"]),
        (PLACES["virtio-fs"], "bind", _SHARE, ["rbind"]),
    ]
    return {
        "ociVersion": "1.0.2",
        "process": {
            "args": words,
            "cwd": "/tmp",
            "env": ["PATH=/usr/bin", "HOME=/tmp"],
            "user": {"uid": 0, "gid": 0},
            "capabilities": {"bounding": ["CAP_DAC_OVERRIDE"], "effective": ["CAP_DAC_OVERRIDE"],
                             "permitted": ["CAP_DAC_OVERRIDE"]},
        },
        "root": {"path": "rootfs"},
        "mounts": [
            {"destination": at, "type": kind, "source": source, "options": how} for at, kind, source, how in mounts
        ],
        "linux": {"namespaces": [{"type": "mount"}], "resources": {}},
    }  # fmt: skip
