"""Delivery: takes due events from the queue to their functions, at least once, until they are done or given up.

An event stays in the queue while it is delivered, so what a crash interrupts is delivered again at the next start.
Tenants and functions take turns, and one function has only some of the places. What follows from an event (a record for
its destination, itself for its dead-letter queue) is an event too, accepted as the first one is removed; one that goes
to a queue or a bucket is handed to the sink of that ARN, again until it is taken.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from alcove.errors import AlcoveError, HostError, RequestError, RetryLater
from alcove.events.look import PLACES, Look
from alcove.events.outcome import LOOP_LIMIT, Condition, Outcome, follow_ups
from alcove.events.policy import RetryPolicy
from alcove.events.queue import EventQueue
from alcove.events.target import Destinations, service_of
from alcove.functions.model import LATEST, DispatcherProtocol, FunctionResolver, FunctionVersion
from alcove.host.clock import now_ms
from alcove.sandbox.protocol import TenantId
from alcove.store import events as rows
from alcove.store.invoke_configs import InvokeConfigRow

log = logging.getLogger(__name__)
T = TypeVar("T")

# Events that are in delivery, or whose end is being written: a crash has as many delivered again at most.
UNSETTLED = 256
# How long the end of the daemon waits for what is being delivered.
DRAIN_S = 10.0
LOOK_S = 60.0


@dataclass(frozen=True, slots=True)
class _Again:
    """What becomes of an event that is not done."""

    delay_s: float
    failures: int
    refusals: int


class ConfigFinder(Protocol):
    """What delivery needs of ``events.invoke_configs.InvokeConfigs``."""

    async def find(self, function_id: str, qualifier: str) -> InvokeConfigRow | None: ...


class Delivery:
    """``start`` to ``close``."""

    def __init__(
        self,
        queue: EventQueue,
        functions: FunctionResolver,
        dispatcher: DispatcherProtocol,
        policy: RetryPolicy | None = None,
        *,
        configs: ConfigFinder | None = None,
        destinations: Destinations | None = None,
    ) -> None:
        self._queue = queue
        self._functions = functions
        self._dispatcher = dispatcher
        self._policy = policy or RetryPolicy()
        self._configs = configs
        self._destinations = destinations or Destinations(functions, {})
        self._running: dict[int, asyncio.Task[None]] = {}
        # Functions' places, and all that is not settled.
        self._places: Counter[tuple[str, str]] = Counter()
        self._unsettled: Counter[tuple[str, str]] = Counter()
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
                if await self._take_due(moment):
                    # There may be more, for places that became free meanwhile.
                    continue
                delay_s = await self._until_next(moment)
            except AlcoveError as error:
                log.warning("the queue of events cannot be read: %s", error)
                delay_s = LOOK_S
            try:
                async with asyncio.timeout(delay_s):
                    await self._changed.wait()
            except TimeoutError:
                pass

    async def _take_due(self, moment: int) -> bool:
        """Begin with what is due and has a place; tell whether that was something."""
        free = min(PLACES - self._places.total(), UNSETTLED - len(self._running))
        if free <= 0:
            return False
        look = Look(moment, free, frozenset(self._running), self._places.copy(), self._unsettled.copy())
        found = await self._queue.database.read(look.take)
        for row in found:
            self._places[row.tenant_id, row.function] += 1
            self._unsettled[row.tenant_id, row.function] += 1
            self._running[row.sequence] = asyncio.create_task(self._deliver(row))
        return bool(found)

    async def _until_next(self, moment: int) -> float:
        """Return the time until something is due that was not yet at ``moment``, in seconds."""
        due_ms = await self._queue.database.read(lambda connection: rows.next_due_ms(connection, moment))
        return LOOK_S if due_ms is None else min(LOOK_S, max(0.0, (due_ms - now_ms()) / 1000))

    async def _deliver(self, row: rows.EventRow) -> None:
        key = (row.tenant_id, row.function)
        try:
            try:
                then = await self._attempt(row)
            finally:
                self._leave(self._places, key)
            await self._insist(lambda: self._settle(row, then))
        finally:
            del self._running[row.sequence]
            self._leave(self._unsettled, key)

    def _leave(self, counter: Counter[tuple[str, str]], key: tuple[str, str]) -> None:
        counter[key] -= 1
        if not counter[key]:
            del counter[key]
        self._changed.set()

    async def _attempt(self, row: rows.EventRow) -> _Again | Sequence[rows.EventRow]:
        """Try it once; return what follows where the event is done, or given up."""
        try:
            if service_of(row.function):
                return await self._hand_over(row)
            function = await self._functions.resolve(TenantId(row.tenant_id), row.function, row.qualifier or LATEST)
            config = await self._config(function, row)
            return await self._call(row, function, config)
        except RequestError as error:
            self._give_up(row, str(error))
            return ()
        except (RetryLater, HostError):
            return self._refused(row, self._policy.max_age_s)
        except Exception:
            log.exception("event %s could not be delivered", row.request_id)
            return self._refused(row, self._policy.max_age_s)

    async def _config(self, function: FunctionVersion, row: rows.EventRow) -> InvokeConfigRow | None:
        if self._configs is None:
            return None
        return await self._configs.find(function.function_id, row.qualifier or LATEST)

    async def _call(
        self, row: rows.EventRow, function: FunctionVersion, config: InvokeConfigRow | None
    ) -> _Again | Sequence[rows.EventRow]:
        """Call the function once, where that makes sense still."""
        max_age_s = self._policy.max_age_s if config is None or config.max_age_s is None else config.max_age_s
        if row.depth > LOOP_LIMIT:
            return self._conclude(row, Outcome(function, Condition.RECURSION_STOPPED, 0), config)
        if now_ms() - row.accepted_ms > max_age_s * 1000:
            return self._conclude(row, Outcome(function, Condition.EVENT_AGE_EXCEEDED, row.failures), config)
        try:
            result = await self._dispatcher.invoke(
                function,
                row.payload,
                trace_id=row.trace_id,
                client_context=row.client_context,
                request_id=row.request_id,
            )
        except (RetryLater, HostError):
            return self._refused(row, max_age_s)
        invocations = row.failures + 1
        if result.error is None:
            return self._conclude(row, Outcome(function, Condition.SUCCESS, invocations, result), config)
        delay_s = self._policy.after_failure(invocations, None if config is None else config.retries)
        if delay_s is None:
            return self._conclude(row, Outcome(function, Condition.RETRIES_EXHAUSTED, invocations, result), config)
        return _Again(min(delay_s, _left_s(row, max_age_s)), invocations, 0)

    def _conclude(
        self, row: rows.EventRow, outcome: Outcome, config: InvokeConfigRow | None
    ) -> Sequence[rows.EventRow]:
        if outcome.condition is not Condition.SUCCESS:
            self._give_up(row, outcome.condition)
        return follow_ups(row, outcome, config, now_ms())

    async def _hand_over(self, row: rows.EventRow) -> Sequence[rows.EventRow]:
        """Give an event to the sink of its ARN."""
        if now_ms() - row.accepted_ms > self._policy.max_age_s * 1000:
            self._give_up(row, Condition.EVENT_AGE_EXCEEDED)
            return ()
        attributes = json.loads(row.client_context or "{}")
        await self._destinations.sink(row.function).put(
            TenantId(row.tenant_id), row.function, row.payload, record_id=row.request_id, attributes=attributes
        )
        return ()

    def _refused(self, row: rows.EventRow, max_age_s: float) -> _Again:
        refusals = row.refusals + 1
        delay_s = min(self._policy.after_refusal_s(refusals), _left_s(row, max_age_s))
        return _Again(delay_s, row.failures, refusals)

    def _give_up(self, row: rows.EventRow, why: str) -> None:
        log.warning("event %s of %s for %s is given up: %s", row.request_id, row.tenant_id, row.function, why)

    async def _settle(self, row: rows.EventRow, then: _Again | Sequence[rows.EventRow]) -> None:
        if isinstance(then, _Again):
            await self._queue.postpone(row, then.delay_s, failures=then.failures, refusals=then.refusals)
        else:
            await self._queue.finish(row, then)

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


def _left_s(row: rows.EventRow, max_age_s: float) -> float:
    """Return the time until the event is too old, and a little: then it is looked at again."""
    return max(0.0, (row.accepted_ms - now_ms()) / 1000 + max_age_s) + 0.01
