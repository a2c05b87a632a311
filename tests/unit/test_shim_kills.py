"""SIGKILL that ends nothing: the machine is ended under what is left, and under nobody who is still wanted."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from alcove.shim import pod as pods
from alcove.shim.container import Container
from alcove.shim.loop import Loop
from alcove.shim.pod import Pod
from alcove.shim.task_service import TaskService
from alcove.wire import task_messages

SIGTERM, SIGKILL = 15, 9


class Guest:
    """An agent that obeys nobody: it does not answer, or says yes and does nothing."""

    def __init__(self, loop: Loop, *, answers: bool) -> None:
        self.closed = False
        self.on_hello: Callable[[], None] = lambda: None
        self._loop = loop
        self._answers = answers

    async def request(self, op: str, *, timeout_s: float = 60, **fields: Any) -> dict[str, Any]:
        if not self._answers:
            await self._loop.within(timeout_s, self._loop.future())
        if op == "hello":
            self.on_hello()
        return {}

    def close(self) -> None:
        self.closed = True


class Bench:
    """A pod with its sandbox's container and two that run, with little patience."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, answers: bool = True) -> None:
        monkeypatch.setattr(pods, "KILL_S", 0.05)
        monkeypatch.setattr(pods, "SLOW_S", 0.05)
        monkeypatch.setattr("alcove.shim.task_service._SIGNAL_S", 0.05)
        self.loop = Loop()
        self.asked: list[str] = []
        log: Any = SimpleNamespace(warning=lambda text: None)
        events: Any = SimpleNamespace(publish=lambda topic, **fields: None)
        node: Any = SimpleNamespace(request=self._node)
        self.pod = Pod(self.loop, log, node, events, id="pod")
        self.guest: Any = Guest(self.loop, answers=answers)
        self.pod._machine = SimpleNamespace(agent=self.guest)  # type: ignore[assignment]
        self.service = TaskService(self.loop, self.pod, SimpleNamespace())  # type: ignore[arg-type]
        for id in ("pod", "a", "b"):
            request = {"id": id, "bundle": "/b", "rootfs": []}
            container = self.pod.containers[id] = Container(self.loop, request, sandbox=id == "pod")
            container.init.status = task_messages.RUNNING

    async def _node(self, op: str, **fields: Any) -> dict[str, Any]:
        self.asked.append(op)
        return {}

    async def kill(self, id: str, signal: int = SIGKILL) -> None:
        await self.service._do_Kill({"id": id, "exec_id": "", "signal": signal, "all": True})

    def stopped(self, *kills: tuple[str, int]) -> bool:
        """Whether the machine is ended after these."""

        async def act() -> None:
            for id, signal in kills:
                await self.kill(id, signal)
            await self.loop.sleep(0.3)

        with contextlib.closing(self.guest):
            self.loop.run_until(act())
            ended = all(one.init.stopped for one in self.pod.containers.values())
            assert ended == ("stop_pod" in self.asked)
            return ended


def test_what_sigkill_does_not_end_ends_with_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Bench(monkeypatch).stopped(("a", SIGKILL), ("b", SIGKILL))


def test_a_guest_that_does_not_answer_ends_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Bench(monkeypatch, answers=False).stopped(("a", SIGTERM), ("a", SIGKILL), ("b", SIGTERM), ("b", SIGKILL))


def test_a_neighbour_that_nobody_kills_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not Bench(monkeypatch).stopped(("a", SIGKILL))
    assert not Bench(monkeypatch).stopped(("a", SIGKILL), ("b", SIGTERM))


def test_one_that_ends_leaves_the_machine_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch)
    for id in ("a", "b"):
        bench.loop.call_later(0.01, partial(bench.pod.containers[id].init.stop, 137))
    assert not bench.stopped(("a", SIGKILL), ("b", SIGKILL))


def test_a_guest_that_is_only_slow_keeps_its_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it tells before it answers counts: its volumes would be gone with the machine."""
    bench = Bench(monkeypatch)
    bench.guest.on_hello = lambda: bench.pod.containers["a"].init.stop(137)
    bench.pod.containers["b"].init.stop(0)
    assert not bench.stopped(("a", SIGKILL))
