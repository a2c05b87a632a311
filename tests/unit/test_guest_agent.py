"""The agent's loop around a host that goes away and comes back."""

from __future__ import annotations

import os
import select
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from alcove.guest.agent import Agent
from alcove.guest.memory import MemoryPeak
from alcove.guest.processes import Process
from alcove.wire.frame import Kind


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


def test_the_peak_of_memory_is_told_once_before_the_marker_that_it_belongs_to(tmp_path: Path) -> None:
    peak = tmp_path / "memory.peak"
    peak.write_text("1048577\n")
    agent: Any = Agent.__new__(Agent)
    sent: list[tuple[Kind, bytes]] = []
    agent._port = SimpleNamespace(full=False, send=lambda kind, id, payload: sent.append((kind, payload)))
    agent._peak = MemoryPeak(str(peak))
    read, write = os.pipe2(os.O_NONBLOCK)
    agent._outputs = {read: Process(1, 0, {read: 2}, runtime=True)}
    for data in (b"printed", b"\0alcove:end:a", b"\0", b"\0alcove:end:b\0"):
        os.write(write, data)
        agent._forward(read)
    told = (Kind.EVENT, b'{"event": "memory", "peak_mib": 2}')
    logged = [(Kind.LOG, b"\x02" + data) for data in (b"printed", b"\0alcove:end:a", b"\0", b"\0alcove:end:b\0")]
    assert sent == [logged[0], told, *logged[1:]]
    peak.write_text("2097153\n")
    agent._tell_memory()
    assert sent[-1] == (Kind.EVENT, b'{"event": "memory", "peak_mib": 3}')
    os.close(read)
    os.close(write)


def test_a_kernel_that_counts_no_peak_is_no_error(tmp_path: Path) -> None:
    peak = MemoryPeak(str(tmp_path / "memory.peak"))
    assert (peak.mib(), peak.risen()) == (0, None)
