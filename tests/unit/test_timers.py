"""Timers: due times, missed runs, refusals, what survives a restart. The clock is the tests'."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sinks import FakeSink

from alcove.errors import Conflict, InvalidRequest, NotFound, QuotaExceeded, ThrottledError, TooLarge
from alcove.sandbox.protocol import TenantId
from alcove.store.database import Database
from alcove.store.timers import TimerRow
from alcove.tenants.directory import TenantDirectory
from alcove.triggers.runs import TimerRuns
from alcove.triggers.timer import Shape, Timer
from alcove.triggers.timers import TimerService, TimerSpec
from alcove.triggers.wheel import Wheel

MINUTE = 60_000
# 2026-01-05 00:00 UTC, a Monday.
START = 1_767_571_200_000


class Functions:
    async def resolve(self, tenant: TenantId, name: str, version: str = "$LATEST") -> Any:
        if name != "hello":
            raise NotFound("no such function")


class Bench:
    """One server's timers; ``restart`` is a crash: nothing is closed properly."""

    def __init__(self, database: Database, tenants: TenantDirectory, window_ms: int = 10 * MINUTE) -> None:
        self.database = database
        self.tenant = tenants.default.id
        self.now = START
        self.sink = FakeSink()
        self.window_ms = window_ms
        self._make()

    def _make(self) -> None:
        clock: Callable[[], int] = lambda: self.now  # noqa: E731
        self.runs = TimerRuns(self.database, self.sink, region="eu-central-1", window_ms=self.window_ms, clock_ms=clock)
        self.service = TimerService(self.database, Functions(), self.runs, clock_ms=clock, limit=lambda tenant: 3)

    async def restart(self) -> None:
        await self.runs.close()
        self._make()
        await self.runs.start()
        await self.runs.wheel.close()  # the tests turn it
        await self.settle()

    async def at(self, now: int) -> None:
        self.now = now
        self.runs.wheel.tick()
        await self.settle()

    async def settle(self) -> None:
        for _ in range(50):
            await asyncio.sleep(0)
        while self.runs._writing is not None and not self.runs._writing.done():
            await asyncio.sleep(0.001)

    def times(self) -> list[str]:
        return [json.loads(one.event)["time"][11:16] for one in self.sink.events]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    database = await Database.open(tmp_path / "alcove.db")
    one = Bench(database, await TenantDirectory.open(database))
    yield one
    await one.runs.close()
    await database.close()


SPEC = TimerSpec("hello", "cron(0 * * * ? *)")


async def test_a_timer_fires_at_its_times_and_once(bench: Bench) -> None:
    timer = await bench.service.create(bench.tenant, "hourly", replace(SPEC, qualifier="7"))
    assert bench.runs.next_due(timer.id) == START + 60 * MINUTE
    await bench.at(START + 59 * MINUTE)
    assert not bench.sink.tries
    await bench.at(START + 60 * MINUTE + 3)
    await bench.at(START + 60 * MINUTE + 4)
    await bench.at(START + 120 * MINUTE)
    assert bench.times() == ["01:00", "02:00"]
    first = bench.sink.events[0]
    assert (first.function, first.qualifier, first.source, first.tenant) == ("hello", "7", "timer", bench.tenant)
    event = json.loads(first.event)
    assert event["id"] == first.request_id
    assert event == {
        "version": "0",
        "id": first.request_id,
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": bench.tenant,
        "time": "2026-01-05T01:00:00Z",
        "region": "eu-central-1",
        "resources": [f"arn:aws:events:eu-central-1:{bench.tenant}:rule/hourly"],
        "detail": {},
    }


async def test_what_was_missed_is_one_run_and_only_within_the_window(bench: Bench) -> None:
    await bench.service.create(bench.tenant, "often", replace(SPEC, schedule="cron(* * * * ? *)"))
    await bench.service.create(bench.tenant, "seldom", SPEC)
    await bench.at(START + MINUTE)
    # Down from 00:01 until 01:05: seldom missed 01:00, often an hour of runs.
    bench.now = START + 65 * MINUTE + 20
    await bench.restart()
    await bench.at(bench.now)
    assert sorted(bench.times()) == ["00:01", "01:00", "01:05"]
    # Down until 02:30: seldom's 02:00 is older than the window.
    bench.now = START + 150 * MINUTE + 20
    await bench.restart()
    await bench.at(bench.now)
    assert sorted(bench.times()) == ["00:01", "01:00", "01:05", "02:30"]
    await bench.at(START + 180 * MINUTE)
    assert sorted(bench.times())[-2:] == ["03:00", "03:00"]


