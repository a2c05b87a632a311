"""How long the phases of a start take."""

from __future__ import annotations

import time


class PhaseClock:
    """Notes how long each phase took, in milliseconds."""

    def __init__(self, phases: dict[str, float]) -> None:
        self.phases = phases
        self._last = time.perf_counter()

    def mark(self, phase: str) -> None:
        now = time.perf_counter()
        self.phases[phase] = self.phases.get(phase, 0.0) + (now - self._last) * 1000
        self._last = now
