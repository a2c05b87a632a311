"""The host's side of the control channel: requests to the agent inside a VM, its events and logs.

The guest may be hostile: what it sends is bounded by the frame decoder, requests are answered by id, and anything out
of order ends the channel with ``ProtocolError``.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from alcove.errors import ProtocolError, SandboxError, SandboxGone
from alcove.wire.frame import PROTOCOL_VERSION, Decoder, FrameError, Kind, encode


class AgentError(SandboxError):
    """The agent could not carry out an operation; ``code`` is its word for why."""

    def __init__(self, op: str, code: str, message: str) -> None:
        super().__init__(f"{op}: {message}")
        self.code = code


LogHandler = Callable[[int, int, bytes], None]
EventHandler = Callable[[dict[str, Any]], None]


class AgentClient(asyncio.Protocol):
    """A connected control channel. ``on_log(process, stream, bytes)`` and ``on_event`` are called from the loop."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._decoder = Decoder()
        self._pending: dict[int, tuple[str, asyncio.Future[dict[str, Any]]]] = {}
        self._next = 0
        self._failure: SandboxError | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self.on_log: LogHandler = lambda process, stream, data: None
        self.on_event: EventHandler = lambda event: None

    @classmethod
    async def connect(cls, path: Path) -> AgentClient:
        loop = asyncio.get_running_loop()
        _, client = await loop.create_unix_connection(cls, str(path))
        return client

    async def request(self, op: str, *, timeout_s: float = 30.0, **fields: Any) -> dict[str, Any]:
        """Carry out one operation. Raises ``AgentError``, ``SandboxGone``, ``ProtocolError``, ``TimeoutError``."""
        if self._failure is not None:
            raise self._failure
        assert self._transport is not None
        self._next += 1
        number = self._next
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._pending[number] = (op, answer)
        self._transport.write(encode(Kind.REQUEST, number, json.dumps({"op": op, **fields}).encode()))
        try:
            async with asyncio.timeout(timeout_s):
                return await answer
        finally:
            self._pending.pop(number, None)

    async def batch(self, *ops: dict[str, Any], timeout_s: float = 30.0) -> list[dict[str, Any]]:
        """Carry out several operations in one round trip; the first that fails is raised."""
        reply = await self.request("batch", ops=list(ops), timeout_s=timeout_s)
        return cast(list[dict[str, Any]], reply.get("replies", []))

    async def hello(self, timeout_s: float) -> dict[str, Any]:
        """Wait for the agent and check that it speaks our protocol."""
        reply = await self.request("hello", timeout_s=timeout_s)
        if reply.get("protocol") != PROTOCOL_VERSION:
            raise ProtocolError(f"the agent speaks protocol {reply.get('protocol')!r}, not {PROTOCOL_VERSION}")
        return reply

    async def send_data(self, stream: int, chunk: bytes) -> None:
        """Send bytes of a ``copy_code`` stream, as fast as the guest takes them."""
        await self._writable.wait()
        if self._failure is not None:
            raise self._failure
        assert self._transport is not None
        self._transport.write(encode(Kind.DATA, stream, chunk))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._decoder.feed(data):
                self._receive(frame.kind, frame.id, frame.payload)
        except (FrameError, ValueError, TypeError, RecursionError) as error:
            self._fail(ProtocolError(f"the agent's channel carried garbage: {error}"))

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(SandboxGone("the agent's channel closed"))

    def _receive(self, kind: Kind, number: int, payload: bytes) -> None:
        match kind:
            case Kind.LOG:
                if payload:
                    self.on_log(number, payload[0], payload[1:])
            case Kind.EVENT:
                self.on_event(_object(payload))
            case Kind.REPLY | Kind.ERROR:
                op, answer = self._pending.get(number, ("", None))
                document = _object(payload)
                if answer is None or answer.done():
                    return
                if kind is Kind.REPLY:
                    answer.set_result(document)
                else:
                    error = AgentError(op, str(document.get("code")), str(document.get("message")))
                    answer.set_exception(error)
            case _:
                raise FrameError(f"frame kind {kind.name} has no place on the control channel")

    def _fail(self, failure: SandboxError) -> None:
        if self._failure is None:
            self._failure = failure
        self._writable.set()
        if self._transport is not None:
            self._transport.abort()
        for _, answer in self._pending.values():
            if not answer.done():
                answer.set_exception(self._failure)


def _object(payload: bytes) -> dict[str, Any]:
    document = json.loads(payload)
    if not isinstance(document, dict):
        raise TypeError("what an agent says is an object")
    return document
