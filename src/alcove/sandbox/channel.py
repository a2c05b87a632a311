"""The host's side of the invocation channel: one request at a time to a language runtime.

It is the same in every tier: a UNIX socket that leads to a virtio-serial port or to a container's descriptor 0. The
other end runs tenant code and may be hostile: whatever is not the one answer that is due ends the channel with
``ProtocolError``.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from pathlib import Path
from typing import cast

import msgspec

from alcove.errors import ProtocolError, SandboxError, SandboxGone, TooLarge
from alcove.sandbox.collector import Collector
from alcove.sandbox.protocol import AnswerSink, InitError, Invocation, Outcome, Workload
from alcove.wire.frame import MAX_CHUNK, MAX_PAYLOAD, Decoder, Frame, FrameError, Kind, encode

ANSWERS = {
    Kind.LOAD: (Kind.LOADED, Kind.FAILURE),
    Kind.INVOKE: (Kind.RESULT, Kind.FAILURE, Kind.END),
    Kind.HOOK: (Kind.DONE, Kind.FAILURE),
    Kind.UNLOAD: (Kind.DONE,),
    Kind.PING: (Kind.PONG,),
}
_STREAMED = (Kind.STREAM, Kind.CHUNK, Kind.END)
_TYPE_LIMIT = 256
_LENGTH = struct.Struct(">H")
_MAX_ID = 0xFFFF_FFFF


class InvocationChannel(asyncio.Protocol):
    """A connected channel. Raises ``SandboxGone`` once it is closed."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._decoder = Decoder()
        self._failure: SandboxError | None = None
        self._number = 0
        self._kind: Kind | None = None
        self._answer: asyncio.Future[Frame] | None = None
        self._ready: asyncio.Event = asyncio.Event()
        self._sink: AnswerSink | None = None
        self._content_type: str | None = None  # of the answer that is being streamed
        self._streamed = 0

    @classmethod
    async def connect(cls, address: Path | socket.socket) -> InvocationChannel:
        """Connect to a socket's path, or take over a connected socket."""
        loop = asyncio.get_running_loop()
        if isinstance(address, socket.socket):
            _, channel = await loop.create_unix_connection(cls, sock=address)
        else:
            _, channel = await loop.create_unix_connection(cls, str(address))
        return channel

    async def ready(self, timeout_s: float) -> None:
        """Wait until the runtime says that it has started."""
        async with asyncio.timeout(timeout_s):
            await self._ready.wait()
        if self._failure is not None:
            raise self._failure

    def send(self, kind: Kind, payload: bytes) -> asyncio.Future[Frame]:
        """Send a request; return the future of its answer. One request at a time."""
        if self._failure is not None:
            raise self._failure
        if self._answer is not None and not self._answer.done():
            raise SandboxError("a request is in flight on this channel")
        assert self._transport is not None
        self._number = self._number % _MAX_ID + 1
        self._kind = kind
        self._sink = self._content_type = None
        self._streamed = 0
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(encode(kind, self._number, payload))
        return self._answer

    async def request(self, kind: Kind, payload: bytes, *, timeout_s: float) -> Frame:
        """Send a request and wait for its answer. Raises ``TimeoutError``; the channel is then of no use."""
        async with asyncio.timeout(timeout_s):
            return await self.send(kind, payload)

    async def load(self, workload: Workload, *, timeout_s: float = 60.0) -> float:
        """Run the workload's init code; return its milliseconds. Raises ``InitError``."""
        frame = await self.request(Kind.LOAD, load_payload(workload), timeout_s=timeout_s)
        if frame.kind is Kind.FAILURE:
            raise InitError(frame.payload)
        try:
            return float(json.loads(frame.payload)["init_ms"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise self.fail(ProtocolError("the runtime's LOADED is malformed")) from error

    async def invoke(self, invocation: Invocation) -> Outcome:
        """Send one invocation and wait, without a limit: whoever calls keeps the time."""
        collector = Collector() if invocation.sink is None else None
        payload = invoke_payload(invocation)
        answer = self.send(Kind.INVOKE, payload)
        sink = self._sink = collector or invocation.sink
        assert sink is not None
        sink.on_room = self._resume
        try:
            frame = await answer
        finally:
            sink.on_room = _nothing
        if frame.kind is Kind.RESULT:
            return Outcome(frame.payload)
        if frame.kind is Kind.FAILURE:
            return Outcome(b"", frame.payload)
        error = frame.payload or sink.problem()
        whole = b"" if collector is None or error is not None else collector.payload()
        return Outcome(whole, error, self._content_type or "", self._streamed)

    def fail(self, failure: SandboxError) -> SandboxError:
        """End the channel: what is in flight and all that follows raises ``failure``."""
        if self._failure is None:
            self._failure = failure
        if self._transport is not None:
            self._transport.abort()
        self._ready.set()
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(self._failure)
            # Nobody may be waiting any more.
            self._answer.exception()
        return self._failure

    def close(self) -> None:
        self.fail(SandboxGone("the sandbox was closed", reason="killed"))

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._decoder.feed(data):
                self._receive(frame)
        except FrameError as error:
            self.fail(ProtocolError(f"the runtime's channel carried garbage: {error}"))

    def connection_lost(self, exc: Exception | None) -> None:
        self.fail(SandboxGone("the runtime closed its channel"))

    def _receive(self, frame: Frame) -> None:
        if frame.kind is Kind.READY and frame.id == 0:
            self._ready.set()
            return
        answer = self._answer
        if answer is None or answer.done() or self._kind is None or frame.id != self._number:
            raise FrameError(f"{frame.kind.name} {frame.id} answers nothing")
        if self._sink is not None and (frame.kind in _STREAMED or self._content_type is not None):
            self._receive_part(frame, self._sink)
            if frame.kind is not Kind.END:
                return
        elif frame.kind not in ANSWERS[self._kind]:
            raise FrameError(f"{frame.kind.name} is no answer to {self._kind.name}")
        answer.set_result(frame)

    def _receive_part(self, frame: Frame, sink: AnswerSink) -> None:
        """STREAM, CHUNKs, END: in this order, within the limits."""
        if (frame.kind is Kind.STREAM) is not (self._content_type is None) or frame.kind not in _STREAMED:
            raise FrameError(f"{frame.kind.name} does not come at this point of an answer")
        if frame.kind is Kind.STREAM:
            self._content_type = _content_type(frame.payload)
            sink.begin(self._content_type)
        elif frame.kind is Kind.END:
            # What is left of this answer is with the sink; the next one must not wait for it.
            self._resume()
        elif len(frame.payload) > MAX_CHUNK:
            raise FrameError(f"a part of {len(frame.payload)} bytes is over the limit of {MAX_CHUNK}")
        else:
            self._streamed += len(frame.payload)
            if not sink.write(frame.payload) and self._transport is not None:
                self._transport.pause_reading()

    def _resume(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()


def _nothing() -> None:
    """Once an answer is over, its reader has no say about the next."""


def _content_type(payload: bytes) -> str:
    """Read STREAM. What is no header's value would harm whoever hands it on."""
    text = payload.decode("ascii", "replace")
    if not 0 < len(text) <= _TYPE_LIMIT or not text.isprintable():
        raise FrameError("a streamed answer's type is malformed")
    return text


def load_payload(workload: Workload) -> bytes:
    return json.dumps(
        {
            "handler": workload.handler,
            "task_root": "/var/task",
            "environment": dict(workload.environment),
            "function_name": workload.function_name,
            "version": workload.version,
            "arn": workload.arn,
            "memory_mib": workload.memory_mib,
            "timeout_s": workload.timeout_s,
            "log_group": f"/alcove/{workload.function_name}",
            "log_stream": f"[{workload.version}]",
            "rehearsal": False,
        }
    ).encode()


def invoke_payload(invocation: Invocation) -> bytes:
    """Return metadata and event as INVOKE carries them. Raises ``TooLarge``."""
    metadata = msgspec.json.encode(
        {
            "request_id": invocation.request_id,
            "deadline_ms": invocation.deadline_ms,
            "arn": invocation.arn,
            "trace_id": invocation.trace_id,
            "client_context": invocation.client_context,
        }
    )
    if len(metadata) > 0xFFFF or _LENGTH.size + len(metadata) + len(invocation.event) > MAX_PAYLOAD:
        raise TooLarge("the event and its metadata are over the limit of 6 MB")
    return _LENGTH.pack(len(metadata)) + metadata + invocation.event
