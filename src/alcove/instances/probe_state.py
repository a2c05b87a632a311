"""What probes' answers come to, and when they are asked: Kubernetes' rules, without a clock of their own."""

from __future__ import annotations

import math

# Of a period: a timer may end that much too early, and the same question is not asked twice.
_EARLY = 1e-6


class Streak:
    """So many answers of one kind in a row make the state; until then it stays as it was. ``state`` None: undecided."""

    def __init__(self, successes: int, failures: int, state: bool | None) -> None:
        self.state = state
        self._needs = {True: successes, False: failures}
        self._last: bool | None = None
        self._row = 0

    def add(self, good: bool) -> bool:
        """Take an answer; tell whether the state is another then."""
        self._row = self._row + 1 if good is self._last else 1
        self._last = good
        before = self.state
        if self._row >= self._needs[good]:
            self.state = good
        return self.state is not before


class Allowance:
    """So many at once, and one more each time that ``every_s`` has passed."""

    def __init__(self, most: int, every_s: float) -> None:
        self._most, self._every_s = most, every_s
        self._left, self._at_s = float(most), 0.0

    def take(self, now_s: float) -> bool:
        """Take one; tell whether there was one."""
        self._left = min(self._most, self._left + (now_s - self._at_s) / self._every_s)
        self._at_s = now_s
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


def first_rest_s(delay_s: float, started_ms: int, now_ms: int) -> float:
    """Return how long to rest before the first question: the delay counts from the container's start, not from ours."""
    return max(0.0, started_ms / 1000 + delay_s - now_ms / 1000)


def next_s(begun_s: float, period_s: float, now_s: float) -> float:
    """Return when to ask next: whole periods after the first time; those that were missed are left out."""
    return begun_s + period_s * max(1, math.floor((now_s - begun_s) / period_s + _EARLY) + 1)
