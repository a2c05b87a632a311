"""An answer on its way from a function to its client, part by part.

The function makes it, the client takes it, each at its own pace: between them lie at most ``HIGH_WATER`` bytes and
what one read of the channel brought. Above it the channel is not read, so the function's writes wait (and its
time-out runs on). A client that goes away changes nothing for the function, as on AWS: what it makes is thrown away.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

from alcove.functions.model import InvokeResult
from alcove.sandbox.collector import too_large
from alcove.wire.trace import TraceContext

log = logging.getLogger(__name__)

HIGH_WATER = 256 * 1024
LOW_WATER = 64 * 1024
_running: set[asyncio.Task[InvokeResult]] = set()


class AnswerStream:
    """An ``AnswerSink`` of at most ``limit`` bytes. ``parts`` yields what was written, whatever its cut."""

    def __init__(self, limit: int) -> None:
        self.on_room: Callable[[], None] = lambda: None
        self.content_type: str | None = None
        self.trace: TraceContext | None = None  # of its invocation, from its start on
        self.size = 0
        self.limit = limit
        self._data = bytearray()
        self._ended = False
        self._abandoned = False
        self._changed = asyncio.Event()

    # The function's side

    def begin(self, content_type: str) -> None:
        self.content_type = content_type
        self._changed.set()

    def write(self, data: bytes) -> bool:
        self.size += len(data)
        if self._abandoned or self.size > self.limit:
            return True
        self._data += data
        self._changed.set()
        return len(self._data) < HIGH_WATER

    def problem(self) -> bytes | None:
        return too_large(self.size, self.limit) if self.size > self.limit else None

    def end(self) -> None:
        """Nothing more comes."""
        self._ended = True
        self._changed.set()

    # The client's side

    async def begun(self) -> bool:
        """Wait until the function answers; return whether it streams."""
        while self.content_type is None and not self._ended:
            await self._wait()
        return self.content_type is not None

    async def read(self) -> bytes:
        """Return what has come, at least a byte; nothing at the end."""
        while not self._data and not self._ended:
            await self._wait()
        data = bytes(self._data)
        self._data.clear()
        self.on_room()
        return data

    def abandon(self) -> None:
        """The client is gone: whatever comes is thrown away."""
        self._abandoned = True
        self._data.clear()
        self.on_room()

    async def _wait(self) -> None:
        self._changed.clear()
        await self._changed.wait()


class StreamedCall:
    """An invocation whose answer is taken as it comes. It runs to its end, whoever waits for it."""

    def __init__(self, stream: AnswerStream, work: Coroutine[Any, Any, InvokeResult]) -> None:
        self.stream = stream
        self._task = asyncio.get_running_loop().create_task(work)
        _running.add(self._task)
        self._task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[InvokeResult]) -> None:
        _running.discard(task)
        if not task.cancelled():
            # Whoever waits is told; nobody may be waiting any more.
            task.exception()
        self.stream.end()

    async def begun(self) -> bool:
        """Wait until the function answers; return whether it streams. Raises what the invocation raises."""
        try:
            if await self.stream.begun():
                return True
        except asyncio.CancelledError:
            self.stream.abandon()
            raise
        await self.result()
        return False

    async def parts(self) -> AsyncGenerator[bytes, None]:
        """Yield the answer's bytes. Left early, the rest is thrown away."""
        try:
            while data := await self.stream.read():
                yield data
        finally:
            self.stream.abandon()

    async def result(self) -> InvokeResult:
        """Wait for the end; ``error`` says what was wrong. Raises what the invocation raises."""
        return await asyncio.shield(self._task)
