"""Time limits without timers of their own."""

from __future__ import annotations

import asyncio

import pytest

from alcove.functions.deadlines import Deadlines


async def test_what_takes_too_long_is_ended() -> None:
    deadlines = Deadlines()
    with pytest.raises(TimeoutError), deadlines.limit(0.03):
        await asyncio.sleep(60)
    assert len(deadlines) == 0


async def test_what_is_in_time_leaves_nothing() -> None:
    deadlines = Deadlines()

    async def work(seconds: float) -> float:
        with deadlines.limit(30):
            await asyncio.sleep(seconds)
        return seconds

    assert await asyncio.gather(*(work(0.001 * n) for n in range(50))) == [0.001 * n for n in range(50)]
    assert len(deadlines) == 0


async def test_each_ends_at_its_own_limit() -> None:
    deadlines, ended = Deadlines(), []

    async def work(seconds: float) -> None:
        try:
            with deadlines.limit(seconds):
                await asyncio.sleep(60)
        except TimeoutError:
            ended.append(seconds)

    await asyncio.gather(work(0.12), work(0.04), work(0.2), work(0.04))
    assert ended == [0.04, 0.04, 0.12, 0.2]


async def test_a_cancelled_call_is_cancelled_not_timed_out() -> None:
    deadlines = Deadlines()

    async def work() -> None:
        with deadlines.limit(30):
            await asyncio.sleep(60)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(deadlines) == 0


async def test_an_error_passes() -> None:
    deadlines = Deadlines()
    with pytest.raises(ValueError, match="mine"), deadlines.limit(30):
        raise ValueError("mine")
    assert len(deadlines) == 0
