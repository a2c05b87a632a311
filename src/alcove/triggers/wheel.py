"""One heap and one task for all timers.

Due times are wall-clock time, which may be set: the task looks at the clock at least every ``LOOK_S``.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from alcove.host.clock import now_ms

K = TypeVar("K", bound=Hashable)
LOOK_S = 5.0


class Wheel(Generic[K]):
    """Calls ``due(key)`` once for each ``arm``, at its time. ``due`` must not block; it may arm again."""

    def __init__(self, due: Callable[[K], None], *, clock_ms: Callable[[], int] = now_ms) -> None:
        self._due = due
        self._clock_ms = clock_ms
        self._heap: list[tuple[int, int, K]] = []
        self._armed: dict[K, tuple[int, int]] = {}
        self._sequence = 0
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._armed)

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._turn())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def arm(self, key: K, due_ms: int) -> None:
        """Set the time; the one that was set before counts no more."""
        self._sequence += 1
        self._armed[key] = (due_ms, self._sequence)
        heapq.heappush(self._heap, (due_ms, self._sequence, key))
        if self._heap[0][1] == self._sequence:
            self._changed.set()
        if len(self._heap) > 2 * len(self._armed) + 64:
            self._heap = [(due, number, one) for one, (due, number) in self._armed.items()]
            heapq.heapify(self._heap)

    def disarm(self, key: K) -> None:
        self._armed.pop(key, None)

    def tick(self) -> float:
        """Call for everything that is due; return the seconds until the next look."""
        moment = self._clock_ms()
        while self._heap and self._heap[0][0] <= moment:
            due_ms, number, key = heapq.heappop(self._heap)
            if self._armed.get(key) == (due_ms, number):
                del self._armed[key]
                self._due(key)
        return min(LOOK_S, (self._heap[0][0] - moment) / 1000) if self._heap else LOOK_S

    async def _turn(self) -> None:
        while True:
            self._changed.clear()
            delay = self.tick()
            try:
                async with asyncio.timeout(max(0.0, delay)):
                    await self._changed.wait()
            except TimeoutError:
                pass
