"""Items that are to be fetched again, for sources that hand out each one once: in memory, since the source still knows
them as unacknowledged. Their failures are counted elsewhere.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Sequence

from alcove.sources.source import Item


class Retries:
    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Item]] = []
        self._numbers = itertools.count()
        self.changed = asyncio.Event()

    def __bool__(self) -> bool:
        return bool(self._heap)

    def put(self, items: Sequence[Item], delay_s: float) -> None:
        due_s = time.monotonic() + delay_s
        for item in items:
            heapq.heappush(self._heap, (due_s, next(self._numbers), item))
        self.changed.set()

    def due(self, limit: int) -> list[Item]:
        found: list[Item] = []
        now_s = time.monotonic()
        while self._heap and self._heap[0][0] <= now_s and len(found) < limit:
            found.append(heapq.heappop(self._heap)[2])
        return found

    def next_s(self) -> float | None:
        """Return the time until the next one is due, None where there is none."""
        return max(0.0, self._heap[0][0] - time.monotonic()) if self._heap else None
