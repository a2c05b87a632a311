"""A client of CRI v1, the interface of containerd that Kubernetes uses: pods, containers and images.

Messages are dictionaries by ``cri_tables``. What gRPC raises becomes our errors here: nobody above knows of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alcove.errors import AlcoveError, Conflict, InvalidRequest, NotFound, ThrottledError
from alcove.instances.cri_tables import MESSAGES

Value = dict[str, Any]

# gRPC must not hook into fork(): the daemon's children are executed at once.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
# A pod that the operating system of a busy machine makes takes seconds; what takes longer hangs.
TIMEOUT_S = 120.0
PULL_TIMEOUT_S = 3600.0
# What one answer may have: lists of many thousand containers, and exec's output.
MESSAGE_LIMIT = 64 << 20
# What one command may print when it is run and waited for; beyond it CRI's answer is refused as a whole.
_IMAGE = ("ListImages", "ImageStatus", "PullImage", "RemoveImage", "ImageFsInfo")
_RUNTIME = (
    *("Version", "Status", "RunPodSandbox", "StopPodSandbox", "RemovePodSandbox", "PodSandboxStatus", "ListPodSandbox"),
    *("CreateContainer", "StartContainer", "StopContainer", "RemoveContainer", "ListContainers", "ContainerStatus"),
    *("UpdateContainerResources", "ReopenContainerLog", "ListContainerStats"),
    *("ExecSync", "Exec", "Attach", "PortForward"),
)
_METHODS = {
    **{name: f"/runtime.v1.RuntimeService/{name}" for name in _RUNTIME},
    **{name: f"/runtime.v1.ImageService/{name}" for name in _IMAGE},
}


class CriError(AlcoveError):
    """The runtime failed at what it was asked for."""


class Unavailable(ThrottledError):
    """containerd does not answer now: who asks is told to come again, as with any limit of the moment."""


class Cri:
    """``connect`` to ``close``. Methods raise ``NotFound``, ``Conflict``, ``InvalidRequest``, ``Unavailable`` or
    ``CriError``.
    """

    def __init__(self, socket: Path) -> None:
        import grpc

        self._grpc = grpc
        options = [
            ("grpc.max_receive_message_length", MESSAGE_LIMIT),
            # One containerd that starts again must be found soon, not after two minutes.
            ("grpc.max_reconnect_backoff_ms", 1000),
            ("grpc.initial_reconnect_backoff_ms", 100),
            # A proxy that the environment names is for no UNIX socket.
            ("grpc.enable_http_proxy", 0),
        ]
        self.channel = grpc.aio.insecure_channel(f"unix:{socket}", options)
        self._calls = {name: self._unary(name, path) for name, path in _METHODS.items()}

    def _unary(self, name: str, path: str) -> Any:
        return self.channel.unary_unary(
            path,
            request_serializer=MESSAGES[f"{name}Request"].encode,
            response_deserializer=MESSAGES[f"{name}Response"].decode if f"{name}Response" in MESSAGES else _nothing,
        )

    async def close(self) -> None:
        await self.channel.close()

    async def call(self, name: str, request: Mapping[str, Any] | None = None, timeout_s: float = TIMEOUT_S) -> Value:
        """Call the method ``name`` with the fields of its request; return those of its answer."""
        with self.translated(name):
            answer: Value = await self._calls[name](dict(request or {}), timeout=timeout_s)
            return answer

    @contextmanager
    def translated(self, name: str) -> Iterator[None]:
        try:
            yield
        except self._grpc.aio.AioRpcError as error:
            raise _error(name, error.code().name, error.details() or "") from error

    # Pods

    async def run_sandbox(self, config: Value, handler: str) -> str:
        answer = await self.call("RunPodSandbox", {"config": config, "runtime_handler": handler})
        return str(answer["pod_sandbox_id"])

    async def stop_sandbox(self, sandbox: str) -> None:
        await self.call("StopPodSandbox", {"pod_sandbox_id": sandbox})

    async def remove_sandbox(self, sandbox: str) -> None:
        await self.call("RemovePodSandbox", {"pod_sandbox_id": sandbox})

    async def sandboxes(self, labels: Mapping[str, str]) -> list[Value]:
        answer = await self.call("ListPodSandbox", {"filter": {"label_selector": dict(labels)}})
        return list(answer["items"])

    async def sandbox(self, sandbox: str) -> Value:
        answer = await self.call("PodSandboxStatus", {"pod_sandbox_id": sandbox})
        return dict(answer["status"])

    # Containers

    async def create(self, sandbox: str, config: Value, sandbox_config: Value) -> str:
        request = {"pod_sandbox_id": sandbox, "config": config, "sandbox_config": sandbox_config}
        return str((await self.call("CreateContainer", request))["container_id"])

    async def start(self, container: str) -> None:
        await self.call("StartContainer", {"container_id": container})

    async def stop(self, container: str, grace_s: int) -> None:
        request = {"container_id": container, "timeout": grace_s}
        await self.call("StopContainer", request, TIMEOUT_S + grace_s)

    async def remove(self, container: str) -> None:
        await self.call("RemoveContainer", {"container_id": container})

    async def containers(self, labels: Mapping[str, str]) -> list[Value]:
        answer = await self.call("ListContainers", {"filter": {"label_selector": dict(labels)}})
        return list(answer["containers"])

    async def container(self, container: str) -> Value:
        answer = await self.call("ContainerStatus", {"container_id": container})
        return dict(answer["status"])

    async def run_command(self, container: str, command: list[str], timeout_s: int) -> tuple[int, bytes, bytes]:
        """Run a command in a container; return its exit code, stdout and stderr. 0 waits for ever."""
        request = {"container_id": container, "cmd": command, "timeout": timeout_s}
        answer = await self.call("ExecSync", request, timeout_s + 10 if timeout_s else PULL_TIMEOUT_S)
        return answer["exit_code"], answer["stdout"], answer["stderr"]

    # Images

    async def image(self, reference: str) -> Value | None:
        """Return the image that is here under this name, or None."""
        found = (await self.call("ImageStatus", {"image": {"image": reference}}))["image"]
        return None if found is None else dict(found)

    async def pull(self, reference: str, auth: Value | None = None) -> str:
        """Fetch an image; return its id."""
        request: Value = {"image": {"image": reference}}
        if auth is not None:
            request["auth"] = auth
        return str((await self.call("PullImage", request, PULL_TIMEOUT_S))["image_ref"])


def _nothing(data: bytes) -> Value:
    return {}


def _error(name: str, code: str, details: str) -> AlcoveError:
    message = f"{name}: {details}"
    if code == "NOT_FOUND":
        return NotFound(message)
    if code == "ALREADY_EXISTS":
        return Conflict(message)
    if code == "INVALID_ARGUMENT":
        return InvalidRequest(message)
    if code in ("UNAVAILABLE", "CANCELLED"):
        return Unavailable(message, hint="containerd does not answer; it is started anew, or look at its log")
    return CriError(message)
