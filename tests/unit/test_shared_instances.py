"""Several requests in one sandbox, where the function allows it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.fakes import FakeTier
from tests.unit.test_dispatcher import function, settle

from alcove.errors import InvalidRequest
from alcove.functions.dispatcher import Dispatcher
from alcove.functions.limits import check_tags
from alcove.functions.logs import LogStore
from alcove.functions.model import FunctionVersion
from alcove.functions.scheduler import Bounds
from alcove.sandbox.channel import load_payload
from alcove.sandbox.protocol import Isolation, TenantId


def sharing(calls: int = 4, **changes: Any) -> FunctionVersion:
    return function("sleep", tags={"alcove:concurrency": str(calls)}, **changes)


@pytest.fixture
def tier() -> FakeTier:
    return FakeTier()


@pytest.fixture
async def dispatcher(tier: FakeTier, tmp_path: Path) -> AsyncIterator[Dispatcher]:
    bounds = Bounds(max_sandboxes=4)
    dispatcher = Dispatcher({Isolation.VM: tier}, LogStore(tmp_path / "logs"), pool_sizes={}, bounds=bounds)
    dispatcher.start()
    yield dispatcher
    assert dispatcher.admission.running(TenantId("t")) == 0
    await dispatcher.close()
    await tier.close()
    assert not tier.live


async def call(dispatcher: Dispatcher, one: FunctionVersion, count: int, event: bytes = b"0.03") -> list[Any]:
    return await asyncio.gather(*(dispatcher.invoke(one, event) for _ in range(count)))


async def test_calls_fill_a_sandbox_before_the_next(dispatcher: Dispatcher, tier: FakeTier) -> None:
    results = await call(dispatcher, sharing(4), 8)
    assert all(result.error is None for result in results)
    assert tier.started == 2
    assert [sandbox.highest for sandbox in tier.live] == [4, 4]
    again = await call(dispatcher, sharing(4), 8)
    assert {result.start for result in again} == {"warm"}
    assert tier.started == 2


async def test_more_than_fit_get_a_sandbox_more(dispatcher: Dispatcher, tier: FakeTier) -> None:
    await call(dispatcher, sharing(3), 10)
    assert tier.started == 4
    assert max(sandbox.highest for sandbox in tier.live) == 3


async def test_one_that_takes_too_long_does_not_end_the_others(dispatcher: Dispatcher, tier: FakeTier) -> None:
    one = sharing(4, timeout_s=1.0)
    await dispatcher.invoke(one, b"0")
    slow = asyncio.create_task(dispatcher.invoke(one, b"5"))
    await asyncio.sleep(0.6)
    quick = asyncio.create_task(dispatcher.invoke(one, b"0.7"))
    assert "timed out" in json.loads((await slow).payload)["errorMessage"]
    # The sandbox takes nothing new, and ends after what it has.
    other = await dispatcher.invoke(one, b"0")
    assert (await quick).error is None
    assert other.sandbox_id != (await quick).sandbox_id
    await settle()
    assert [sandbox.id for sandbox in tier.live] == [other.sandbox_id]


async def test_an_end_is_told_to_all_inside(dispatcher: Dispatcher, tier: FakeTier) -> None:
    first = asyncio.create_task(dispatcher.invoke(sharing(4), b"0.05"))
    await settle()
    next(iter(tier.live)).die("out_of_memory")
    assert (await first).error is None
    await settle()
    assert not tier.live


async def test_a_new_sandbox_for_every_request_is_never_shared(dispatcher: Dispatcher, tier: FakeTier) -> None:
    one = function("sleep", tags={"alcove:concurrency": "4", "alcove:fresh-vm": "true"})
    results = await call(dispatcher, one, 3)
    assert len({result.sandbox_id for result in results}) == 3


async def test_each_gets_its_own_output(dispatcher: Dispatcher) -> None:
    one = function("print", tags={"alcove:concurrency": "4"})
    results = await asyncio.gather(
        *(dispatcher.invoke(one, json.dumps(f"line {n}").encode(), want_log=True) for n in range(3))
    )
    assert all(f"line {n}" in result.log_tail.decode() for n, result in enumerate(results))


def test_what_is_loaded_knows_how_many_requests_come_at_once() -> None:
    alone, shared = (json.loads(load_payload(sharing(calls).workload())) for calls in (1, 4))
    assert "concurrency" not in alone
    assert "AWS_LAMBDA_MAX_CONCURRENCY" not in alone["environment"]
    assert (shared["concurrency"], shared["environment"]["AWS_LAMBDA_MAX_CONCURRENCY"]) == (4, "4")
    # A sandbox that was loaded for one number is not taken for another.
    assert len({sharing(calls).revision for calls in (1, 4, 5)}) == 3


@pytest.mark.parametrize("value", ["0", "101", "01", "-1", "many", "", "1.5", "¹"])
def test_the_tag_is_checked(value: str) -> None:
    with pytest.raises(InvalidRequest):
        check_tags({"alcove:concurrency": value})
