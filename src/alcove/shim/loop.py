"""An event loop for one small process: coroutines, timers and descriptors on epoll.

asyncio would do the same, and brings 10 MB of private memory into each pod's shim. Here a coroutine awaits ``Future``s
and nothing else; tasks are not cancelled, they end by what they wait for. One thread.
"""

from __future__ import annotations

import heapq
import itertools
import select
import time
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any, Generic, TypeVar

T = TypeVar("T")
READ, WRITE = select.EPOLLIN, select.EPOLLOUT
_PENDING = object()


class Future(Generic[T]):
    """A result that comes later; whoever awaits it is resumed by the loop, in order."""

    __slots__ = ("_callbacks", "_error", "_loop", "_result")

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._result: Any = _PENDING
        self._error: BaseException | None = None
        self._callbacks: list[Callable[[], None]] = []

    def done(self) -> bool:
        return self._result is not _PENDING or self._error is not None

    def set_result(self, result: T) -> None:
        """Give the result; a second one is ignored."""
        if not self.done():
            self._result = result
            self._wake()

    def set_error(self, error: BaseException) -> None:
        if not self.done():
            self._error = error
            self._wake()

    def on_done(self, callback: Callable[[], None]) -> None:
        if self.done():
            self._loop.call(callback)
        else:
            self._callbacks.append(callback)

    def result(self) -> T:
        if self._error is not None:
            raise self._error
        result: T = self._result
        return result

    def error(self) -> BaseException | None:
        return self._error

    def _wake(self) -> None:
        for callback in self._callbacks:
            self._loop.call(callback)
        self._callbacks.clear()

    def __await__(self) -> Generator[Future[T], None, T]:
        if not self.done():
            yield self
        return self.result()


class Timer:
    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class Loop:
    """``on_failure`` is told of each task that failed and that nobody awaited."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._ready: deque[Callable[[], None]] = deque()
        self._timers: list[tuple[float, int, Timer]] = []
        self._count = itertools.count()
        self._watched: dict[int, Callable[[int], None]] = {}
        self._stopped = False
        self.on_failure: Callable[[BaseException], None] = lambda error: None

    def future(self) -> Future[Any]:
        return Future(self)

    def call(self, callback: Callable[[], None]) -> None:
        """Call soon, after what was asked for before."""
        self._ready.append(callback)

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(callback)
        heapq.heappush(self._timers, (time.monotonic() + delay_s, next(self._count), timer))
        return timer

    def spawn(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine beside what runs; its result, or error, is the future's."""
        outcome: Future[T] = Future(self)

        def step() -> None:
            try:
                awaited = coroutine.send(None)
            except StopIteration as end:
                outcome.set_result(end.value)
            except BaseException as error:
                outcome.set_error(error)
            else:
                awaited.on_done(step)

        self.call(step)
        return outcome

    def background(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Run a coroutine whose result nobody waits for; a failure is told."""
        outcome = self.spawn(coroutine)

        def tell() -> None:
            error = outcome.error()
            if error is not None:
                self.on_failure(error)

        outcome.on_done(tell)

    async def sleep(self, delay_s: float) -> None:
        wake: Future[None] = Future(self)
        self.call_later(delay_s, lambda: wake.set_result(None))
        await wake

    async def within(self, timeout_s: float, future: Future[T]) -> T:
        """Wait for ``future``, at most so long. Raises ``TimeoutError``; the future itself goes on."""
        late: Future[T] = Future(self)
        timer = self.call_later(timeout_s, lambda: late.set_error(TimeoutError(f"no answer within {timeout_s:g} s")))

        def settle() -> None:
            error = future.error()
            if error is not None:
                late.set_error(error)
            else:
                late.set_result(future.result())

        future.on_done(settle)
        try:
            return await late
        finally:
            timer.cancel()

    def watch(self, fd: int, events: int, callback: Callable[[int], None]) -> None:
        """Call ``callback(events)`` when the descriptor is ready; again for one that is watched: other events."""
        if fd in self._watched:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)
        self._watched[fd] = callback

    def unwatch(self, fd: int) -> None:
        if self._watched.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def stop(self) -> None:
        self._stopped = True

    def run(self) -> None:
        """Run until ``stop``."""
        while not self._stopped:
            for fd, events in self._epoll.poll(self._patience()):
                callback = self._watched.get(fd)
                if callback is not None:
                    self._guard(partial(callback, events))
            self._expire()
            for _ in range(len(self._ready)):
                self._guard(self._ready.popleft())

    def run_until(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run until the coroutine has ended, and return its result."""
        outcome = self.spawn(coroutine)
        outcome.on_done(self.stop)
        self.run()
        return outcome.result()

    def _patience(self) -> float:
        if self._ready:
            return 0
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else -1

    def _expire(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            callback = heapq.heappop(self._timers)[2].callback
            if callback is not None:
                self._guard(callback)

    def _guard(self, callback: Callable[[], None]) -> None:
        """One callback that fails ends neither the loop nor the other pods' containers."""
        try:
            callback()
        except Exception as error:
            self.on_failure(error)
