"""The shim's side of the control channel: requests to the agent in the pod's machine, its events and output.

The guest may be hostile: what it sends is bounded by the frame decoder, and anything out of order ends the channel. The
shim is the channel's one client, so a channel that closes means that the machine has ended.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from alcove.shim.connection import Connection
from alcove.shim.loop import Future, Loop
from alcove.wire.frame import PROTOCOL_VERSION, Decoder, FrameError, Kind, encode

OnReply = Callable[[dict[str, Any]], None]
# A part of a file or of a standard input on its way into the guest.
CHUNK = 64 * 1024
# What is handed on of an agent's explanations.
MAX_WORDS = 2000


class AgentError(Exception):
    """The agent could not carry out an operation; ``code`` is its word for why (``gone``: the channel has closed)."""

    def __init__(self, op: str, code: str, message: str) -> None:
        super().__init__(f"{op}: {message}")
        self.code = code


class Agent:
    """A connected channel. ``on_output(process, stream, bytes)``, ``on_event(event)`` and ``on_close()`` are called
    from the loop, in the order in which the agent has sent.
    """

    def __init__(self, loop: Loop, path: str) -> None:
        """Connect. Raises ``OSError``."""
        self._loop = loop
        self._decoder = Decoder()
        self._pending: dict[int, _Pending] = {}
        self._next = 0
        self._why = "the pod's machine has ended"
        self.on_output: Callable[[int, int, bytes], None] = lambda process, stream, data: None
        self.on_event: Callable[[dict[str, Any]], None] = lambda event: None
        self.on_close: Callable[[], None] = lambda: None
        self._connection = Connection.connect(loop, path, self._receive, self._closed)

    @property
    def closed(self) -> bool:
        return self._connection.closed

    async def request(
        self, op: str, *, timeout_s: float = 60.0, on_reply: OnReply | None = None, **fields: Any
    ) -> dict[str, Any]:
        """Carry out one operation. Raises ``AgentError``, ``TimeoutError``.

        ``on_reply`` is called with the reply before anything that the agent has sent after it is looked at.
        """
        if self.closed:
            raise AgentError(op, "gone", self._why)
        self._next += 1
        number = self._next
        answer: Future[dict[str, Any]] = self._loop.future()
        self._pending[number] = _Pending(op, answer, on_reply)
        try:
            self._connection.send(encode(Kind.REQUEST, number, json.dumps({"op": op, **fields}).encode()))
            return await self._loop.within(timeout_s, answer)
        finally:
            self._pending.pop(number, None)

    def greet(self) -> None:
        """Ask what protocol the agent speaks. Nobody waits for it: one that speaks another is not spoken to again."""

        def check(reply: dict[str, Any]) -> None:
            if reply.get("protocol") != PROTOCOL_VERSION:
                raise ValueError(f"it speaks protocol {reply.get('protocol')!r}, not {PROTOCOL_VERSION}")

        self._next += 1
        self._pending[self._next] = _Pending("hello", self._loop.future(), check)
        self._connection.send(encode(Kind.REQUEST, self._next, json.dumps({"op": "hello"}).encode()))

    def notify(self, op: str, **fields: Any) -> None:
        """Ask for an operation whose answer does not matter."""
        self._next += 1
        self._connection.send(encode(Kind.REQUEST, self._next, json.dumps({"op": op, **fields}).encode()))

    async def send_data(self, stream: int, data: bytes) -> None:
        """Send bytes of a stream, as fast as the guest takes them."""
        for start in range(0, len(data), CHUNK):
            await self._connection.room()
            self._connection.send(encode(Kind.DATA, stream, data[start : start + CHUNK]))

    def close(self) -> None:
        self._connection.close()

    def _receive(self, data: bytes) -> None:
        try:
            for frame in self._decoder.feed(data):
                self._handle(frame.kind, frame.id, frame.payload)
        except Exception as error:
            # Whatever it was that could not be handled, it came from there.
            self._why = f"the agent's channel carried garbage: {str(error)[:MAX_WORDS]}"
            self._connection.close()

    def _handle(self, kind: Kind, number: int, payload: bytes) -> None:
        if kind is Kind.LOG:
            if payload:
                self.on_output(number, payload[0], payload[1:])
        elif kind is Kind.EVENT:
            self.on_event(_object(payload))
        elif kind is Kind.REPLY or kind is Kind.ERROR:
            pending = self._pending.pop(number, None)
            if pending is not None:
                pending.settle(kind, _object(payload))
        else:
            raise FrameError(f"frame kind {kind.name} has no place on the control channel")

    def _closed(self) -> None:
        for pending in list(self._pending.values()):
            pending.answer.set_error(AgentError(pending.op, "gone", self._why))
        self.on_close()


class _Pending:
    __slots__ = ("answer", "on_reply", "op")

    def __init__(self, op: str, answer: Future[dict[str, Any]], on_reply: OnReply | None) -> None:
        self.op = op
        self.answer = answer
        self.on_reply = on_reply

    def settle(self, kind: Kind, document: dict[str, Any]) -> None:
        if kind is Kind.ERROR:
            error = AgentError(self.op, str(document.get("code"))[:MAX_WORDS], str(document.get("message"))[:MAX_WORDS])
            self.answer.set_error(error)
            return
        if self.on_reply is not None:
            self.on_reply(document)
        self.answer.set_result(document)


def _object(payload: bytes) -> dict[str, Any]:
    document = json.loads(payload)
    if not isinstance(document, dict):
        raise TypeError("what an agent says is an object")
    return document
