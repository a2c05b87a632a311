"""A new sandbox for every request, and instances that are ready ahead of demand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.fakes import FakeSnapshotTier
from tests.unit.test_dispatcher import function, settle

from alcove.errors import InvalidRequest
from alcove.functions.dispatcher import Dispatcher
from alcove.functions.limits import check_tags
from alcove.functions.logs import LogStore
from alcove.functions.model import FunctionVersion
from alcove.functions.scheduler import Bounds
from alcove.sandbox.protocol import Isolation

FRESH = {"alcove:fresh-vm": "true"}


def published(**changes: Any) -> FunctionVersion:
    return function(version="1", **changes)


@pytest.fixture
def tier() -> FakeSnapshotTier:
    return FakeSnapshotTier()


@pytest.fixture
async def dispatcher(tier: FakeSnapshotTier, tmp_path: Path) -> AsyncIterator[Dispatcher]:
    bounds = Bounds(max_sandboxes=20, prewarm=3)
    dispatcher = Dispatcher({Isolation.VM: tier}, LogStore(tmp_path / "logs"), pool_sizes={}, bounds=bounds)
    dispatcher.start()
    yield dispatcher
    await dispatcher.close()
    await tier.close()
    assert not tier.live


async def idle(dispatcher: Dispatcher, count: int) -> None:
    async with asyncio.timeout(5):
        while len([one for one in dispatcher.instances() if one["state"] == "idle"]) != count:
            await asyncio.sleep(0.005)


async def test_no_sandbox_serves_twice(dispatcher: Dispatcher, tier: FakeSnapshotTier) -> None:
    one = published(tags=FRESH)
    await dispatcher.snapshot(one)
    results = [await dispatcher.invoke(one, b"1") for _ in range(12)]
    results += await asyncio.gather(*(dispatcher.invoke(one, b"1") for _ in range(12)))
    assert len({result.sandbox_id for result in results}) == 24
    assert {result.start for result in results} == {"restored"}
    assert all("a new sandbox for every request" in result.why for result in results)


async def test_the_next_one_is_restored_ahead(dispatcher: Dispatcher, tier: FakeSnapshotTier) -> None:
    one = published(tags=FRESH)
    await dispatcher.snapshot(one)
    assert "ahead" not in (await dispatcher.invoke(one, b"1")).why
    await idle(dispatcher, 1)
    ready = await dispatcher.invoke(one, b"1")
    assert "started ahead" in ready.why
    assert set(ready.phases_ms) == {"invoke"}
    await idle(dispatcher, 1)


async def test_what_is_ahead_goes_when_it_is_quiet(dispatcher: Dispatcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alcove.functions.line.QUIET_S", 0.05)
    monkeypatch.setattr("alcove.functions.scheduler.REAP_EVERY_S", 0.01)
    one = published(tags=FRESH)
    await dispatcher.invoke(one, b"1")
    await idle(dispatcher, 1)
    dispatcher.scheduler._reaper and dispatcher.scheduler._reaper.cancel()
    dispatcher.scheduler.start()
    line = dispatcher.scheduler.line(one)
    async with asyncio.timeout(5):
        while line.ahead:
            await asyncio.sleep(0.01)


async def test_turning_it_on_ends_what_has_served(dispatcher: Dispatcher, tier: FakeSnapshotTier) -> None:
    before = await dispatcher.invoke(function(), b"1")
    after = await dispatcher.invoke(function(tags=FRESH), b"1")
    assert after.sandbox_id != before.sandbox_id
    await settle()
    assert before.sandbox_id not in {sandbox.id for sandbox in tier.live}


async def test_a_published_version_that_misses_again_gets_one_more(dispatcher: Dispatcher) -> None:
    one = published(handler="sleep")
    first = asyncio.create_task(dispatcher.invoke(one, b"0.05"))
    await settle()
    second = asyncio.create_task(dispatcher.invoke(one, b"0.05"))
    await asyncio.gather(first, second)
    # Two served, and one that was started ahead.
    await idle(dispatcher, 3)


async def test_latest_gets_none_ahead(dispatcher: Dispatcher) -> None:
    await asyncio.gather(*(dispatcher.invoke(function("sleep"), b"0.02") for _ in range(3)))
    await settle()
    assert len(dispatcher.instances()) == 3


@pytest.mark.parametrize("value", ["yes", "", "TRUE", "1"])
def test_the_tag_is_checked(value: str) -> None:
    with pytest.raises(InvalidRequest):
        check_tags({"alcove:fresh-vm": value})
