"""Queueing over the fake tier: who waits, who is served, who is refused, what is left."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.fakes import FakeTier
from tests.unit.test_dispatcher import function, settle

from alcove.errors import HostError, ThrottledError
from alcove.functions.dispatcher import Dispatcher
from alcove.functions.logs import LogStore
from alcove.functions.model import InvokeResult
from alcove.functions.scheduler import Bounds
from alcove.sandbox.protocol import Isolation, TenantId

Make = Callable[..., Dispatcher]


@pytest.fixture
def tier() -> FakeTier:
    return FakeTier()


@pytest.fixture
async def make(tier: FakeTier, tmp_path: Path) -> Any:
    made: list[Dispatcher] = []

    def dispatcher(limit: int = 1000, **bounds: Any) -> Dispatcher:
        one = Dispatcher(
            {Isolation.VM: tier},
            LogStore(tmp_path / "logs"),
            pool_sizes={},
            bounds=Bounds(**bounds),
            limit_of=lambda tenant: limit,
        )
        one.start()
        made.append(one)
        return one

    yield dispatcher
    for one in made:
        await one.close()
        assert not one.queues()
        assert one.admission.running(TenantId("t")) == 0
    await tier.close()
    assert not tier.live


def answered(results: list[InvokeResult | BaseException]) -> list[InvokeResult]:
    for result in results:
        assert isinstance(result, InvokeResult | ThrottledError), result
    return [result for result in results if isinstance(result, InvokeResult)]


async def many(dispatcher: Dispatcher, count: int, event: bytes = b"0.02", **changes: Any) -> list[Any]:
    calls = (dispatcher.invoke(function("sleep", **changes), event) for _ in range(count))
    return await asyncio.gather(*calls, return_exceptions=True)


async def test_calls_that_wait_are_served_by_what_becomes_free(make: Make, tier: FakeTier) -> None:
    results = answered(await many(make(max_sandboxes=2), 3))
    assert len(results) == 3
    assert tier.started == 2
    assert Counter(result.start for result in results) == {"restored": 2, "warm": 1}
    assert all("queue" in result.phases_ms for result in results)


async def test_a_slow_start_serves_whoever_comes_first(make: Make, tier: FakeTier) -> None:
    dispatcher = make(starts_at_once=2)
    tier.load_s = 0.1
    results = answered(await many(dispatcher, 20, b"0"))
    assert len(results) == 20
    # The others were handed the first instances, not given starts of their own.
    assert tier.started < 20
    await settle()
    assert {one["state"] for one in dispatcher.instances()} == {"idle"}


async def test_a_start_that_nobody_needs_any_more_becomes_idle(make: Make, tier: FakeTier) -> None:
    dispatcher = make()
    await dispatcher.invoke(function("sleep"), b"0")
    busy = asyncio.create_task(dispatcher.invoke(function("sleep"), b"0.05"))
    await settle()
    tier.load_s = 0.2
    second = await dispatcher.invoke(function("sleep"), b"0")
    assert (second.start, (await busy).start) == ("warm", "warm")
    async with asyncio.timeout(5):
        while len(dispatcher.instances()) < 2:
            await asyncio.sleep(0.01)
    assert tier.started == 2
    assert not dispatcher.queues()


async def test_the_queue_is_short_where_nothing_more_can_start(make: Make) -> None:
    results = await many(make(max_sandboxes=4), 40)
    # Four run; a quarter as many wait.
    assert len(answered(results)) == 5
    assert all(one.retry_after_s == 1 for one in results if isinstance(one, ThrottledError))


async def test_waiting_ends(make: Make, tier: FakeTier) -> None:
    dispatcher = make(max_sandboxes=1, queue_wait_s=0.05)
    busy = asyncio.create_task(dispatcher.invoke(function("sleep"), b"0.5"))
    await settle()
    with pytest.raises(ThrottledError):
        await dispatcher.invoke(function("sleep"), b"0")
    assert not busy.done()
    await busy


async def test_a_call_whose_start_is_under_way_is_not_refused(make: Make, tier: FakeTier) -> None:
    tier.load_s = 0.1
    assert (await make(queue_wait_s=0.01).invoke(function(), b"1")).start == "restored"


async def test_a_flood_does_not_keep_another_tenant_out(make: Make) -> None:
    dispatcher = make(max_sandboxes=4, queue_length=4)
    other = TenantId("other")
    stop = asyncio.Event()
    counts: Counter[str] = Counter()

    async def flood() -> None:
        while not stop.is_set():
            try:
                await dispatcher.invoke(function("sleep"), b"0.005")
                counts["t"] += 1
            except ThrottledError:
                await asyncio.sleep(0.001)

    floods = [asyncio.create_task(flood()) for _ in range(40)]
    await asyncio.sleep(0.05)
    theirs = answered(await many(dispatcher, 2, b"0.005", name="g", tenant=other))
    stop.set()
    await asyncio.gather(*floods)
    assert len(theirs) == 2
    assert counts["t"] > 0


async def test_a_full_queue_refuses_the_newest_of_who_waits_most(make: Make, tier: FakeTier) -> None:
    tier.load_s = 0.1
    dispatcher = make(starts_at_once=1, queue_length=4)
    flood = [asyncio.create_task(dispatcher.invoke(function("sleep"), b"0.3")) for _ in range(8)]
    await settle()
    refused = [task for task in flood if task.done()]
    assert len(refused) == 4
    result = await dispatcher.invoke(function(name="g", tenant=TenantId("other")), b"1")
    assert result.error is None
    results = await asyncio.gather(*flood, return_exceptions=True)
    assert len(answered(list(results))) == 3


async def test_tenants_take_turns_for_starts(make: Make, tier: FakeTier) -> None:
    tier.load_s = 0.01
    dispatcher = make(starts_at_once=1)
    order: list[str] = []

    async def call(tenant: str, name: str) -> None:
        one = function(name=name, tenant=TenantId(tenant), function_arn=f"arn:{tenant}:{name}")
        await dispatcher.invoke(one, b"1")
        order.append(tenant)

    calls = [call("a", f"a{n}") for n in range(6)] + [call("b", f"b{n}") for n in range(3)]
    await asyncio.gather(*calls)
    assert order == ["a", "b", "a", "b", "a", "b", "a", "a", "a"]


async def test_init_code_that_takes_long_does_not_hold_up_other_starts(
    make: Make, tier: FakeTier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alcove.functions.scheduler.START_COUNTS_S", 0.05)
    tier.load_s = 0.5
    dispatcher = make(starts_at_once=1)
    slow = asyncio.create_task(dispatcher.invoke(function(name="slow"), b"1"))
    await settle()
    tier.load_s = 0.0
    await dispatcher.invoke(function(name="quick", tenant=TenantId("other")), b"1")
    assert not slow.done()
    assert (await slow).error is None


async def test_a_call_that_goes_away_leaves_nothing(make: Make, tier: FakeTier) -> None:
    dispatcher = make(max_sandboxes=1)
    busy = asyncio.create_task(dispatcher.invoke(function("sleep"), b"0.05"))
    await settle()
    waiting = asyncio.create_task(dispatcher.invoke(function("sleep"), b"0"))
    await settle()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert (await busy).error is None
    assert dispatcher.admission.running(TenantId("t")) == 0
    assert (await dispatcher.invoke(function("sleep"), b"0")).start == "warm"


async def test_a_call_that_is_cancelled_while_it_runs_ends_its_sandbox(make: Make, tier: FakeTier) -> None:
    dispatcher = make()
    running = asyncio.create_task(dispatcher.invoke(function("sleep"), b"5"))
    await settle()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await settle()
    assert not tier.live
    assert dispatcher.admission.running(TenantId("t")) == 0


async def test_a_call_that_goes_away_as_it_is_served_hands_on(make: Make) -> None:
    dispatcher = make(max_sandboxes=1)
    busy = asyncio.create_task(dispatcher.invoke(function("sleep"), b"0.02"))
    await settle()
    waiting = asyncio.create_task(dispatcher.invoke(function("sleep"), b"0"))
    while not busy.done():
        await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await settle()
    assert [one["state"] for one in dispatcher.instances()] in (["idle"], [])
    assert (await dispatcher.invoke(function("sleep"), b"0")).error is None


async def test_a_failed_start_is_told_to_one_call(make: Make, tier: FakeTier) -> None:
    dispatcher = make(starts_at_once=1)
    tier.fail = True
    results = await many(dispatcher, 3)
    assert all(isinstance(result, HostError) for result in results)


async def test_who_waits_for_changed_code_is_served_and_it_is_drained(make: Make, tier: FakeTier) -> None:
    dispatcher = make(max_sandboxes=1)
    calls = [asyncio.create_task(dispatcher.invoke(function("sleep"), b"0.02")) for _ in range(2)]
    await settle()
    await dispatcher.forget(function().function_arn, "$LATEST")
    new = await dispatcher.invoke(function("sleep", revision_id="r2"), b"0")
    assert all(result.error is None for result in await asyncio.gather(*calls))
    assert new.start == "restored"
    await settle()
    assert len(tier.live) == 1


async def test_the_account_cap_is_exact_and_answers_at_once(make: Make) -> None:
    dispatcher = make(limit=3)
    results = await many(dispatcher, 10)
    assert len(answered(results)) == 3
    refused = [result for result in results if isinstance(result, ThrottledError)]
    assert {one.reason for one in refused} == {"ConcurrentInvocationLimitExceeded"}


async def test_thousands_of_calls_never_exceed_a_cap(make: Make, tier: FakeTier) -> None:
    """Four tenants with caps of their own and reservations, 4,000 calls, 24 sandboxes: counted inside the sandbox."""
    dispatcher = make(limit=12, max_sandboxes=24, queue_wait_s=0.05, queue_length=64)
    tenants = [TenantId(f"t{n}") for n in range(4)]
    inside: Counter[str] = Counter()
    highest: Counter[str] = Counter()
    for tenant in tenants:
        dispatcher.admission.reserve(tenant, f"id-{tenant}-small", 2)
    start = tier.start

    async def counted(*arguments: Any) -> Any:
        sandbox = await start(*arguments)
        invoke = sandbox.invoke

        async def observed(invocation: Any) -> Any:
            keys = [str(sandbox.workload.tenant), sandbox.workload.function_name]
            for key in keys:
                inside[key] += 1
                highest[key] = max(highest[key], inside[key])
            try:
                return await invoke(invocation)
            finally:
                inside.subtract(keys)

        sandbox.invoke = observed
        highest["live"] = max(highest["live"], len(tier.live))
        return sandbox

    tier.start = counted  # type: ignore[method-assign]
    answers: Counter[str] = Counter()

    async def client(number: int) -> None:
        tenant = tenants[number % 4]
        name = f"{tenant}-small" if number % 3 else f"{tenant}-{number % 7}"
        one = function("sleep", name=name, tenant=tenant, function_arn=f"arn:{name}")
        for _ in range(20):
            try:
                await dispatcher.invoke(one, b"0.001")
                answers["done"] += 1
            except ThrottledError as refused:
                answers[refused.reason] += 1
                await asyncio.sleep(0.0005)

    await asyncio.gather(*(client(number) for number in range(200)))
    assert answers["done"] > 100
    assert answers["ReservedFunctionConcurrentInvocationLimitExceeded"] > 0
    assert sum(answers.values()) == 4000
    assert highest["live"] <= 24
    for tenant in tenants:
        assert highest[tenant] <= 12
        assert highest[f"{tenant}-small"] <= 2
    assert inside.total() == 0


async def test_scale_to_zero(make: Make, tier: FakeTier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alcove.functions.scheduler.REAP_EVERY_S", 0.01)
    dispatcher = make(idle_timeout_s=0.02)
    await many(dispatcher, 5)
    async with asyncio.timeout(5):
        while tier.live:
            await asyncio.sleep(0.01)
    assert not dispatcher.scheduler._lines
    assert not dispatcher.scheduler._room.held
