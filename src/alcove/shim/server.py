"""The shim's ttrpc server: requests are carried out side by side and answered as they are done, in any order."""

from __future__ import annotations

import socket
from typing import Any

from alcove.shim.agent import AgentError
from alcove.shim.connection import Connection
from alcove.shim.log import Log
from alcove.shim.loop import READ, Loop
from alcove.shim.node import NodeError
from alcove.shim.spec import SpecError
from alcove.shim.task_service import TaskService
from alcove.wire import task_messages, ttrpc
from alcove.wire.protobuf import ProtobufError
from alcove.wire.ttrpc import Failure

# What the agent and the node service call it, and what containerd does.
_CODES = {
    "capacity": ttrpc.RESOURCE_EXHAUSTED,
    "exists": ttrpc.ALREADY_EXISTS,
    "gone": ttrpc.NOT_FOUND,
    "invalid": ttrpc.INVALID_ARGUMENT,
    "not_found": ttrpc.NOT_FOUND,
    "unavailable": ttrpc.UNAVAILABLE,
}


class Server:
    def __init__(self, loop: Loop, log: Log, listener: socket.socket, service: TaskService) -> None:
        self._loop = loop
        self._log = log
        self._listener = listener
        self._service = service
        listener.setblocking(False)
        loop.watch(listener.fileno(), READ, self._accept)

    def close(self) -> None:
        """Take no more connections; those that are stay."""
        self._loop.unwatch(self._listener.fileno())
        self._listener.close()

    def _accept(self, events: int) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        _Client(self._loop, self, sock)

    async def answer(self, data: bytes, stream: int) -> bytes:
        """Carry out a request and return its response's frame."""
        try:
            return ttrpc.response(stream, await self._carry_out(data))
        except Failure as failure:
            return ttrpc.error_response(stream, failure)
        except Exception as error:
            self._log.error(f"a request failed: {type(error).__name__}: {error}")
            return ttrpc.error_response(stream, _failure(error))

    async def _carry_out(self, data: bytes) -> bytes:
        request: dict[str, Any] = ttrpc.REQUEST_MESSAGE.decode(data)
        name = request["method"]
        method = self._service.method(name) if request["service"] == task_messages.SERVICE else None
        if method is None:
            raise Failure(ttrpc.UNIMPLEMENTED, f"{request['service']}/{name} is not offered")
        takes, returns = task_messages.METHODS[name]
        return returns.encode(await method(takes.decode(request["payload"])))


def _failure(error: Exception) -> Failure:
    if isinstance(error, AgentError | NodeError):
        return Failure(_CODES.get(error.code, ttrpc.UNKNOWN), str(error))
    if isinstance(error, SpecError | ProtobufError):
        return Failure(ttrpc.INVALID_ARGUMENT, str(error))
    if isinstance(error, TimeoutError):
        return Failure(ttrpc.DEADLINE_EXCEEDED, str(error))
    return Failure(ttrpc.UNKNOWN, f"{type(error).__name__}: {error}")


class _Client:
    def __init__(self, loop: Loop, server: Server, sock: socket.socket) -> None:
        self._loop = loop
        self._server = server
        self._decoder = ttrpc.Decoder()
        self._connection = Connection(loop, sock, self._receive, lambda: None)

    def _receive(self, data: bytes) -> None:
        try:
            for stream, type, payload in self._decoder.feed(data):
                if type == ttrpc.REQUEST:
                    self._loop.background(self._serve(stream, payload))
        except ttrpc.TtrpcError:
            self._connection.close()

    async def _serve(self, stream: int, payload: bytes) -> None:
        self._connection.send(await self._server.answer(payload, stream))
