"""Time limits of calls without a timer for each: one timer serves all that end within the same tick.

A limit is a dictionary entry while its call runs; the loop is asked for the earliest tick alone. A call is ended late
by a tick at most, never early.
"""

from __future__ import annotations

import asyncio
import functools
import heapq
import math
from types import TracebackType

TICK_S = 0.02


class Limit:
    """``with deadlines.limit(seconds):`` raises ``TimeoutError`` where the block takes longer."""

    __slots__ = ("_before", "_deadlines", "_expired", "_seconds", "_task", "_tick")

    def __init__(self, deadlines: Deadlines, seconds: float) -> None:
        self._deadlines = deadlines
        self._seconds = seconds
        self._expired = False

    def __enter__(self) -> None:
        task = asyncio.current_task(self._deadlines.loop)
        assert task is not None
        self._task = task
        self._before = task.cancelling()
        self._tick = self._deadlines.add(self, self._seconds)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._expired:
            self._deadlines.remove(self, self._tick)
        elif self._task.uncancel() <= self._before and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def expire(self) -> None:
        self._expired = True
        self._task.cancel()


class Deadlines:
    """Belongs to one event loop; ``len`` is the number of limits that run."""

    def __init__(self) -> None:
        self._ticks: dict[int, dict[Limit, None]] = {}
        self._order: list[int] = []
        self._timer: asyncio.TimerHandle | None = None
        self._next = 0

    @functools.cached_property
    def loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    def __len__(self) -> int:
        return sum(map(len, self._ticks.values()))

    def limit(self, seconds: float) -> Limit:
        return Limit(self, seconds)

    def add(self, limit: Limit, seconds: float) -> int:
        loop = self.loop
        tick = math.ceil((loop.time() + seconds) / TICK_S)
        found = self._ticks.get(tick)
        if found is None:
            found = self._ticks[tick] = {}
            heapq.heappush(self._order, tick)
            if self._timer is None or tick < self._next:
                self._wake_at(loop, tick)
        found[limit] = None
        return tick

    def remove(self, limit: Limit, tick: int) -> None:
        del self._ticks[tick][limit]

    def _wake_at(self, loop: asyncio.AbstractEventLoop, tick: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next = tick
        self._timer = loop.call_at(tick * TICK_S, self._turn)

    def _turn(self) -> None:
        """End what is due; ticks in which nothing is left cost nothing more."""
        loop = self.loop
        self._timer = None
        now = loop.time()
        while self._order and (self._order[0] * TICK_S <= now or not self._ticks[self._order[0]]):
            for limit in self._ticks.pop(heapq.heappop(self._order)):
                limit.expire()
        if self._order:
            self._wake_at(loop, self._order[0])
