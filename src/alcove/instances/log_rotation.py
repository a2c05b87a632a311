"""When logs are rotated: before they are much larger than they may be, however fast a container prints."""

from __future__ import annotations

import time
from pathlib import Path

from alcove.instances import log_chain

LOOK_EVERY_S = 0.5
# So many pods are looked at in that time; more take longer.
PODS_A_LOOK = 100
# While one fills its file before the next look.
HURRY_S = 0.1


class Growth:
    """``begin`` a round, ``look`` at each pod's logs, then rest for ``pause_s``. Blocking."""

    def __init__(self) -> None:
        self._before: dict[Path, tuple[float, int]] = {}
        self._now: dict[Path, tuple[float, int]] = {}
        self._hurry = False

    def begin(self) -> None:
        self._before, self._now, self._hurry = self._now, {}, False

    def look(self, logs: Path) -> list[Path]:
        """Return the logs below a pod's folder that are full, or not there any more; remove what is too old."""
        log_chain.trim(logs)
        due = []
        for path, size in log_chain.current(logs):
            if size < 0 or size > log_chain.ROTATE_AT:
                due.append(path)
                self._hurry = self._hurry or size > 2 * log_chain.ROTATE_AT
            else:
                self._measure(path, size)
        return due

    def _measure(self, path: Path, size: int) -> None:
        moment = time.monotonic()
        self._now[path] = (moment, size)
        before_s, before = self._before.get(path, (moment - LOOK_EVERY_S, 0))
        rate = max(0, size - before) / max(0.01, moment - before_s)
        self._hurry = self._hurry or size + rate * LOOK_EVERY_S > log_chain.ROTATE_AT

    def pause_s(self, pods: int) -> float:
        return HURRY_S if self._hurry else LOOK_EVERY_S * max(1.0, pods / PODS_A_LOOK)
