"""Snapshots of versions: taken when published, anew where lost, dropped with their version."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.fakes import FakeSnapshotTier, FakeTier
from tests.unit.test_dispatcher import function

from alcove.functions.dispatcher import Dispatcher
from alcove.functions.logs import LogStore
from alcove.functions.scheduler import Bounds
from alcove.functions.snapshots import SnapshotKeeper
from alcove.sandbox.protocol import Isolation

PUBLISHED = function(version="1")


@pytest.fixture
def tier() -> FakeSnapshotTier:
    return FakeSnapshotTier()


@pytest.fixture
async def dispatcher(tier: FakeSnapshotTier, tmp_path: Path) -> AsyncIterator[Dispatcher]:
    dispatcher = Dispatcher(
        {Isolation.VM: tier}, LogStore(tmp_path / "logs"), pool_sizes={}, bounds=Bounds(idle_timeout_s=0)
    )
    yield dispatcher
    await dispatcher.close()
    await tier.close()


async def restarted(dispatcher: Dispatcher) -> str:
    """Call it cold; return why it started as it did."""
    await dispatcher.forget(PUBLISHED.function_arn, None)
    return (await dispatcher.invoke(PUBLISHED, b"1")).why


async def test_a_lost_snapshot_is_taken_anew_beside_a_cold_start(
    dispatcher: Dispatcher, tier: FakeSnapshotTier
) -> None:
    await dispatcher.snapshot(PUBLISHED)
    assert "snapshot" in await restarted(dispatcher)
    tier.unfit = True
    assert "snapshot" not in await restarted(dispatcher)
    tier.unfit = False
    await asyncio.sleep(0.01)
    assert tier.taken == 2
    assert dispatcher.snapshots.has(PUBLISHED)
    assert "snapshot" in await restarted(dispatcher)


async def test_what_fails_is_not_tried_at_each_start(dispatcher: Dispatcher, tier: FakeSnapshotTier) -> None:
    tries = 0

    async def fail(workload: object) -> None:
        nonlocal tries
        tries += 1
        raise TimeoutError

    tier.snapshot = fail  # type: ignore[method-assign]
    for _ in range(3):
        await restarted(dispatcher)
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    assert tries == 1


async def test_latest_and_other_tiers_have_none() -> None:
    keeper = SnapshotKeeper({Isolation.VM: FakeSnapshotTier(), Isolation.PROCESS: FakeTier(Isolation.PROCESS)})
    for version in (function(), function(version="1", isolation=Isolation.PROCESS)):
        await keeper.take(version)
        assert not keeper.has(version)
        assert await keeper.start(version) is None
    await keeper.close()


async def test_it_is_dropped_with_its_version(dispatcher: Dispatcher, tier: FakeSnapshotTier) -> None:
    await dispatcher.snapshot(PUBLISHED)
    await dispatcher.remove([function(), PUBLISHED])
    assert not tier.saved
