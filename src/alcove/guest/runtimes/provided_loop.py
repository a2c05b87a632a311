"""One thread, one loop: who waits for which descriptor."""

from __future__ import annotations

import select
from collections.abc import Callable

# Called with the events that epoll tells.
OnEvents = Callable[[int], None]


class Loop:
    """Calls whoever watches a descriptor that is ready."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, OnEvents] = {}

    def watch(self, fd: int, callback: OnEvents) -> None:
        self._epoll.register(fd, select.EPOLLIN)
        self._callbacks[fd] = callback

    def change(self, fd: int, mask: int) -> None:
        self._epoll.modify(fd, mask)

    def forget(self, fd: int) -> None:
        if self._callbacks.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def step(self, timeout_s: float = -1) -> bool:
        """Wait for something to do and do it; return whether there was something."""
        ready = self._epoll.poll(timeout_s)
        for fd, events in ready:
            # One that came before may have put an end to it.
            callback = self._callbacks.get(fd)
            if callback is not None:
                callback(events)
        return bool(ready)
