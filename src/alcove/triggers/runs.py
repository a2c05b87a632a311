"""Runs of timers: each due instant is handed to the queue of asynchronous invocations once.

No run is lost and none happens twice, whenever the process is killed: an instant's request id is derived from the
timer and the instant, and the queue accepts an id once. So an instant is noted as handled only after the queue has
accepted it. Killed in between, the next start hands it in again, and the queue knows it. What was not handed in for
the process was down is a missed run; ``Timer.due_run`` says what becomes of those.

While a run is being handed in its timer is not armed, so a queue that refuses for a while (``RetryLater``) is asked
again for one run of each timer, the last one due, not for all that pile up.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from alcove.errors import AlcoveError, RetryLater
from alcove.events.sink import EventSink
from alcove.host.clock import now_ms
from alcove.store import timers as rows
from alcove.store.database import Database
from alcove.triggers.timer import Timer, TimerId
from alcove.triggers.wheel import Wheel

log = logging.getLogger(__name__)

# The queue commits what comes at once together, so that many at once are cheap.
SUBMISSIONS_AT_ONCE = 1024
RETRY_FIRST_MS = 1000
RETRY_MOST_MS = 60_000
_ERROR_LIMIT = 500


@dataclass(slots=True)
class _Armed:
    timer: Timer
    handled_ms: int
    attempts: int = 0
    busy: bool = False


class TimerRuns:
    """Holds the enabled timers. ``start`` to ``close``; ``observe`` is told (timer, instant) as a run is handed in."""

    def __init__(
        self,
        database: Database,
        sink: EventSink,
        *,
        region: str,
        window_ms: int,
        clock_ms: Callable[[], int] = now_ms,
        observe: Callable[[TimerId, int], None] = lambda timer, instant_ms: None,
    ) -> None:
        self._database = database
        self._sink = sink
        self._region = region
        self._window_ms = window_ms
        self._clock_ms = clock_ms
        self._observe = observe
        self._armed: dict[TimerId, _Armed] = {}
        self.wheel: Wheel[TimerId] = Wheel(self._due, clock_ms=clock_ms)
        self._slots = asyncio.Semaphore(SUBMISSIONS_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._handled: dict[TimerId, tuple[int, str]] = {}
        self._writing: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._armed)

    async def start(self) -> None:
        """Load every enabled timer; what was missed runs as the wheel turns."""
        for row in await self._database.read(rows.enabled_timers):
            self.put(Timer(row))
        self.wheel.start()

    async def close(self) -> None:
        """End what is being handed in (its outcome is noted, or settled by its id at the next start)."""
        await self.wheel.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._writing is not None:
            await asyncio.gather(self._writing, return_exceptions=True)

    def put(self, timer: Timer) -> None:
        """Take up a timer, or its change."""
        self.drop(timer.id)
        if timer.row.enabled:
            armed = self._armed[timer.id] = _Armed(timer, timer.row.handled_ms)
            self._arm(armed)

    def drop(self, timer_id: TimerId) -> None:
        self._armed.pop(timer_id, None)
        self.wheel.disarm(timer_id)

    def next_due(self, timer_id: TimerId) -> int | None:
        armed = self._armed.get(timer_id)
        return None if armed is None else armed.timer.next_due(max(armed.handled_ms, self._clock_ms()))

    def _arm(self, armed: _Armed, not_before_ms: int = 0) -> None:
        # Further back than the window nothing is run, and to go through all that was missed would take long.
        after = max(armed.handled_ms, self._clock_ms() - self._window_ms)
        due = armed.timer.next_due(after)
        if due is not None:
            self.wheel.arm(armed.timer.id, max(due, not_before_ms))

    def _due(self, timer_id: TimerId) -> None:
        armed = self._armed.get(timer_id)
        if armed is None or armed.busy:
            return
        instant_ms = armed.timer.due_run(armed.handled_ms, self._clock_ms(), self._window_ms)
        if instant_ms is None:
            armed.handled_ms = max(armed.handled_ms, self._clock_ms() - self._window_ms)
            self._arm(armed, self._clock_ms() + 1)
            return
        armed.busy = True
        task = asyncio.get_running_loop().create_task(self._run(armed, instant_ms))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, armed: _Armed, instant_ms: int) -> None:
        retry_ms = 0
        try:
            async with self._slots:
                self._observe(armed.timer.id, instant_ms)
                error = await self._submit(armed.timer, instant_ms)
            armed.attempts = 0
            armed.handled_ms = max(armed.handled_ms, instant_ms)
            self._note(armed.timer.id, instant_ms, error)
        except RetryLater as error:
            retry_ms = self._clock_ms() + min(RETRY_MOST_MS, RETRY_FIRST_MS << min(armed.attempts, 10))
            armed.attempts += 1
            self._note(armed.timer.id, 0, str(error))
        except Exception:
            log.exception("timer %s: its run of %d failed", armed.timer.id, instant_ms)
            retry_ms = self._clock_ms() + RETRY_MOST_MS
        finally:
            armed.busy = False
            if self._armed.get(armed.timer.id) is armed:
                self._arm(armed, retry_ms)

    async def _submit(self, timer: Timer, instant_ms: int) -> str:
        """Return why the run was refused for good, "" where it was accepted. Raises ``RetryLater``."""
        try:
            await self._sink.submit(
                timer.tenant,
                timer.row.function,
                timer.event(instant_ms, self._region),
                qualifier=timer.row.qualifier,
                source="timer",
                request_id=timer.request_id(instant_ms),
            )
        except RetryLater:
            raise
        except AlcoveError as error:
            log.warning("timer %s of tenant %s: run refused: %s", timer.row.name, timer.tenant, error)
            return str(error) or type(error).__name__
        return ""

    # What was handled is written by one transaction for all that came in the meantime.

    def _note(self, timer_id: TimerId, instant_ms: int, error: str) -> None:
        known, _ = self._handled.get(timer_id, (0, ""))
        self._handled[timer_id] = (max(known, instant_ms), error[:_ERROR_LIMIT])
        if self._writing is None or self._writing.done():
            self._writing = asyncio.get_running_loop().create_task(self._write())

    async def _write(self) -> None:
        while self._handled:
            noted = [(str(timer), instant, error) for timer, (instant, error) in self._handled.items()]
            self._handled.clear()
            try:
                await self._save(noted)
            except AlcoveError as error:
                # Nothing is lost: after a restart the queue knows the ids.
                log.warning("runs of %d timers could not be noted: %s", len(noted), error)

    async def _save(self, noted: list[tuple[str, int, str]]) -> None:
        await self._database.write(lambda connection: rows.set_handled(connection, noted))
