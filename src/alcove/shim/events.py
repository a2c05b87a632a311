"""Telling containerd what happened, in order; what it can't hear now waits, bounded, until it is back."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from alcove.shim.connection import Connection
from alcove.shim.log import Log
from alcove.shim.loop import Future, Loop
from alcove.shim.process import timestamp
from alcove.wire import ttrpc
from alcove.wire.event_messages import FORWARD, FORWARD_REQUEST, SERVICE, TOPICS
from alcove.wire.protobuf import Message

# As many as a pod's containers make in days; beyond it the oldest go.
MAX_WAITING = 4096
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 2.0
_ANSWER_TIMEOUT_S = 10.0


class Publisher:
    """``address`` is the socket of containerd's ttrpc server. One event is on its way at a time: that is the order."""

    def __init__(self, loop: Loop, log: Log, address: str, namespace: str) -> None:
        self._loop = loop
        self._log = log
        self._address = address
        self._namespace = namespace
        self._queue: deque[bytes] = deque(maxlen=MAX_WAITING)
        self._busy = False
        self._connection: Connection | None = None
        self._decoder = ttrpc.Decoder()
        self._stream = 1
        self._answer: Future[bytes] | None = None
        self.idle: Future[None] = loop.future()
        self.idle.set_result(None)

    def publish(self, table: Message, **fields: Any) -> None:
        """Queue an event; it has the time of now."""
        event = {"type_url": table.name, "value": table.encode(fields)}
        envelope = {
            "timestamp": timestamp(time.time_ns()),
            "namespace": self._namespace,
            "topic": TOPICS[table.name],
            "event": event,
        }
        self._queue.append(FORWARD_REQUEST.encode({"envelope": envelope}))
        if not self._busy:
            self._busy = True
            self.idle = self._loop.future()
            self._loop.background(self._drain())

    async def _drain(self) -> None:
        try:
            while self._queue:
                payload = self._queue[0]
                await self._deliver(payload)
                # While it was on its way a full queue may have dropped it.
                if self._queue and self._queue[0] is payload:
                    self._queue.popleft()
        finally:
            self._busy = False
            self.idle.set_result(None)

    async def _deliver(self, payload: bytes) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                await self._forward(payload)
                return
            except ttrpc.Failure as failure:
                # containerd has heard it and does not want it: the next ones must not wait for ever.
                self._log.warning(f"containerd refused an event: {failure}")
                return
            except (OSError, ValueError) as error:
                self._hang_up()
                self._log.warning(f"containerd does not take events: {error}")
            await self._loop.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _forward(self, payload: bytes) -> None:
        connection = self._connected()
        answer: Future[bytes] = self._loop.future()
        self._answer = answer
        self._stream += 2
        connection.send(ttrpc.request(self._stream, SERVICE, FORWARD, payload))
        ttrpc.result(await self._loop.within(_ANSWER_TIMEOUT_S, answer))

    def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._decoder = ttrpc.Decoder()
            self._stream = -1
            self._connection = Connection.connect(self._loop, self._address, self._receive, self._closed)
        return self._connection

    def _receive(self, data: bytes) -> None:
        try:
            for stream, type, payload in self._decoder.feed(data):
                if type == ttrpc.RESPONSE and stream == self._stream and self._answer is not None:
                    self._answer.set_result(payload)
        except ttrpc.TtrpcError:
            self._hang_up()

    def _closed(self) -> None:
        if self._answer is not None:
            self._answer.set_error(ConnectionError("containerd has hung up"))

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
