"""What a container needs in the guest before it is made: its image, files, disks and shares."""

from __future__ import annotations

import json
import os
from typing import Any

from alcove.shim import host_files, rootfs
from alcove.shim import spec as oci
from alcove.shim.agent import Agent, AgentError
from alcove.shim.container import Container
from alcove.shim.loop import Loop
from alcove.shim.node import Node, NodeError

Operation = dict[str, Any]

# Streams of files; those of standard inputs have the small numbers of processes.
_STREAM = 0x4000_0000
_MAX_SPEC = 4 * 1024 * 1024
_MAX_TERMINATION_LOG = 8 * 1024


def read_spec(bundle: str) -> dict[str, Any]:
    """Return the bundle's OCI configuration. Raises ``SpecError``, ``OSError``."""
    with open(os.path.join(bundle, "config.json"), "rb") as file:
        data = file.read(_MAX_SPEC + 1)
    try:
        spec = json.loads(data)
    except ValueError as error:
        raise oci.SpecError(f"config.json is not JSON: {error}") from error
    if len(data) > _MAX_SPEC or not isinstance(spec, dict):
        raise oci.SpecError(f"config.json is no object of at most {_MAX_SPEC} bytes")
    return spec


class Provisioner:
    """Brings containers' things into one pod's machine, and takes them out again."""

    def __init__(self, loop: Loop, node: Node, agent: Agent, pod: str) -> None:
        self._loop = loop
        self._node = node
        self._agent = agent
        self._pod = pod
        self._stream = _STREAM
        # Of each image's device: how many containers run from it.
        self._users: dict[str, int] = {}

    async def make(self, container: Container, spec: dict[str, Any], annotations: dict[str, str]) -> None:
        """Make the container in the guest, ready to be started. On failure ``remove`` cleans up.

        Raises ``SpecError``, ``NodeError``, ``AgentError``, ``OSError``.
        """
        facts = host_files.Host()
        plan = oci.convert(spec, container_id=container.id, annotations=annotations, facts=facts)
        container.termination_log = plan.termination_log
        ops = [await self._attach_image(container, rootfs.layers(container.rootfs, spec, container.bundle))]
        await self._attach_volumes(plan)
        await self._mount_nfs(plan.nfs, spec)
        ops += await self._send_files(container.id, plan)
        if plan.sysctls:
            ops.append({"op": "sysctl", "values": plan.sysctls})
        await self._create(container, plan, ops)

    async def set_up(self, spec: dict[str, Any]) -> None:
        """Set what the sandbox asks of the pod's kernel, and mount what needs a server: where that is away, the pod has
        no sandbox yet, and is tried again. Raises ``AgentError``, also for a setting that is no pod's.
        """
        values = (spec.get("linux") or {}).get("sysctl")
        if values:
            await self._agent.request("sysctl", values=values)
        await self._mount_nfs(oci.nfs_volumes(spec.get("annotations") or {}), spec)

    async def _attach_image(self, container: Container, layers: list[str]) -> Operation:
        """Attach the image to the machine; return what mounts it."""
        answer = await self._node.request("attach_image", pod=self._pod, layers=layers)
        device = container.device = str(answer["device"])
        self._users[device] = self._users.get(device, 0) + 1
        return {"op": "mount_image", "device": device, "partitions": answer["partitions"], "name": device}

    async def _attach_volumes(self, plan: oci.Plan) -> None:
        for disk in plan.disks:
            if disk.memory:
                await self._agent.request("mount_memory", name=disk.name, bytes=disk.bytes)
                continue
            answer = await self._node.request("attach_disk", pod=self._pod, name=disk.name, bytes=disk.bytes)
            fields = {"device": answer["device"], "name": disk.name, "fresh": bool(answer.get("fresh"))}
            await self._agent.request("mount_disk", **fields)
        for share in plan.shares:
            answer = await self._node.request("share_path", pod=self._pod, **share._asdict())
            await self._agent.request("mount_share", tag=answer["tag"], name=share.name)

    async def _mount_nfs(self, volumes: list[oci.Nfs], spec: dict[str, Any]) -> None:
        """All at once: one whose server is away takes as long as all of them. One that is there is looked at."""
        resolver = host_files.resolver(oci.resolver(spec)) if volumes else ""
        asked = [
            self._loop.spawn(self._agent.request("mount_nfs", resolver=resolver, **one._asdict())) for one in volumes
        ]
        for answer in asked:
            await answer

    async def _send_files(self, container_id: str, plan: oci.Plan) -> list[Operation]:
        """Send the files' bytes; return what unpacks them, which fails where the stream was refused."""
        if not plan.copies:
            return []
        self._stream += 1
        stream, data = self._stream, host_files.pack(plan.copies)
        self._agent.notify("copy_begin", stream=stream, path=container_id)
        await self._agent.send_data(stream, data)
        return [{"op": "put_files", "stream": stream, "path": container_id, "mode": 0o755}]

    async def _create(self, container: Container, plan: oci.Plan, before: list[Operation]) -> None:
        """Make the container, after what it needs and in the same round trip."""
        init = container.init
        container.made = True
        create = {
            "op": "create_container",
            "id": container.id,
            "image": container.device,
            "spec": plan.spec,
            "pid": plan.pid_mode,
            "terminal": init.terminal,
            "stdin": bool(init.stdin),
            "disk_bytes": oci.disk_limit(plan.spec),
        }
        reply = (await self._agent.request("batch", ops=[*before, create]))["replies"][-1]
        init.number, init.guest_pid = int(reply["process"]), int(reply["pid"])

    async def remove(self, container: Container) -> None:
        """Take away what was made for the container; what is gone already is no error, nor is a dead machine."""
        if container.made:
            await self._ask("delete_container", id=container.id)
            container.made = False
        if container.device is None:
            return
        device, container.device = container.device, None
        self._users[device] -= 1
        if not self._users[device]:
            await self._ask("unmount_image", name=device)
        try:
            await self._node.request("detach_image", pod=self._pod, device=device)
        except (NodeError, TimeoutError):
            # The machine's end frees it.
            pass

    async def copy_termination_log(self, container: Container) -> None:
        """Bring what the container said of its end to the host. Raises ``AgentError``, ``OSError``."""
        log = container.termination_log
        if log is None:
            return
        reply = await self._agent.request("read_file", timeout_s=5, path=log.guest, bytes=_MAX_TERMINATION_LOG)
        fd = os.open(log.host, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.write(fd, str(reply.get("text", ""))[:_MAX_TERMINATION_LOG].encode(errors="replace"))
        finally:
            os.close(fd)

    async def _ask(self, op: str, **fields: Any) -> None:
        try:
            await self._agent.request(op, **fields)
        except (AgentError, TimeoutError):
            pass
