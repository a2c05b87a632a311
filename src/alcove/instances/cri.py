"""A client of CRI v1, the interface of containerd that Kubernetes uses: pods, containers and images.

Messages are dictionaries by ``cri_tables``. What gRPC raises becomes our errors here: nobody above knows of it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from grpclib.client import Channel, UnaryStreamMethod, UnaryUnaryMethod
from grpclib.const import Status
from grpclib.encoding.base import CodecBase
from grpclib.exceptions import GRPCError, StreamTerminatedError

from alcove.errors import AlcoveError, Conflict, InvalidRequest, NotFound, ThrottledError
from alcove.instances.cri_tables import MESSAGES
from alcove.wire.protobuf import Message

Value = dict[str, Any]

# A pod that the operating system of a busy machine makes takes seconds; what takes longer hangs.
TIMEOUT_S = 120.0
PULL_TIMEOUT_S = 3600.0
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


# What CRI says, as an unknown error, while containerd still looks at what an earlier one has left.
_STARTING = "server is not initialized yet"
_NAMESPACE = {"containerd-namespace": "k8s.io"}
# Of methods whose answers have nothing in them that is asked for.
_NOTHING = Message("Nothing")


class CriError(AlcoveError):
    """The runtime failed at what it was asked for."""


class Unavailable(ThrottledError):
    """containerd does not answer now: who asks is told to come again, as with any limit of the moment."""


class _Tables(CodecBase):
    """grpclib's way to our messages, which are dictionaries; a table is their type."""

    __content_subtype__ = "proto"

    def encode(self, message: Value, message_type: Message) -> bytes:
        return message_type.encode(message)

    def decode(self, data: bytes, message_type: Message) -> Value:
        return message_type.decode(data)


class Cri:
    """Connects at the first call, and again after containerd has started anew; ``close`` at the end. Methods raise
    ``NotFound``, ``Conflict``, ``InvalidRequest``, ``Unavailable`` or ``CriError``.
    """

    def __init__(self, socket: Path) -> None:
        self._channel = Channel(path=str(socket), codec=_Tables())
        self._calls = {name: self._unary(name, path) for name, path in _METHODS.items()}

    def _unary(self, name: str, path: str) -> UnaryUnaryMethod[Any, Any]:
        answer = MESSAGES.get(f"{name}Response", _NOTHING)
        return UnaryUnaryMethod(self._channel, path, MESSAGES[f"{name}Request"], answer)  # type: ignore[arg-type]

    def close(self) -> None:
        self._channel.close()

    async def call(self, name: str, request: Mapping[str, Any] | None = None, timeout_s: float = TIMEOUT_S) -> Value:
        """Call the method ``name`` with the fields of its request; return those of its answer."""
        with _translated(name):
            answer: Value = await self._calls[name](dict(request or {}), timeout=timeout_s)
            return answer

    # containerd's own services, which answer on the same socket

    async def ask(self, path: str, request: Value, tables: tuple[Message, Message]) -> Value:
        """Call a method by its path; ``tables`` are those of its request and answer."""
        method: UnaryUnaryMethod[Any, Any] = UnaryUnaryMethod(self._channel, path, *tables)  # type: ignore[arg-type]
        with _translated(path):
            answer: Value = await method(request, timeout=TIMEOUT_S, metadata=_NAMESPACE)
            return answer

    async def follow(self, path: str, request: Value, tables: tuple[Message, Message]) -> AsyncGenerator[Value, None]:
        """Yield what a method that streams has to tell, until it ends."""
        method: UnaryStreamMethod[Any, Any] = UnaryStreamMethod(self._channel, path, *tables)  # type: ignore[arg-type]
        with _translated(path):
            async with method.open(metadata=_NAMESPACE) as stream:
                await stream.send_message(request, end=True)
                async for message in stream:
                    yield message

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


@contextmanager
def _translated(name: str) -> Iterator[None]:
    try:
        yield
    except GRPCError as error:
        raise _error(name, error.status, error.message or "") from error
    except TimeoutError as error:
        raise CriError(f"{name}: no answer in time") from error
    except (OSError, StreamTerminatedError) as error:
        raise _error(name, Status.UNAVAILABLE, str(error)) from error


def _error(name: str, status: Status, details: str) -> AlcoveError:
    message = f"{name}: {details}"
    if status is Status.NOT_FOUND:
        return NotFound(message)
    if status is Status.ALREADY_EXISTS:
        return Conflict(message)
    if status is Status.INVALID_ARGUMENT:
        return InvalidRequest(message)
    if status in (Status.UNAVAILABLE, Status.CANCELLED) or _STARTING in details:
        return Unavailable(message, hint="containerd does not answer; it is started anew, or look at its log")
    return CriError(message)
