"""The calls that wait for an instance: bounded in number and time, in the order in which they came."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable

from alcove.errors import ThrottledError
from alcove.functions.instance import Instance
from alcove.functions.line import Line, Waiter
from alcove.functions.turns import Turns
from alcove.sandbox.protocol import TenantId

# How often a call is looked at that a start is under way for.
COVERED_LOOK_S = 1.0


class Queue:
    """``turns`` has the lines that want a start. A call that is ``covered`` when its time is over waits on. One timer
    serves all.
    """

    def __init__(self, length: int, wait_s: float, covered: Callable[[Waiter], bool]) -> None:
        self.turns = Turns()
        self.of_tenant: Counter[TenantId] = Counter()
        self.closed = False
        self._length = length
        self._wait_s = wait_s
        self._covered = covered
        self._waiters: dict[Waiter, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._waiters)

    def close(self, error: Exception) -> None:
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        for waiter in list(self._waiters):
            self.refuse(waiter, error)

    def add(self, line: Line) -> Waiter:
        waiter = Waiter(line, self._wait_s)
        line.waiters[waiter] = self._waiters[waiter] = None
        self.of_tenant[line.function.tenant] += 1
        self.turns.update(line)
        if self._timer is None:
            self._set_timer()
        return waiter

    def remove(self, waiter: Waiter) -> None:
        line = waiter.line
        if waiter in self._waiters:
            del line.waiters[waiter], self._waiters[waiter]
            tenant = line.function.tenant
            self.of_tenant[tenant] -= 1
            if not self.of_tenant[tenant]:
                del self.of_tenant[tenant]
            self.turns.update(line)

    def serve(self, line: Line, instance: Instance) -> None:
        """Hand the instance to the call that has waited longest in the line, if any is still there."""
        waiter = next(iter(line.waiters))
        self.remove(waiter)
        if not waiter.future.done():
            instance.active += 1
            waiter.future.set_result(instance)

    def refuse(self, waiter: Waiter, error: Exception) -> None:
        self.remove(waiter)
        if not waiter.future.done():
            waiter.future.set_exception(error)

    def bound(self, waiter: Waiter) -> None:
        """Keep to the queue's length: refuse the newcomer, or the newest of a tenant that has more waiting."""
        if not self._wait_s:
            self.refuse(waiter, too_many())
        elif len(self._waiters) > self._length:
            tenant = max(self.of_tenant, key=self.of_tenant.__getitem__)
            if self.of_tenant[tenant] > self.of_tenant[waiter.line.function.tenant]:
                waiter = next(one for one in reversed(self._waiters) if one.line.function.tenant == tenant)
            self.refuse(waiter, too_many())

    def _set_timer(self) -> None:
        first = next(iter(self._waiters), None)
        if first is None or self.closed:
            self._timer = None
            return
        delay_s = max(0.001, first.due - time.monotonic())
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._expire)

    def _expire(self) -> None:
        """Refuse who has waited long enough."""
        now = time.monotonic()
        for waiter in list(self._waiters):
            if waiter.due > now:
                break
            if self._covered(waiter):
                del self._waiters[waiter]
                self._waiters[waiter] = None
                waiter.due = now + max(self._wait_s, COVERED_LOOK_S)
            else:
                self.refuse(waiter, too_many())
        self._set_timer()


def too_many() -> ThrottledError:
    return ThrottledError(
        "Rate Exceeded.",
        hint="all sandboxes are busy, or too many calls wait: try again later, or have --max-sandboxes raised",
    )
