"""Machines that wait for pods: who has one, who ends them, and what is left."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from alcove.errors import SandboxError
from alcove.pods.shape import Shape
from alcove.pods.waiting import Waiting, WaitingPods

SHAPE = Shape(1, 4096)


class Stock:
    """Makes machines and sees them freed."""

    def __init__(self, size: int = 1) -> None:
        self.made: list[Any] = []
        self.freed: list[Any] = []
        self.fails = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.pods = WaitingPods(size, self._make, self._free)

    async def _make(self, saved: Any, shape: Shape) -> Waiting:
        await self.gate.wait()
        if self.fails:
            raise SandboxError("no")
        process = SimpleNamespace(exited=lambda: False)
        host = SimpleNamespace(machine=SimpleNamespace(process=process), saved=saved, shape=shape)
        self.made.append(host)
        return Waiting(cast(Any, host), cast(Any, SimpleNamespace(close=lambda: None)))

    async def _free(self, host: Any) -> None:
        self.freed.append(host)

    async def filled(self, saved: Any, count: int) -> None:
        async with asyncio.timeout(2):
            while self.pods.count(saved.key) < count:
                await asyncio.sleep(0)


def template(key: str = "a") -> Any:
    return SimpleNamespace(key=key, closed=False)


async def test_one_is_taken_once_and_another_made() -> None:
    stock, saved = Stock(), template()
    assert stock.pods.take(saved, SHAPE) is None
    stock.pods.expect(saved, SHAPE, 0)
    await stock.pods.close()
    stock = Stock()
    stock.pods.expect(saved, SHAPE, 0)
    await stock.filled(saved, 1)
    taken = stock.pods.take(saved, SHAPE)
    assert taken is not None
    assert taken.host is stock.made[0]
    assert stock.pods.take(saved, SHAPE) is None
    await stock.pods.close()
    # Who has taken one owns it.
    assert taken.host not in stock.freed


async def test_one_that_died_while_it_waited_is_nobodys() -> None:
    stock, saved = Stock(2), template()
    stock.pods.expect(saved, SHAPE, 0)
    await stock.filled(saved, 2)
    stock.made[0].machine.process.exited = lambda: True
    taken = stock.pods.take(saved, SHAPE)
    assert taken is not None
    assert taken.host is stock.made[1]
    await stock.pods.close()
    assert stock.freed == [stock.made[0]]


async def test_what_waits_ends_with_its_template() -> None:
    stock, saved = Stock(), template()
    stock.pods.expect(saved, SHAPE, 0)
    await stock.filled(saved, 1)
    saved.closed = True
    stock.pods.forget(saved.key)
    await stock.pods.close()
    assert stock.freed == stock.made


@pytest.mark.parametrize("how", ["closed", "forgotten"])
async def test_one_that_comes_too_late_is_freed(how: str) -> None:
    stock, saved = Stock(), template()
    stock.gate.clear()
    stock.pods.expect(saved, SHAPE, 0)
    await asyncio.sleep(0.01)
    if how == "forgotten":
        stock.pods.forget(saved.key)
    closing = asyncio.create_task(stock.pods.close())
    await asyncio.sleep(0)
    stock.gate.set()
    await closing
    assert stock.freed == stock.made
    assert len(stock.made) == 1


async def test_a_failure_is_no_end() -> None:
    stock, saved = Stock(), template()
    stock.fails = True
    stock.pods.expect(saved, SHAPE, 0)
    await asyncio.sleep(0.01)
    stock.fails = False
    stock.pods.expect(saved, SHAPE, 0)
    await stock.filled(saved, 1)
    await stock.pods.close()
    assert stock.freed == stock.made


async def test_none_waits_where_none_should() -> None:
    stock, saved = Stock(0), template()
    stock.pods.expect(saved, SHAPE, 0)
    assert stock.pods.take(saved, SHAPE) is None
    await stock.pods.close()
    assert stock.made == []