async def test_no_window_no_catching_up(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "alcove.db")
    bench = Bench(database, await TenantDirectory.open(database), window_ms=0)
    await bench.service.create(bench.tenant, "hourly", SPEC)
    bench.now = START + 61 * MINUTE
    await bench.restart()
    await bench.at(bench.now)
    assert not bench.sink.tries
    await bench.at(START + 120 * MINUTE + 30)
    assert bench.times() == ["02:00"]
    await bench.runs.close()
    await database.close()


async def test_accepted_but_not_noted_is_the_same_run_after_a_restart(bench: Bench) -> None:
    timer = await bench.service.create(bench.tenant, "hourly", SPEC)
    await bench.at(START + 60 * MINUTE)
    # As if the process had been killed after the queue's commit and before ours.
    await bench.database.write(
        lambda c: c.execute("UPDATE timers SET handled_ms = ? WHERE id = ?", (START, timer.id)) and None
    )
    await bench.restart()
    await bench.at(START + 60 * MINUTE + 5)
    assert [one.request_id for one in bench.sink.tries] == [timer.request_id(START + 60 * MINUTE)] * 2
    assert len(bench.sink.accepted) == 1


async def test_a_run_that_was_noted_is_not_tried_again(bench: Bench) -> None:
    await bench.service.create(bench.tenant, "hourly", SPEC)
    await bench.at(START + 60 * MINUTE)
    await bench.restart()
    await bench.at(START + 60 * MINUTE + 5)
    assert len(bench.sink.tries) == 1


async def test_a_full_queue_is_asked_again_for_the_last_run_only(bench: Bench) -> None:
    await bench.service.create(bench.tenant, "often", replace(SPEC, schedule="cron(* * * * ? *)"))
    bench.sink.fail = ThrottledError("full")
    await bench.at(START + MINUTE)
    await bench.at(START + MINUTE + 500)
    assert len(bench.sink.tries) == 1
    await bench.at(START + MINUTE + 1001)
    assert len(bench.sink.tries) == 2
    bench.sink.fail = None
    await bench.at(START + 4 * MINUTE)
    assert bench.times() == ["00:04"]
    assert (await bench.service.get(bench.tenant, "often")).row.last_error == ""


async def test_a_function_that_is_gone_costs_the_run_and_is_told(bench: Bench) -> None:
    await bench.service.create(bench.tenant, "hourly", SPEC)
    bench.sink.fail = NotFound("Function not found")
    await bench.at(START + 60 * MINUTE)
    await bench.at(START + 60 * MINUTE + 5000)
    assert len(bench.sink.tries) == 1
    assert (await bench.service.get(bench.tenant, "hourly")).row.last_error == "Function not found"
    bench.sink.fail = None
    await bench.at(START + 120 * MINUTE)
    assert bench.times() == ["02:00"]


async def test_dates_and_switch(bench: Bench) -> None:
    spec = replace(SPEC, start_ms=START + 60 * MINUTE, end_ms=START + 120 * MINUTE)
    await bench.service.create(bench.tenant, "dated", spec)
    await bench.service.create(bench.tenant, "off", replace(SPEC, enabled=False))
    for hour in range(6):
        await bench.at(START + hour * 60 * MINUTE)
    assert bench.times() == ["01:00", "02:00"]
    await bench.service.update(bench.tenant, "off", SPEC)
    await bench.at(START + 6 * 60 * MINUTE)
    assert bench.times()[2:] == ["06:00"]
    await bench.service.update(bench.tenant, "off", replace(SPEC, enabled=False))
    await bench.at(START + 7 * 60 * MINUTE)
    assert len(bench.times()) == 3


async def test_a_rate_counts_from_its_creation(bench: Bench) -> None:
    bench.now = START + 17_000
    await bench.service.create(bench.tenant, "rate", replace(SPEC, schedule="rate(5 minutes)"))
    await bench.at(START + 17_000 + 5 * MINUTE - 1)
    assert not bench.sink.tries
    await bench.at(START + 17_000 + 5 * MINUTE)
    # Another input is not another rate.
    await bench.service.update(bench.tenant, "rate", replace(SPEC, schedule="rate(5 minutes)", input='{"a": 1}'))
    await bench.restart()
    await bench.at(START + 17_000 + 10 * MINUTE)
    assert [one.event for one in bench.sink.events][1:] == [b'{"a": 1}']


async def test_the_clock_is_set_back_and_forth(bench: Bench) -> None:
    await bench.service.create(bench.tenant, "hourly", SPEC)
    await bench.at(START + 60 * MINUTE)
    await bench.at(START + 30 * MINUTE)
    await bench.at(START + 60 * MINUTE)
    assert bench.times() == ["01:00"]
    await bench.at(START + 600 * MINUTE)
    assert bench.times() == ["01:00", "10:00"]


