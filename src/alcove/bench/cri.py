"""As much of CRI v1 (``k8s.io/cri-api``, ``runtime/v1/api.proto``) as the pods' benchmark asks containerd for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from alcove.wire.protobuf import BYTES, INT64, STRING, UINT32, Field, Message

# gRPC must not hook into fork(): our children are executed at once.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
TIMEOUT_S = 300.0

_SANDBOX_METADATA = Message(
    "PodSandboxMetadata",
    Field(1, "name", STRING),
    Field(2, "uid", STRING),
    Field(3, "namespace", STRING),
    Field(4, "attempt", UINT32),
)
_SANDBOX = Message("PodSandboxConfig", Field(1, "metadata", _SANDBOX_METADATA), Field(2, "hostname", STRING))
_CONTAINER_METADATA = Message("ContainerMetadata", Field(1, "name", STRING), Field(2, "attempt", UINT32))
_IMAGE = Message("ImageSpec", Field(1, "image", STRING))
_CONTAINER = Message(
    "ContainerConfig",
    Field(1, "metadata", _CONTAINER_METADATA),
    Field(2, "image", _IMAGE),
    Field(3, "command", STRING, repeated=True),
)
_POD_ID = Message("PodSandboxId", Field(1, "pod_sandbox_id", STRING))
_CONTAINER_ID = Message("ContainerId", Field(1, "container_id", STRING))
_NOTHING = Message("Nothing")

# Method -> what it takes and what it answers.
_METHODS = {
    "RunPodSandbox": (
        Message("RunPodSandboxRequest", Field(1, "config", _SANDBOX), Field(2, "runtime_handler", STRING)),
        _POD_ID,
    ),
    "StopPodSandbox": (_POD_ID, _NOTHING),
    "RemovePodSandbox": (_POD_ID, _NOTHING),
    "CreateContainer": (
        Message(
            "CreateContainerRequest",
            Field(1, "pod_sandbox_id", STRING),
            Field(2, "config", _CONTAINER),
            Field(3, "sandbox_config", _SANDBOX),
        ),
        _CONTAINER_ID,
    ),
    "StartContainer": (_CONTAINER_ID, _NOTHING),
    "StopContainer": (
        Message("StopContainerRequest", Field(1, "container_id", STRING), Field(2, "timeout", INT64)),
        _NOTHING,
    ),
    "RemoveContainer": (_CONTAINER_ID, _NOTHING),
    "ExecSync": (
        Message(
            "ExecSyncRequest",
            Field(1, "container_id", STRING),
            Field(2, "cmd", STRING, repeated=True),
            Field(3, "timeout", INT64),
        ),
        Message(
            "ExecSyncResponse", Field(1, "stdout", BYTES), Field(2, "stderr", BYTES), Field(3, "exit_code", UINT32)
        ),
    ),
    "ImageStatus": (
        Message("ImageStatusRequest", Field(1, "image", _IMAGE)),
        Message("ImageStatusResponse", Field(1, "image", Message("Image", Field(1, "id", STRING)))),
    ),
}


class Cri:
    """A client whose calls wait for their answer. Raises gRPC's errors: they end a benchmark."""

    def __init__(self, socket: Path) -> None:
        import grpc

        self._channel = grpc.insecure_channel(f"unix:{socket}", [("grpc.enable_http_proxy", 0)])

    def call(self, method: str, **fields: Any) -> dict[str, Any]:
        takes, answers = _METHODS[method]
        service = "ImageService" if method == "ImageStatus" else "RuntimeService"
        remote = self._channel.unary_unary(
            f"/runtime.v1.{service}/{method}", request_serializer=takes.encode, response_deserializer=answers.decode
        )
        answer: dict[str, Any] = remote(fields, timeout=TIMEOUT_S)
        return answer

    def has_image(self, name: str) -> bool:
        return self.call("ImageStatus", image={"image": name})["image"] is not None

    def close(self) -> None:
        self._channel.close()


def sandbox_config(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": name, "namespace": "bench", "attempt": 0}, "hostname": "bench"}


def container_config(name: str, image: str, command: list[str]) -> dict[str, Any]:
    return {"metadata": {"name": name, "attempt": 0}, "image": {"image": image}, "command": command}
