"""The agent's loop around a host that goes away and comes back."""

from __future__ import annotations

import select
from types import SimpleNamespace
from typing import Any

import pytest

from alcove.guest.agent import Agent


class Epoll:
    """Holds what is watched, and for what."""

    def __init__(self) -> None:
        self.masks: dict[int, int] = {}

    def register(self, fd: int, mask: int) -> None:
        assert fd not in self.masks
        self.masks[fd] = mask

    def modify(self, fd: int, mask: int) -> None:
        assert fd in self.masks
        self.masks[fd] = mask


@pytest.mark.parametrize("waits", [False, True])
def test_an_answer_that_waits_for_the_next_host_is_sent(waits: bool) -> None:
    """A reply was queued while the kernel still took the host for gone: it must not wait for another event."""
    agent: Any = Agent.__new__(Agent)
    agent._port = SimpleNamespace(fd=3, wants_write=waits, full=False)
    agent._epoll = Epoll()
    agent._stopping = agent._paused = False
    agent._outputs = {}
    agent._mask = select.EPOLLIN
    agent._retry_at = 0.0
    agent._after()
    assert agent._epoll.masks[3] == (select.EPOLLIN | select.EPOLLOUT if waits else select.EPOLLIN)
    assert agent._retry_at is None
