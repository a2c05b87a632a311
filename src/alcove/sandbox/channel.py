"""The host's side of the invocation channel: requests to a language runtime, one at a time; invocations that are
``shared`` may be on their way together.

It is the same in every tier: a UNIX socket that leads to a virtio-serial port or to a container's descriptor 0. The
other end runs tenant code and may be hostile: whatever is not an answer that is due ends the channel with
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
from alcove.sandbox.exchange import Exchange
from alcove.sandbox.protocol import AnswerSink, InitError, Invocation, Outcome, Workload
from alcove.wire.frame import MAX_PAYLOAD, Decoder, Frame, FrameError, Kind, encode

_LENGTH = struct.Struct(">H")
_MAX_ID = 0xFFFF_FFFF
# Shared invocations on their way at once. One that nobody waits for any more counts until it is answered.
MOST_SHARED = 100


class InvocationChannel(asyncio.Protocol):
    """A connected channel. Raises ``SandboxGone`` once it is closed."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._decoder = Decoder()
        self._failure: SandboxError | None = None
        self._number = 0
        self._exchanges: dict[int, Exchange] = {}
        # Those whose sinks have no room: while there is one, nothing is read.
        self._stalled: set[int] = set()
        self._ready: asyncio.Event = asyncio.Event()

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
        return self._begin(kind, payload).answer

    def _begin(self, kind: Kind, payload: bytes, *, shared: bool = False, sink: AnswerSink | None = None) -> Exchange:
        """Send a request; several that are all shared may be on their way."""
        if self._failure is not None:
            raise self._failure
        if self._exchanges:
            self._check_shared(shared)
        assert self._transport is not None
        number = self._number = self._number % _MAX_ID + 1
        exchange = self._exchanges[number] = Exchange(self._loop, kind, shared=shared, sink=sink)
        if sink is not None:
            sink.on_room = lambda: self._has_room(number)
        self._transport.write(encode(kind, number, payload))
        return exchange

    def _check_shared(self, shared: bool) -> None:
        if not shared or not next(iter(self._exchanges.values())).shared:
            raise SandboxError("a request is in flight on this channel")
        if len(self._exchanges) >= MOST_SHARED:
            raise SandboxError(f"{MOST_SHARED} requests are in flight on this channel")

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
        sink = collector or invocation.sink
        assert sink is not None
        exchange = self._begin(Kind.INVOKE, invoke_payload(invocation), shared=invocation.shared, sink=sink)
        try:
            frame = await exchange.answer
        finally:
            # Once an answer is over, its reader has no say about the next.
            sink.on_room()
            sink.on_room = _nothing
        if frame.kind is Kind.RESULT:
            return Outcome(frame.payload)
        if frame.kind is Kind.FAILURE:
            return Outcome(b"", frame.payload)
        error = frame.payload or sink.problem()
        whole = b"" if collector is None or error is not None else collector.payload()
        return Outcome(whole, error, exchange.content_type or "", exchange.streamed)

    def fail(self, failure: SandboxError) -> SandboxError:
        """End the channel: what is in flight and all that follows raises ``failure``."""
        if self._failure is None:
            self._failure = failure
        if self._transport is not None:
            self._transport.abort()
        self._ready.set()
        for exchange in self._exchanges.values():
            exchange.fail(self._failure)
        self._exchanges.clear()
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
        exchange = self._exchanges.get(frame.id)
        if exchange is None:
            raise FrameError(f"{frame.kind.name} {frame.id} answers nothing")
        if exchange.receive(frame):
            del self._exchanges[frame.id]
            # What is left of this answer is with the sink; others must not wait for it.
            self._has_room(frame.id)
        elif not exchange.room and self._transport is not None:
            self._stalled.add(frame.id)
            self._transport.pause_reading()

    def _has_room(self, number: int) -> None:
        """The reader of this answer takes more, or is gone."""
        if number in self._stalled:
            self._stalled.discard(number)
            if not self._stalled and self._transport is not None and not self._transport.is_closing():
                self._transport.resume_reading()


def _nothing() -> None:
    return None


def load_payload(workload: Workload) -> bytes:
    shared = workload.concurrency > 1
    return json.dumps(
        {
            "handler": workload.handler,
            "task_root": "/var/task",
            "environment": {
                **workload.environment,
                # By this, runtimes and libraries know of it.
                **({"AWS_LAMBDA_MAX_CONCURRENCY": str(workload.concurrency)} if shared else {}),
            },
            "function_name": workload.function_name,
            "version": workload.version,
            "arn": workload.arn,
            "memory_mib": workload.memory_mib,
            "timeout_s": workload.timeout_s,
            "log_group": f"/alcove/{workload.function_name}",
            "log_stream": f"[{workload.version}]",
            "logging": {"format": workload.logging.format, "level": workload.logging.level},
            "rehearsal": False,
            **({"concurrency": workload.concurrency} if shared else {}),
            **({"layers": "/opt"} if workload.code.layered else {}),
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
            **({"shared": True} if invocation.shared else {}),
        }
    )
    if len(metadata) > 0xFFFF or _LENGTH.size + len(metadata) + len(invocation.event) > MAX_PAYLOAD:
        raise TooLarge("the event and its metadata are over the limit of 6 MB")
    return _LENGTH.pack(len(metadata)) + metadata + invocation.event
