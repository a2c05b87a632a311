"""The end of a driver: kill -9 by its own hand, at the step that it was told."""

from __future__ import annotations

import os
import signal


class Death:
    """``at`` that step for the ``left``-th time is the end."""

    def __init__(self, step: str, left: int) -> None:
        self._step, self._left = step, left

    def at(self, step: str) -> None:
        if step == self._step:
            self._left -= 1
            if self._left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)
