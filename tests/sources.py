"""An event source without a server, functions that answer as told, and what a poller of them needs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from tests.sinks import FakeSink
from tests.unit.test_events import Functions

from alcove.functions.model import FunctionVersion, InvokeResult
from alcove.sandbox.protocol import TenantId
from alcove.sources.poller import Doubling, Parts
from alcove.sources.retries import Retries
from alcove.sources.source import Item, SourceUnavailable
from alcove.sources.spec import SourceKind, SourceSpec

TENANT = TenantId("t")
SPEC = SourceSpec(SourceKind.REDIS, "s", "127.0.0.1:1", batch_size=10, concurrency=3)


class FakeSource:
    """Items in memory; ``left`` are those not done. ``breaks``: how often ``open`` fails."""

    def __init__(self, count: int = 0, breaks: int = 0) -> None:
        self.left = {str(number): Item(str(number), {"n": number}, number) for number in range(count)}
        self._ready = list(self.left.values())
        self._retries = Retries()
        self.breaks = breaks
        self.opened = self.closed = 0
        self.forgotten = False

    async def open(self) -> None:
        if self.breaks:
            self.breaks -= 1
            raise SourceUnavailable("not now")
        self.opened += 1

    async def fetch(self, limit: int, *, wait_s: float, window_s: float = 0) -> list[Item]:
        await asyncio.sleep(0.001)
        found = [*self._retries.due(limit), *self._ready][:limit]
        self._ready = [item for item in self._ready if item not in found]
        return found

    def event(self, items: Sequence[Item]) -> bytes:
        return json.dumps([item.record["n"] for item in items]).encode()

    async def done(self, items: Sequence[Item]) -> None:
        for item in items:
            del self.left[item.id]

    async def again(self, items: Sequence[Item], delay_s: float, *, counted: bool) -> None:
        for item in items:
            item.attempts += int(counted)
        self._retries.put(items, delay_s)

    async def forget(self) -> None:
        self.forgotten = True

    async def close(self) -> None:
        self.closed += 1


class Answering(Functions):
    """``answer`` makes the function's answer from its event; an exception is raised."""

    answer: Callable[[Any], tuple[bytes, bool] | Exception] = staticmethod(lambda numbers: (b"null", False))

    async def invoke(self, version: FunctionVersion, event: bytes, **options: Any) -> InvokeResult:
        result = await super().invoke(version, event, request_id="r")
        found = self.answer(json.loads(event))
        if isinstance(found, Exception):
            raise found
        return msgspec.structs.replace(result, payload=found[0], error="Unhandled" if found[1] else None)

    def batches(self) -> list[list[int]]:
        return [json.loads(event) for _, event, _ in self.told]


def parts_of(functions: Answering, sink: FakeSink) -> Parts:
    return Parts(functions, functions, sink, Doubling(0.001, 0.01))  # type: ignore[arg-type]


async def until(condition: Callable[[], object], timeout_s: float = 10) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.002)
