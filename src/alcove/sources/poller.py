"""The poller of one mapping: fetches, has its function called, acknowledges what succeeded, and what its filters leave
out.

Only what was answered well (or was given up, its record accepted durably by the destination) is acknowledged, so a
kill -9 at any point has it handed out again: at least once, nothing is lost. The number of batches in the function at
once is bounded, a new one is fetched when there is a place; where there is no room for the function the poller waits,
longer each time, and what it holds is not held against it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from alcove.errors import AlcoveError, HostError, RequestError, RetryLater
from alcove.events.outcome import Condition, Outcome, record
from alcove.events.sink import EventSink
from alcove.events.target import service_of
from alcove.functions import names
from alcove.functions.model import LATEST, DispatcherProtocol, FunctionResolver, FunctionVersion, InvokeResult
from alcove.host.clock import now_ms
from alcove.sandbox.protocol import TenantId
from alcove.sources import batch as batches
from alcove.sources.filters import Filters
from alcove.sources.source import EventSource, Item, SourceUnavailable
from alcove.sources.spec import SourceSpec
from alcove.store.events import EventRow

log = logging.getLogger(__name__)

POLL_S = 10.0
DRAIN_S = 10.0
_IDS = uuid.UUID("0a0f1a9e-58f3-5b38-8f0e-6a5c7a1c9f2d")


class Backoff(Protocol):
    """``delay_s(n)``: the delay after the n-th time, from 1."""

    def delay_s(self, count: int) -> float: ...


@dataclass(frozen=True, slots=True)
class Doubling:
    first_s: float = 1.0
    most_s: float = 60.0

    def delay_s(self, count: int) -> float:
        # Pollers that were stopped by the same thing do not come back together.
        return min(self.most_s, self.first_s * float(2 ** min(count - 1, 20))) * random.uniform(0.75, 1.0)


@dataclass(frozen=True, slots=True)
class Work:
    """What a poller works for."""

    uuid: str
    tenant: TenantId
    function: str
    qualifier: str
    spec: SourceSpec


@dataclass(frozen=True, slots=True)
class Parts:
    """What it works with."""

    functions: FunctionResolver
    dispatcher: DispatcherProtocol
    sink: EventSink
    backoff: Backoff = Doubling()


class Poller:
    """``start`` to ``stop``. ``state`` is ``opening`` until the source is reached; ``result`` is of the last batch."""

    def __init__(self, work: Work, source: EventSource, parts: Parts, *, opening: str) -> None:
        self.state = opening
        self.result = "No records processed"
        self._work = work
        self._source = source
        self._parts = parts
        self._filters = Filters(work.spec.kind, work.spec.filters)
        self._slots = asyncio.Semaphore(work.spec.concurrency)
        self._batches: set[asyncio.Task[None]] = set()
        self._broken: Exception | None = None
        self._refusals = 0
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self, grace_s: float = DRAIN_S) -> None:
        """Fetch no more; what is in the function has ``grace_s`` to end, the rest is handed out again later."""
        self._stopping.set()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._drain(grace_s)
        await self._close()

    async def _run(self) -> None:
        attempts = 0
        while True:
            try:
                await self._source.open()
                self.state, self._broken, attempts = "Enabled", None, 0
                await self._poll()
            except (AlcoveError, OSError) as error:
                self.result = f"PROBLEM: {error}"
            except Exception:
                log.exception("the event source mapping %s failed", self._work.uuid)
                self.result = "PROBLEM: internal error"
            attempts += 1
            await self._drain(DRAIN_S)
            await self._close()
            await asyncio.sleep(self._parts.backoff.delay_s(attempts))

    async def _poll(self) -> None:
        """Fetch until the source breaks."""
        spec = self._work.spec
        while self._broken is None:
            await self._slots.acquire()
            items: list[Item] = []
            try:
                items = await self._source.fetch(spec.batch_size, wait_s=POLL_S, window_s=spec.window_s)
            finally:
                if not items:
                    self._slots.release()
            if items:
                task = asyncio.create_task(self._process(items))
                self._batches.add(task)
                task.add_done_callback(self._processed)
        raise self._broken

    def _processed(self, task: asyncio.Task[None]) -> None:
        self._batches.discard(task)
        self._slots.release()
        if not task.cancelled() and task.exception() is not None:
            error = task.exception()
            self._broken = error if isinstance(error, Exception) else SourceUnavailable(str(error))

    async def _process(self, items: Sequence[Item]) -> None:
        wanted, others = await self._filters.divide(items)
        if others:
            await self._source.done(others)
        left = list(batches.split(wanted))
        while left:
            done = await self._handle(left.pop(0))
            if left and not done and self._work.spec.in_order:
                # What comes behind a failure is not tried before it.
                await self._source.again([item for batch in left for item in batch], 0, counted=False)
                return

    async def _handle(self, batch: list[Item]) -> bool:
        """Have one batch called, and settle it; tell whether all of it is done."""
        work = self._work
        try:
            function = await self._parts.functions.resolve(work.tenant, work.function, work.qualifier or LATEST)
            if not batches.fits(batch):
                await self._give_up(function, batch, None)
                return True
            result = await self._parts.dispatcher.invoke(function, self._source.event(batch))
        except (RequestError, RetryLater, HostError) as error:
            await self._refused(batch, error)
            return False
        self._refusals = 0
        failed = batch
        if result.error is None:
            failed = batches.failed_items(result.payload, batch) if work.spec.report_failures else []
        named = {item.id for item in failed}
        await self._source.done([item for item in batch if item.id not in named])
        self.result = "OK" if not failed else "PROBLEM: Function call failed"
        if failed:
            await self._failed(function, failed, result)
        return not failed

    async def _refused(self, batch: Sequence[Item], error: AlcoveError) -> None:
        """There is no room, or no function: nothing is held against the items, and their place is kept meanwhile."""
        self._refusals += 1
        self.result = f"PROBLEM: {error}"
        delay_s = self._parts.backoff.delay_s(self._refusals)
        await self._source.again(batch, delay_s, counted=False)
        try:
            async with asyncio.timeout(delay_s):
                await self._stopping.wait()
        except TimeoutError:
            pass

    async def _failed(self, function: FunctionVersion, failed: Sequence[Item], result: InvokeResult) -> None:
        retries = self._work.spec.retries
        exhausted = [item for item in failed if 0 <= retries <= item.attempts]
        if exhausted:
            await self._give_up(function, exhausted, result)
        left = [item for item in failed if not 0 <= retries <= item.attempts]
        if left:
            delay_s = self._parts.backoff.delay_s(1 + max(item.attempts for item in left))
            await self._source.again(left, delay_s, counted=True)

    async def _give_up(self, function: FunctionVersion, items: Sequence[Item], result: InvokeResult | None) -> None:
        """Have the failure's destination accept the record durably, then acknowledge the items."""
        work = self._work
        log.warning("mapping %s of %s gives up %d items", work.uuid, work.tenant, len(items))
        if work.spec.on_failure:
            await self._tell(function, items, result)
        await self._source.done(items)

    async def _tell(self, function: FunctionVersion, items: Sequence[Item], result: InvokeResult | None) -> None:
        work, target = self._work, self._work.spec.on_failure
        request_id = str(uuid.uuid5(_IDS, " ".join([work.uuid, *(item.id for item in items)])))
        event = self._source.event(items) if batches.fits(items) else b"null"
        row = EventRow(request_id, work.tenant, work.function, work.qualifier, event, "mapping", "", "", 0, 0)
        outcome = Outcome(function, Condition.RETRIES_EXHAUSTED, 1 + max(item.attempts for item in items), result)
        name, qualifier = target, ""
        if service_of(target) == "lambda":
            reference = names.parse(target)
            name, qualifier = reference.name, reference.qualifier or ""
        await self._parts.sink.submit(
            work.tenant,
            name,
            record(row, outcome, now_ms()),
            qualifier=qualifier,
            source="mapping",
            request_id=request_id,
        )

    async def _drain(self, grace_s: float) -> None:
        running = list(self._batches)
        if running:
            await asyncio.wait(running, timeout=grace_s)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _close(self) -> None:
        try:
            await self._source.close()
        except Exception as error:
            log.debug("an event source could not be closed: %s", error)
