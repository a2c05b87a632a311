"""Requests that share a Python runtime: each in a thread of its own, answered in the order in which they end.

The function says that it can (the tag ``alcove:concurrency``), so what its threads share is its own concern. What the
process has once, the environment above all, belongs to none of them. Threads end with the process.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

Work = Callable[[], None]
new_lock = threading.Lock


class Threads:
    """Threads are made when they are first needed, and kept."""

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[Work] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)

    def submit(self, work: Work) -> None:
        self._waiting.put(work)
        if not self._idle.acquire(blocking=False):
            threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        while True:
            self._waiting.get()()
            self._idle.release()
