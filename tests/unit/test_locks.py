"""Locks by key: one holder at a time for each key, and nothing left when all have gone."""

from __future__ import annotations

import asyncio

from alcove.host.locks import KeyedLock


async def test_one_holder_at_a_time_for_each_key() -> None:
    locks = KeyedLock()
    holders: dict[str, int] = {"a": 0, "b": 0}
    most = 0

    async def hold(key: str) -> None:
        nonlocal most
        async with locks.held(key):
            holders[key] += 1
            assert holders[key] == 1
            most = max(most, sum(holders.values()))
            await asyncio.sleep(0)
            holders[key] -= 1
        # Who comes just as the lock was let go must wait for those who waited already.
        async with locks.held(key):
            holders[key] += 1
            assert holders[key] == 1
            await asyncio.sleep(0)
            holders[key] -= 1

    await asyncio.gather(*(hold(key) for key in "ab" * 20))
    assert most == 2, "different keys exclude each other"
    assert "a" not in locks


async def hold(locks: KeyedLock) -> None:
    async with locks.held("a"):
        pass


async def test_a_cancelled_waiter_leaves_nothing() -> None:
    locks = KeyedLock()
    async with locks.held("a"):
        waiter = asyncio.create_task(hold(locks))
        await asyncio.sleep(0)
        waiter.cancel()
        await asyncio.gather(waiter, return_exceptions=True)
        assert "a" in locks
    assert "a" not in locks
