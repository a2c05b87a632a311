"""Asking the node service in ``alcove serve``: one line of JSON each way, a connection for each request."""

from __future__ import annotations

import json
from typing import Any

from alcove.shim.connection import Connection
from alcove.shim.loop import Future, Loop

DEFAULT_SOCKET = "/run/alcove/pods.sock"
MAX_ANSWER = 1024 * 1024


class NodeError(Exception):
    """The node service refused or failed; ``code`` is its word: not_found, exists, invalid, unavailable, ..."""

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(f"{message} ({hint})" if hint else message)
        self.code = code


class Node:
    """``namespace`` is containerd's: pods are known by it and their own name."""

    def __init__(self, loop: Loop, path: str = DEFAULT_SOCKET, *, namespace: str = "default") -> None:
        self._loop = loop
        self._path = path
        self._namespace = namespace

    async def request(self, op: str, *, timeout_s: float = 120.0, **fields: Any) -> dict[str, Any]:
        """Carry out one operation. Raises ``NodeError``, ``TimeoutError``."""
        received = bytearray()
        answer: Future[bytes] = self._loop.future()

        def on_data(data: bytes) -> None:
            received.extend(data)
            if b"\n" in data or len(received) > MAX_ANSWER:
                answer.set_result(bytes(received))

        connection = self._connect(on_data, answer)
        try:
            connection.send(json.dumps({"op": op, "namespace": self._namespace, **fields}).encode() + b"\n")
            line = await self._loop.within(timeout_s, answer)
        finally:
            connection.close()
        return _result(op, line)

    def _connect(self, on_data: Any, answer: Future[bytes]) -> Connection:
        def on_close() -> None:
            answer.set_error(NodeError("unavailable", "the node service closed the connection"))

        try:
            return Connection.connect(self._loop, self._path, on_data, on_close)
        except OSError as error:
            message = f"the node service at {self._path} does not answer: {error.strerror}"
            raise NodeError("unavailable", message, "is `alcove serve` running?") from error


def _result(op: str, line: bytes) -> dict[str, Any]:
    try:
        document = json.loads(line)
        if "ok" in document:
            return dict(document["ok"] or {})
        error = document["error"]
        raise NodeError(str(error["code"]), f"{op}: {error['message']}", str(error.get("hint") or ""))
    except (ValueError, KeyError, TypeError) as error:
        raise NodeError("failed", f"{op}: the node service's answer is malformed") from error
