"""What belongs to one state of one version: its instances, and the calls that wait for one, first come first served."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Any

from alcove.functions.instance import Instance
from alcove.functions.model import FunctionVersion

# A version whose calls have all found an instance for so long gets no more of them ahead.
QUIET_S = 60.0


class Waiter:
    """A call that waits for an instance, ``since`` then (monotonic clock), until it is ``due``."""

    __slots__ = ("due", "future", "line", "since")

    def __init__(self, line: Line, wait_s: float) -> None:
        self.line = line
        self.since = time.monotonic()
        self.due = self.since + wait_s
        self.future: asyncio.Future[Instance] = asyncio.get_running_loop().create_future()


class Line:
    """``starting`` counts the starts under way; ``ahead`` is how many idle instances demand asks for, ``provisioned``
    how many instances there are to be at least. ``retired``: the function has changed, no more is started ahead and
    nothing is kept. ``failure`` is why the last start failed, ``not_before`` when the next one ahead may be tried.
    """

    __slots__ = (
        "ahead",
        "failure",
        "free",
        "function",
        "instances",
        "last_miss",
        "not_before",
        "provisioned",
        "retired",
        "starting",
        "waiters",
    )

    def __init__(self, function: FunctionVersion) -> None:
        self.function = function
        self.instances: set[Instance] = set()
        # Those with room for a request, the one used last at the end.
        self.free: deque[Instance] = deque()
        self.waiters: dict[Waiter, None] = {}
        self.starting = 0
        self.ahead = 0
        self.provisioned = 0
        self.retired = False
        self.last_miss = float("-inf")
        self.failure = ""
        self.not_before = 0.0

    @property
    def revision(self) -> str:
        return self.function.revision

    @property
    def uncovered(self) -> int:
        """How many waiting calls no start is under way for."""
        return len(self.waiters) - self.coming

    @property
    def coming(self) -> int:
        """How many calls the starts under way will have room for."""
        return self.starting * self.function.instance_concurrency

    @property
    def holding(self) -> int:
        return len(self.instances) + self.starting

    @property
    def empty(self) -> bool:
        return not (self.instances or self.waiters or self.starting or self.provisioned or self.ahead)

    def lacks(self, now: float) -> bool:
        """Whether one more is to be started although nobody waits."""
        if self.retired or now < self.not_before:
            return False
        spare = self.starting - len(self.waiters)
        return self.holding < self.provisioned or len(self.free) + spare < self.ahead

    def miss(self, ceiling: int) -> None:
        """A call found no instance: have more ready the next time, where that is worth it.

        For a function whose every request has a new machine it always is; for a published version when one
        miss follows another; for ``$LATEST``, which the pool serves, never.
        """
        now = time.monotonic()
        again = now - self.last_miss < QUIET_S
        self.last_miss = now
        if self.function.fresh_vm or (again and self.function.published):
            self.ahead = min(ceiling, self.ahead + 1)

    @property
    def eager(self) -> bool:
        """Whether instances are to be ready before a call comes."""
        return bool(self.ahead or self.provisioned)

    def settle_down(self, now: float) -> None:
        if self.ahead and now - self.last_miss > QUIET_S:
            self.ahead = 0

    def take(self) -> Instance | None:
        """Return an instance with room for a request, which is counted in it; None where there is none."""
        free = self.free
        while free:
            instance = free[-1]
            if not instance.free:
                free.pop()
                continue
            instance.active += 1
            if instance.active == instance.capacity:
                free.pop()
            return instance
        return None

    def put(self, instance: Instance) -> None:
        """The instance has room."""
        if not instance.active:
            instance.idle_since = time.monotonic()
        if instance not in self.free:
            self.free.append(instance)

    def drop(self, instance: Instance) -> None:
        self.instances.discard(instance)
        if instance in self.free:
            self.free.remove(instance)

    def describe(self) -> dict[str, Any]:
        return {
            "function": self.function.name,
            "version": self.function.version,
            "tenant": self.function.tenant,
            "waiting": len(self.waiters),
            "starting": self.starting,
        }

    def oldest_idle(self) -> Instance | None:
        """Return the instance that has idled longest, None where all are busy or kept as provisioned."""
        if len(self.instances) <= self.provisioned and not self.retired:
            return None
        return next((instance for instance in self.free if not instance.active), None)
