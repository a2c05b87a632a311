"""Which call gets which instance, and when another one is started.

A call that finds no instance waits in its version's line. It is served by what comes first: an instance that becomes
free, or a start that is done. Starts are few at a time, so a start does not belong to a call: one that nobody waits
for any more becomes an idle instance. Where there is no room for one more sandbox, the longest idle one makes room;
where all are busy, tenants that hold more of them than another that waits give theirs up as they become free.

Waiting is bounded: in number (where the queue is full, the tenant with the most waiting calls loses its newest), in
time, and where nothing more can be started, to a quarter as many calls as there are instances: who is let wait at all
is served within a part of the time that a call takes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from alcove.errors import AlcoveError, SandboxGone
from alcove.functions.instance import Instance
from alcove.functions.line import Line, Waiter
from alcove.functions.model import FunctionVersion
from alcove.functions.queueing import Queue, too_many
from alcove.functions.room import Room
from alcove.functions.starts import Starter
from alcove.sandbox.protocol import InitError

log = logging.getLogger(__name__)

REAP_EVERY_S = 1.0
# After a start ahead of demand has failed.
RETRY_S = 5.0
# A start counts among those that are side by side for so long at most: a tenant's init code may take minutes, and
# others must not wait for it.
START_COUNTS_S = 2.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """``max_sandboxes`` of functions at once; ``starts_at_once`` starts side by side; ``queue_wait_s`` and
    ``queue_length`` bound what waits; an instance ends after ``idle_timeout_s``; at most ``prewarm`` are idle ahead.
    """

    max_sandboxes: int = 100
    starts_at_once: int = 8
    queue_wait_s: float = 5.0
    queue_length: int = 1000
    idle_timeout_s: float = 300.0
    prewarm: int = 4


class Scheduler:
    """See the module's docstring. ``start`` to ``close``; ``on_reap`` is called now and then."""

    def __init__(
        self,
        starter: Starter,
        bounds: Bounds,
        *,
        on_reap: Callable[[], None] = lambda: None,
    ) -> None:
        self.bounds = bounds
        self._starter = starter
        self._on_reap = on_reap
        self._lines: dict[str, Line] = {}
        self._eager: dict[Line, None] = {}
        self._queue = Queue(bounds.queue_length, bounds.queue_wait_s, self._covered)
        self._room = Room(bounds.max_sandboxes)
        self._starting = 0
        self._side_by_side: set[asyncio.TimerHandle] = set()
        self._starts: set[asyncio.Task[Any]] = set()
        self._endings: set[asyncio.Task[Any]] = set()
        self._reaper: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._reaper = asyncio.create_task(self._reap())

    async def close(self) -> None:
        """Refuse who waits, end what is starting; instances stay for their tiers to end or to keep."""
        if self._reaper is not None:
            self._reaper.cancel()
            await asyncio.gather(self._reaper, return_exceptions=True)
        self._queue.close(SandboxGone("the server stops", reason="killed"))
        for task in self._starts:
            task.cancel()
        await asyncio.gather(*self._starts, return_exceptions=True)
        # Cut short, these would leave halves.
        await asyncio.gather(*self._endings, return_exceptions=True)

    # What there is

    def instances(self) -> Iterator[Instance]:
        for line in self._lines.values():
            yield from line.instances

    def line(self, function: FunctionVersion) -> Line:
        """Return the line of this state of the version."""
        line = self._lines.get(function.revision)
        if line is None:
            line = self._lines[function.revision] = Line(function)
        return line

    def queues(self) -> list[dict[str, Any]]:
        """Return what waits and what starts, for each version that has either."""
        return [line.describe() for line in self._lines.values() if line.waiters or line.starting]

    # Calls

    def take(self, function: FunctionVersion) -> Instance | None:
        """Return an instance that is there, or None."""
        line = self._lines.get(function.revision)
        if line is None:
            return None
        line.function = function
        if function.fresh_vm:
            for used in [one for one in line.free if one.served and not one.active]:
                self.release(used)
        instance = line.take()
        if instance is not None and len(line.free) < line.ahead:
            self.pump()
        return instance

    async def wait(self, function: FunctionVersion) -> Instance:
        """Wait for an instance. Raises ``ThrottledError``, and what a start fails with."""
        self._starter.tier_of(function)
        line = self.line(function)
        line.function = function
        line.miss(self.bounds.prewarm)
        waiter = self._queue.add(line)
        self._note(line)
        self.pump()
        if not self._covered(waiter):
            self._bound(waiter)
        try:
            return await waiter.future
        except asyncio.CancelledError:
            self._queue.remove(waiter)
            future = waiter.future
            if future.done() and not future.cancelled() and future.exception() is None:
                self.give_back(future.result())
            raise
        finally:
            self._note(line)

    def _covered(self, waiter: Waiter) -> bool:
        """Whether a start is under way for the call, or room is being made for one."""
        if waiter.future.done() or len(self._queue) - self._starting <= self._room.ending:
            return True
        return waiter in islice(waiter.line.waiters, waiter.line.coming)

    def _bound(self, waiter: Waiter) -> None:
        """Refuse the call where it would wait too long: where nothing more can be started, those may wait that are
        served within the time that a call takes, or that their tenant's share of the sandboxes is to be freed for.
        """
        line, tenant = waiter.line, waiter.line.function.tenant
        if self._room.full and self._longest_idle() is None:
            share = self._room.share_of(tenant, set(self._queue.of_tenant))
            if line.uncovered > max(1, line.holding // 4, share):
                self._queue.refuse(waiter, too_many())
                return
        self._queue.bound(waiter)

    def give_back(self, instance: Instance) -> None:
        """A request has left the instance: hand it on, keep it or release it."""
        instance.active -= 1
        self._settle(instance)
        if self._queue.turns or self._eager:
            self.pump()

    def join(self, function: FunctionVersion, instance: Instance) -> None:
        """Take in an instance that is loaded."""
        self._room.take(function.tenant)
        self._join(self.line(function), instance)

    def _join(self, line: Line, instance: Instance) -> None:
        instance.capacity = instance.function.instance_concurrency
        instance.sandbox.listen(log=instance.log.write, exit=lambda reason: self._ended(instance, reason))
        line.instances.add(instance)
        self._settle(instance, new=True)

    def _settle(self, instance: Instance, *, new: bool = False) -> None:
        line = self._lines[instance.function.revision]
        given_up = (instance.served and line.function.fresh_vm) or (not new and self._yields(line))
        while line.waiters and instance.free and not given_up:
            self._queue.serve(line, instance)
        if instance.gone is not None or line.retired or given_up:
            if not instance.active:
                self.release(instance)
        elif instance.free:
            line.put(instance)

    def _yields(self, line: Line) -> bool:
        """Whether what becomes free in this line makes room for another that holds less and waits."""
        other = self._queue.turns.first(self._room.held)
        if other is None or other is line or not line.waiters or not self._room.full or self._room.ending:
            return False
        mine, theirs = line.function.tenant, other.function.tenant
        held = self._room.held
        more = line.holding - other.holding if mine == theirs else held[mine] - held[theirs]
        # One machine for two: turn by turn.
        waited_longer = next(iter(other.waiters)).since < next(iter(line.waiters)).since
        return more >= 2 or (more == 1 and not other.holding and waited_longer)

    def _ended(self, instance: Instance, reason: str) -> None:
        """A sandbox ended unasked; one that serves a request is released by its caller."""
        if instance.gone is None:
            instance.gone = reason
        if not instance.active:
            self.release(instance)

    def release(self, instance: Instance) -> None:
        """Let go of an instance that serves nothing."""
        line = self._lines.get(instance.function.revision)
        if line is None or instance not in line.instances:
            return
        line.drop(instance)
        self._note(line)
        self._room.give_up(instance.function.tenant)
        instance.log.flush()
        self._run(self._end(instance), self._endings)

    async def _end(self, instance: Instance) -> None:
        try:
            await instance.sandbox.close()
        finally:
            self._room.ended()
            self.pump()

    # Starts

    def pump(self) -> None:
        """Start what is wanted and what there is room for: first for who waits, then ahead."""
        while not self._queue.closed and len(self._side_by_side) < self.bounds.starts_at_once:
            line = self._queue.turns.first(self._room.held) or self._next_ahead()
            if line is None:
                return
            if self._room.full:
                if not self._room.ending and (line.waiters or line.holding < line.provisioned):
                    self._make_room()
                return
            self._queue.turns.rotate(line)
            self._begin(line)

    def _next_ahead(self) -> Line | None:
        if not self._eager:
            return None
        now = time.monotonic()
        return next((line for line in self._eager if line.lacks(now)), None)

    def _begin(self, line: Line) -> None:
        line.starting += 1
        self._starting += 1
        self._room.take(line.function.tenant)
        self._queue.turns.update(line)
        self._run(self._start(line, self._count_start()), self._starts)

    def _count_start(self) -> asyncio.TimerHandle:
        def stop() -> None:
            self._side_by_side.discard(handle)
            self.pump()

        handle = asyncio.get_running_loop().call_later(START_COUNTS_S, stop)
        self._side_by_side.add(handle)
        return handle

    async def _start(self, line: Line, counted: asyncio.TimerHandle) -> None:
        instance: Instance | None = None
        failure: Exception | None = None
        try:
            instance = await self._starter.start(line.function)
        except (AlcoveError, InitError, OSError) as error:
            failure = error
        except BaseException as error:
            failure = error if isinstance(error, Exception) else SandboxGone("the server stops")
            raise
        finally:
            counted.cancel()
            self._side_by_side.discard(counted)
            line.starting -= 1
            self._starting -= 1
            self._queue.turns.update(line)
            if instance is None:
                self._room.give_up(line.function.tenant)
                self._room.ended()
                self._start_failed(line, failure)
            else:
                line.failure = ""
                self._join(line, instance)
            self.pump()

    def _start_failed(self, line: Line, failure: Exception | None) -> None:
        """The longest waiting call is told; where none waits, the next start ahead is later."""
        line.failure = str(failure)
        line.not_before = time.monotonic() + RETRY_S
        if line.waiters and failure is not None:
            self._queue.refuse(next(iter(line.waiters)), failure)
        self._note(line)

    # Room

    def _longest_idle(self) -> Instance | None:
        """Return the instance that has idled longest, None where none may be ended."""
        idle = (line.oldest_idle() for line in self._lines.values() if line.free)
        return min((one for one in idle if one is not None), key=lambda one: one.idle_since, default=None)

    def _make_room(self) -> None:
        oldest = self._longest_idle()
        if oldest is not None:
            self.release(oldest)

    async def _reap(self) -> None:
        while True:
            await asyncio.sleep(REAP_EVERY_S)
            now = time.monotonic()
            horizon = now - self.bounds.idle_timeout_s
            for line in list(self._lines.values()):
                line.settle_down(now)
                while (oldest := line.oldest_idle()) is not None and oldest.idle_since < horizon:
                    self.release(oldest)
                self._note(line)
            self._on_reap()
            self.pump()

    # Changes

    def retire(self, chosen: Callable[[FunctionVersion], bool]) -> None:
        """Drain the instances of these versions: they serve who waits for them already, then end."""
        for line in list(self._lines.values()):
            if chosen(line.function):
                line.retired, line.ahead, line.provisioned = True, 0, 0
                for instance in [one for one in line.instances if not one.active]:
                    self.release(instance)
                self._note(line)

    def provide(self, function: FunctionVersion, count: int) -> Line:
        """Have at least ``count`` instances of the version from now on."""
        line = self.line(function)
        line.provisioned = count
        self._note(line)
        self.pump()
        return line

    def _note(self, line: Line) -> None:
        """The line has changed: keep it while there is anything in it, and know whether it wants starts ahead."""
        if line.empty and self._lines.get(line.revision) is line:
            del self._lines[line.revision]
        if line.eager and not line.retired:
            self._eager[line] = None
        else:
            self._eager.pop(line, None)

    def _run(self, work: Coroutine[Any, Any, None], among: set[asyncio.Task[Any]]) -> None:
        task = asyncio.create_task(work)
        among.add(task)
        task.add_done_callback(among.discard)
        task.add_done_callback(_log_failure)


def _log_failure(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.error("a background task failed", exc_info=task.exception())
