"""CRI without containers: a gRPC server whose pods and containers exist in dictionaries, told by our own tables.

An image whose name has ``missing`` cannot be fetched; one of a repository in ``locked`` only by the user named there.
A container runs until its command says otherwise: ``exit N`` ends it at once with that code.
"""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError
from grpclib.server import Server

from alcove.instances.cri import _METHODS, _NOTHING, _Tables
from alcove.instances.cri_tables import CREATED, EXITED, MESSAGES, RUNNING, SANDBOX_NOT_READY, SANDBOX_READY
from alcove.instances.registry import repository_of
from alcove.wire.protobuf import Message

Value = dict[str, Any]


class FakeCri:
    """``await start(socket)`` to ``await close()``."""

    def __init__(self) -> None:
        self.sandboxes: dict[str, Value] = {}
        self.containers: dict[str, Value] = {}
        self.images: dict[str, Value] = {}
        self.pulls: list[tuple[str, Value | None]] = []
        self.locked: dict[str, str] = {}  # repository -> user
        self.address = "10.9.8.7"  # of every pod
        self._ids = itertools.count(1)
        self._server: Any = None

    async def start(self, socket: Path) -> None:
        self._server = Server([self], codec=_Tables())
        await self._server.start(path=str(socket))

    async def close(self) -> None:
        self._server.close()
        await self._server.wait_closed()

    def __mapping__(self) -> dict[str, Handler]:
        return {path: self._handler(name) for name, path in _METHODS.items() if hasattr(self, name)}

    def _handler(self, name: str) -> Handler:
        answer = MESSAGES.get(f"{name}Response", _NOTHING)

        async def handle(stream: Any) -> None:
            request = await stream.recv_message()
            try:
                await stream.send_message(_fit(answer, getattr(self, name)(request)))
            except KeyError as error:
                raise GRPCError(Status.NOT_FOUND, str(error)) from None

        return Handler(handle, Cardinality.UNARY_UNARY, MESSAGES[f"{name}Request"], answer)

    # Pods

    def RunPodSandbox(self, request: Value) -> Value:
        id, config = f"sandbox{next(self._ids)}", request["config"]
        self.sandboxes[id] = {
            "id": id,
            "metadata": config["metadata"],
            "state": SANDBOX_READY,
            "created_at": time.time_ns(),
            "labels": config["labels"],
            "runtime_handler": request["runtime_handler"],
        }
        return {"pod_sandbox_id": id}

    def StopPodSandbox(self, request: Value) -> Value:
        self.sandboxes[request["pod_sandbox_id"]]["state"] = SANDBOX_NOT_READY
        return {}

    def RemovePodSandbox(self, request: Value) -> Value:
        id = request["pod_sandbox_id"]
        self.sandboxes.pop(id, None)
        self.containers = {key: one for key, one in self.containers.items() if one["pod_sandbox_id"] != id}
        return {}

    def PodSandboxStatus(self, request: Value) -> Value:
        return {"status": {"id": request["pod_sandbox_id"], "network": {"ip": self.address}}}

    def ListPodSandbox(self, request: Value) -> Value:
        return {"items": _chosen(self.sandboxes, request)}

    # Containers

    def CreateContainer(self, request: Value) -> Value:
        config = request["config"]
        if config["image"]["image"] not in self.images:
            raise GRPCError(Status.NOT_FOUND, "no such image")
        id = f"container{next(self._ids)}"
        self.containers[id] = {
            "id": id,
            "pod_sandbox_id": request["pod_sandbox_id"],
            "metadata": config["metadata"],
            "image": config["image"],
            "image_ref": "sha256:0",
            "state": CREATED,
            "created_at": time.time_ns(),
            "labels": config["labels"],
            "command": config["command"],
        }
        return {"container_id": id}

    def StartContainer(self, request: Value) -> Value:
        one = self.containers[request["container_id"]]
        now = time.time_ns()
        one |= {"state": RUNNING, "started_at": now}
        if one["command"][:1] == ["exit"]:
            one |= {"state": EXITED, "finished_at": now, "exit_code": int(one["command"][1])}
        return {}

    def StopContainer(self, request: Value) -> Value:
        one = self.containers[request["container_id"]]
        if one["state"] == RUNNING:
            one |= {"state": EXITED, "finished_at": time.time_ns(), "exit_code": 137}
        return {}

    def RemoveContainer(self, request: Value) -> Value:
        self.containers.pop(request["container_id"], None)
        return {}

    def ListContainers(self, request: Value) -> Value:
        return {"containers": _chosen(self.containers, request)}

    def ContainerStatus(self, request: Value) -> Value:
        one = self.containers.get(request["container_id"])
        if one is None:
            raise GRPCError(Status.NOT_FOUND, "no such container")
        return {"status": one}

    # Images

    def ImageStatus(self, request: Value) -> Value:
        return {"image": self.images.get(request["image"]["image"])}

    def ListImages(self, request: Value) -> Value:
        return {"images": list(self.images.values())}

    def PullImage(self, request: Value) -> Value:
        name, auth = request["image"]["image"], request["auth"]
        self.pulls.append((name, auth))
        if "missing" in name:
            raise GRPCError(Status.NOT_FOUND, f"{name}: not found")
        user = self.locked.get(repository_of(name))
        if user is not None and (auth or {}).get("username") != user:
            raise GRPCError(Status.UNKNOWN, f"{name}: 401 Unauthorized")
        self.images[name] = {"id": f"sha256:{name}", "repo_tags": [name], "repo_digests": [], "size": 1}
        return {"image_ref": self.images[name]["id"]}

    def RemoveImage(self, request: Value) -> Value:
        self.images.pop(request["image"]["image"], None)
        return {}


def _chosen(found: dict[str, Value], request: Value) -> list[Value]:
    wanted = ((request["filter"] or {}).get("label_selector")) or {}
    return [one for one in found.values() if wanted.items() <= one["labels"].items()]


def _fit(message: Message, value: Value) -> Value:
    """Return what the table knows of a value."""
    found = {}
    for field in message.fields:
        if (one := value.get(field.name)) is not None:
            if isinstance(field.kind, Message) and field.key is None:
                one = [_fit(field.kind, item) for item in one] if field.repeated else _fit(field.kind, one)
            found[field.name] = one
    return found
