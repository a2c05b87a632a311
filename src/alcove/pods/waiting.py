"""Machines of pods that wait, restored and paused, for a pod to be.

Each has gone once, after its restore, through what a pod's first seconds take: a network of nobody's, a container of
the guest's own. Under emulation that is most of a start's time, for code runs slowly until it is translated. A machine
that waits is nobody's and becomes one pod's, never another's; its record says that it waits, so a later daemon reaps
it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from alcove.errors import AlcoveError
from alcove.pods.host import PodHost
from alcove.pods.shape import Shape
from alcove.sandbox.agent import AgentClient
from alcove.vmm.template import SavedMachine

log = logging.getLogger(__name__)

# The start that emptied the place, and its first containers, have the processors for themselves.
REFILL_AFTER_S = 1.5


@dataclass(slots=True)
class Waiting:
    """A paused machine and the client of its agent."""

    host: PodHost
    agent: AgentClient

    @property
    def ended(self) -> bool:
        return self.host.machine is None or self.host.machine.process.exited()


class WaitingPods:
    """``size`` wait for each template that pods were started from. ``make`` makes one; ``free`` frees its host."""

    def __init__(
        self,
        size: int,
        make: Callable[[SavedMachine, Shape], Awaitable[Waiting]],
        free: Callable[[PodHost], Awaitable[None]],
    ) -> None:
        self._size = size
        self._make = make
        self._free = free
        self._queues: dict[str, deque[Waiting]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._refilling: set[str] = set()
        self._closed = asyncio.Event()

    def count(self, key: str) -> int:
        return len(self._queues.get(key, ()))

    def take(self, saved: SavedMachine, shape: Shape) -> Waiting | None:
        """Return one, if there is one; others are made ready in the background."""
        queue = self._queues.setdefault(saved.key, deque())
        found = None
        while queue and found is None:
            waiting = queue.popleft()
            if waiting.ended:
                self._background(self._end(waiting))
            else:
                found = waiting
        self.expect(saved, shape)
        return found

    def expect(self, saved: SavedMachine, shape: Shape, after_s: float = REFILL_AFTER_S) -> None:
        """Have ``size`` of them wait, from soon on."""
        self._queues.setdefault(saved.key, deque())
        if self._size and saved.key not in self._refilling and not self._closed.is_set():
            self._refilling.add(saved.key)
            self._background(self._refill(saved, shape, after_s))

    async def _refill(self, saved: SavedMachine, shape: Shape, after_s: float) -> None:
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(after_s):
                    await self._closed.wait()
            while (queue := self._queues.get(saved.key)) is not None and len(queue) < self._size:
                if saved.closed or self._closed.is_set():
                    return
                waiting = await self._make(saved, shape)
                if saved.closed or self._closed.is_set() or self._queues.get(saved.key) is not queue:
                    await self._end(waiting)
                    return
                queue.append(waiting)
        except (AlcoveError, OSError, TimeoutError) as error:
            log.warning("no machine of a pod could be made ready ahead: %s", error)
        finally:
            self._refilling.discard(saved.key)

    def forget(self, key: str) -> None:
        """End those of this template: the next of its key has other memory."""
        for waiting in self._queues.pop(key, ()):
            self._background(self._end(waiting))

    async def close(self) -> None:
        """End all of them; none is made any more."""
        self._closed.set()
        for key in list(self._queues):
            self.forget(key)
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _end(self, waiting: Waiting) -> None:
        waiting.agent.close()
        with contextlib.suppress(OSError):
            await self._free(waiting.host)

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