async def test_cfc_shape(bench: Bench) -> None:
    await bench.service.create(bench.tenant, "cfc", replace(SPEC, shape=Shape.CFC))
    await bench.at(START + 60 * MINUTE)
    event = json.loads(bench.sink.events[0].event)
    assert (event["source"], event["name"], event["time"]) == ("cfc-crontab-trigger/v1/", "cfc", "2026-01-05T01:00:00Z")


async def test_control_plane(bench: Bench) -> None:
    service, tenant = bench.service, bench.tenant
    for number in range(3):
        await service.create(tenant, f"t{number}", SPEC)
    with pytest.raises(QuotaExceeded, match="may have 3"):
        await service.create(tenant, "t3", SPEC)
    await service.delete(tenant, "t1")
    with pytest.raises(Conflict, match="exists"):
        await service.create(tenant, "t0", SPEC)
    page, marker = await service.list(tenant, limit=1)
    assert ([one.row.name for one in page], marker) == (["t0"], "t0")
    page, marker = await service.list(tenant, marker or "", 1)
    assert ([one.row.name for one in page], marker) == (["t2"], None)
    stranger = TenantId("999999999999")
    for call in (service.get, service.delete):
        with pytest.raises(NotFound):
            await call(stranger, "t0")
    assert (await service.list(stranger))[0] == []
    await service.delete(tenant, "t0")
    await bench.at(START + 60 * MINUTE)
    assert len(bench.sink.events) == 1


@pytest.mark.parametrize(
    ("name", "change", "refusal"),
    [
        ("", {}, InvalidRequest),
        ("a/b", {}, InvalidRequest),
        ("x", {"schedule": "cron(nonsense)"}, InvalidRequest),
        ("x", {"zone": "Mars"}, InvalidRequest),
        ("x", {"input": "{"}, InvalidRequest),
        ("x", {"input": '"' + "a" * 9000 + '"'}, TooLarge),
        ("x", {"input": '"\ud800"'}, InvalidRequest),
        ("x", {"input": "[" * 5000}, InvalidRequest),
        ("x", {"start_ms": 5, "end_ms": 5}, InvalidRequest),
        ("x", {"function": "gone"}, NotFound),
    ],
)
async def test_refusals(bench: Bench, name: str, change: dict[str, Any], refusal: type[Exception]) -> None:
    with pytest.raises(refusal):
        await bench.service.create(bench.tenant, name, replace(SPEC, **change))


ANCHOR = START - 5 * MINUTE
ROW = TimerRow("id", "1", "n", "f", "", "", "UTC", "", "aws", 1, None, None, ANCHOR, 0, "", 0)
INSTANTS = st.integers(START, START + 1000 * MINUTE)


@given(INSTANTS, INSTANTS, st.integers(0, 500 * MINUTE), st.integers(2, 90))
def test_the_run_that_is_due_is_the_last_within_window_and_dates(
    handled: int, now: int, window: int, minutes: int
) -> None:
    first, last = START + 100 * MINUTE, START + 900 * MINUTE
    timer = Timer(replace(ROW, schedule=f"rate({minutes} minutes)", start_ms=first, end_ms=last))
    after = max(handled, now - max(window, 1000))
    due = [
        at for at in range(ANCHOR + minutes * MINUTE, now + 1, minutes * MINUTE) if at > after and first <= at <= last
    ]
    assert timer.due_run(handled, now, window) == (due[-1] if due else None)


async def test_the_wheel_calls_in_order_and_forgets_what_was_disarmed() -> None:
    now, called = 0, []
    wheel: Wheel[str] = Wheel(called.append, clock_ms=lambda: now)
    for number in range(1000):
        wheel.arm(str(number % 10), 1000 - number)
    wheel.disarm("3")
    assert len(wheel._heap) < 100
    now = 5
    assert wheel.tick() == pytest.approx(0.001)
    assert called == ["9", "8", "7", "6", "5"]
    now = 10_000
    wheel.tick()
    assert sorted(called) == sorted("012456789")
    assert len(wheel) == 0


async def test_the_wheel_turns_by_itself() -> None:
    called = asyncio.Event()
    wheel: Wheel[str] = Wheel(lambda key: called.set())
    wheel.start()
    await asyncio.sleep(0)
    wheel.arm("a", wheel._clock_ms() + 20)
    async with asyncio.timeout(10):
        await called.wait()
    await wheel.close()
