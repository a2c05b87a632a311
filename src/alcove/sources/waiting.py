"""How long a fetch waits: for the first item, then for more."""

from __future__ import annotations

import time
from collections.abc import Sized


class Window:
    """``wait_s`` from now for the first item; from then on ``window_s``."""

    def __init__(self, wait_s: float, window_s: float) -> None:
        self._first_s = time.monotonic() + wait_s
        self._window_s = window_s
        self._end_s: float | None = None

    def left_s(self, found: Sized) -> float:
        now_s = time.monotonic()
        if not len(found):
            return max(0.0, self._first_s - now_s)
        if self._end_s is None:
            self._end_s = now_s + self._window_s
        return max(0.0, self._end_s - now_s)
