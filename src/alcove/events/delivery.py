"""Delivery: takes due events from the queue to their functions, at least once, until they are done or given up.

An event stays in the queue while it is delivered, so what a crash interrupts is delivered again at the next start.
Tenants and functions take turns, and one function has only some of the places.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from alcove.errors import AlcoveError, HostError, RequestError, RetryLater
from alcove.events.policy import RetryPolicy
from alcove.events.queue import EventQueue
from alcove.functions.model import LATEST, DispatcherProtocol, FunctionResolver
from alcove.host.clock import now_ms
from alcove.sandbox.protocol import TenantId
from alcove.store import events as rows

log = logging.getLogger(__name__)
T = TypeVar("T")

PLACES = 64
PLACES_OF_ONE = 16
# How long the end of the daemon waits for what is being delivered.
DRAIN_S = 10.0
LOOK_S = 60.0


@dataclass(frozen=True, slots=True)
class _Again:
    """What becomes of an event that is not done."""

    delay_s: float
    failures: int
    refusals: int


class Delivery:
    """``start`` to ``close``."""

    def __init__(
        self,
        queue: EventQueue,
        functions: FunctionResolver,
        dispatcher: DispatcherProtocol,
        policy: RetryPolicy | None = None,
    ) -> None:
        self._queue = queue
        self._functions = functions
        self._dispatcher = dispatcher
        self._policy = policy or RetryPolicy()
        self._running: dict[int, asyncio.Task[None]] = {}
        self._places: Counter[tuple[str, str]] = Counter()
        self._changed = asyncio.Event()
        self._puller: asyncio.Task[None] | None = None
        queue.accepted = self._changed.set

    def start(self) -> None:
        self._puller = asyncio.create_task(self._pull())

    async def close(self) -> None:
        """Pull no more; what is not delivered within ``DRAIN_S`` stays in the queue."""
        if self._puller is not None:
            self._puller.cancel()
            await asyncio.gather(self._puller, return_exceptions=True)
        running = list(self._running.values())
        if running:
            await asyncio.wait(running, timeout=DRAIN_S)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _pull(self) -> None:
        while True:
            self._changed.clear()
            moment = now_ms()
            try:
                await self._take_due(moment)
                delay_s = await self._until_next(moment)
            except AlcoveError as error:
                log.warning("the queue of events cannot be read: %s", error)
                delay_s = LOOK_S
            try:
                async with asyncio.timeout(delay_s):
                    await self._changed.wait()
            except TimeoutError:
                pass

    async def _take_due(self, moment: int) -> None:
        free = PLACES - len(self._running)
        if free <= 0:
            return
        limit = PLACES + len(self._running)
        due = await self._queue.database.read(
            # What one function has in delivery is still among its first.
            lambda connection: rows.due_events(connection, moment, of_one=2 * PLACES_OF_ONE, limit=limit)
        )
        for sequence, tenant, function in due:
            key = (tenant, function)
            if free and sequence not in self._running and self._places[key] < PLACES_OF_ONE:
                free -= 1
                self._places[key] += 1
                self._running[sequence] = asyncio.create_task(self._deliver(sequence, key))

    async def _until_next(self, moment: int) -> float:
        """Return the time until something is due that was not yet at ``moment``, in seconds."""
        due_ms = await self._queue.database.read(lambda connection: rows.next_due_ms(connection, moment))
        return LOOK_S if due_ms is None else min(LOOK_S, max(0.0, (due_ms - now_ms()) / 1000))

    async def _deliver(self, sequence: int, key: tuple[str, str]) -> None:
        try:
            read = self._queue.database.read
            row = await self._insist(lambda: read(lambda connection: rows.find_event(connection, sequence)))
            if row is not None:
                again = await self._attempt(row)
                await self._insist(lambda: self._settle(row, again))
        finally:
            del self._running[sequence]
            self._places[key] -= 1
            if not self._places[key]:
                del self._places[key]
            self._changed.set()

    async def _attempt(self, row: rows.EventRow) -> _Again | None:
        """Call the function once; None where the event is done, or given up."""
        if now_ms() - row.accepted_ms > self._policy.max_age_s * 1000:
            self._give_up(row, "it is too old")
            return None
        try:
            function = await self._functions.resolve(TenantId(row.tenant_id), row.function, row.qualifier or LATEST)
            result = await self._dispatcher.invoke(
                function,
                row.payload,
                trace_id=row.trace_id,
                client_context=row.client_context,
                request_id=row.request_id,
            )
        except RequestError as error:
            self._give_up(row, str(error))
            return None
        except (RetryLater, HostError):
            return self._refused(row)
        except Exception:
            log.exception("event %s could not be delivered", row.request_id)
            return self._refused(row)
        if result.error is None:
            return None
        if row.failures >= len(self._policy.after_failure_s):
            self._give_up(row, "its function has failed too often")
            return None
        return _Again(self._policy.after_failure_s[row.failures], row.failures + 1, 0)

    def _refused(self, row: rows.EventRow) -> _Again:
        refusals = row.refusals + 1
        return _Again(self._policy.after_refusal_s(refusals), row.failures, refusals)

    def _give_up(self, row: rows.EventRow, why: str) -> None:
        log.warning("event %s of %s for %s is given up: %s", row.request_id, row.tenant_id, row.function, why)

    async def _settle(self, row: rows.EventRow, again: _Again | None) -> None:
        if again is None:
            await self._queue.finish(row)
        else:
            await self._queue.postpone(row, again.delay_s, failures=again.failures, refusals=again.refusals)

    async def _insist(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do it again until the disk takes it: an event that was delivered and cannot be settled must not be
        delivered over and over meanwhile.
        """
        while True:
            try:
                return await work()
            except (RetryLater, HostError) as error:
                log.warning("the queue of events cannot be used: %s", error)
                await asyncio.sleep(self._policy.unsettled_s)
