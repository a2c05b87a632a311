"""Metrics: what is counted, and that nothing a tenant chooses makes another series."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.fakes import FakeTier
from tests.unit.test_dispatcher import function

from alcove.errors import AlcoveError, CapacityError, HostError, ThrottledError
from alcove.events.queue import EventQueue
from alcove.functions.logs import LogStore
from alcove.functions.observed import ObservedDispatcher
from alcove.host.clock import now_ms
from alcove.sandbox.protocol import Isolation, Runtime, TenantId
from alcove.telemetry import gauges
from alcove.telemetry.metrics import LABEL_LIMIT, Bounded, Metrics

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


class Watched:
    def __init__(self, folder: Path) -> None:
        self.tier = FakeTier()
        self.metrics = Metrics()
        self.dispatcher = ObservedDispatcher(
            {Isolation.VM: self.tier}, LogStore(folder / "logs"), pool_sizes={(Isolation.VM, Runtime.NODE): 2}
        )
        self.dispatcher.observers = (self.metrics,)
        self.metrics.sources = (gauges.pools(self.dispatcher), gauges.sandboxes(self.dispatcher))

    async def samples(self) -> Samples:
        text = (await self.metrics.render()).decode()
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }


def value(samples: Samples, name: str, **labels: str) -> float:
    """Return the sum over the samples of that name that have these labels."""
    return sum(
        number for (found, have), number in samples.items() if found == name and labels.items() <= dict(have).items()
    )


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Watched]:
    watched = Watched(tmp_path)
    yield watched
    await watched.dispatcher.close()
    await watched.tier.close()


async def test_calls_errors_starts_and_time_are_counted(watched: Watched) -> None:
    for handler in ("echo", "echo", "raise"):
        await watched.dispatcher.invoke(function(handler, name=handler), b"1")
    await watched.dispatcher.invoke(function("initfail", name="i"), b"1")
    for sandbox in watched.tier.live:
        sandbox.peak_mib = 7
    found = await watched.samples()
    assert value(found, "alcove_invocations_total", outcome="ok", runtime="python3.11", isolation="vm") == 2
    assert value(found, "alcove_invocations_total", outcome="error") == 2
    assert value(found, "alcove_starts_total", start="warm") == 1
    assert value(found, "alcove_starts_total", start="restored") == 2
    assert value(found, "alcove_starts_total", start="failed") == 1
    assert value(found, "alcove_invocation_duration_seconds_count") == 4
    assert value(found, "alcove_invocation_duration_seconds_bucket", start="warm", le="900.0") == 1
    assert value(found, "alcove_phase_seconds_total", phase="invoke") > 0
    assert value(found, "alcove_billed_gb_seconds_total") >= 4 * 128 / 1024 / 1000
    assert value(found, "alcove_sandboxes", state="idle") == 2
    assert value(found, "alcove_sandboxes_memory_limit_bytes") == 2 * 128 << 20
    assert value(found, "alcove_sandboxes_memory_peak_bytes") == 2 * 7 << 20
    assert value(found, "alcove_process_resident_memory_bytes") > 0
    assert not [name for name, _ in found if name.endswith("_created")]


async def test_pools_are_looked_up_as_they_are_asked_for(watched: Watched) -> None:
    found = await watched.samples()
    assert value(found, "alcove_pool_target", runtime="nodejs18", isolation="vm") == 2
    assert value(found, "alcove_pool_ready") == 0
    watched.dispatcher.start()
    await watched.dispatcher.pools_filled()
    assert value(await watched.samples(), "alcove_pool_ready", runtime="nodejs18") == 2


@pytest.mark.parametrize(
    ("error", "reason"),
    [(CapacityError("x"), "capacity"), (HostError("x"), "host"), (AlcoveError("x"), "other")],
)
async def test_refusals_are_counted_by_reason(watched: Watched, error: AlcoveError, reason: str) -> None:
    watched.metrics.refused(function(), error)
    assert value(await watched.samples(), "alcove_invocations_refused_total", reason=reason) == 1


async def test_what_is_refused_is_no_call(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    watched.tier.fail = True
    with pytest.raises(HostError):
        await watched.dispatcher.invoke(function(), b"1")
    watched.metrics.refused(function(), ThrottledError("x"))
    found = await watched.samples()
    assert value(found, "alcove_invocations_total") == 0
    assert value(found, "alcove_invocations_refused_total") == 2


async def test_no_tenant_makes_a_series(watched: Watched) -> None:
    await watched.dispatcher.invoke(function(), b"1")
    await watched.dispatcher.invoke(function(), b"1")
    before = set(await watched.samples())
    for number in range(50):
        one = function(name=f"f{number}", tenant=TenantId(f"t{number}"), environment={"a": str(number)})
        await watched.dispatcher.invoke(one, b'"text"')
    assert set(await watched.samples()) - before == set()


def test_texts_are_bounded() -> None:
    bounded = Bounded()
    assert {bounded(f"cause {number}") for number in range(1000)} == {
        *(f"cause {number}" for number in range(LABEL_LIMIT)),
        "other",
    }
    assert bounded("cause 0") == "cause 0"


async def test_the_age_of_the_queue_and_the_lateness_of_timers(tmp_path: Path) -> None:
    queue = await EventQueue.open(tmp_path / "events.db")
    metrics = Metrics()
    metrics.sources = (gauges.events(queue),)
    await queue.submit(TenantId("t"), "f", b"1")
    await asyncio.sleep(0.05)
    metrics.timer_handed_in(now_ms() - 20_000)
    text = (await metrics.render()).decode()
    await queue.close()
    found = {
        (sample.name, sample.labels.get("le", "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found["alcove_events_waiting", ""] == 1
    assert found["alcove_events_oldest_age_seconds", ""] >= 0.05
    assert found["alcove_timer_lateness_seconds_bucket", "5.0"] == 0
    assert found["alcove_timer_lateness_seconds_bucket", "30.0"] == 1
    assert found["alcove_timer_lateness_seconds_sum", ""] >= 20


async def test_an_observer_that_fails_costs_neither_the_call_nor_the_others(watched: Watched) -> None:
    class Broken:
        def answered(self, seen: object) -> None:
            raise RuntimeError("broken")

        def refused(self, function: object, error: object) -> None:
            raise RuntimeError("broken")

    watched.dispatcher.observers = (Broken(), watched.metrics)
    assert (await watched.dispatcher.invoke(function(), b"1")).payload == b"1"
    watched.tier.fail = True
    with pytest.raises(HostError):
        await watched.dispatcher.invoke(function(name="g"), b"1")
    found = await watched.samples()
    assert value(found, "alcove_invocations_total") == value(found, "alcove_invocations_refused_total") == 1
