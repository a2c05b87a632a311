"""Numbers for Prometheus: what happened is counted as it happens, what is there is looked up when it is asked for.

Nothing that a tenant chooses becomes a label, so there are as many series as the code has cases; texts that the code
words, such as the cause of a start, are kept to ``LABEL_LIMIT`` of a kind all the same. Pods alone have series of their
own, for so many of them (``instance_gauges``).
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from alcove.errors import AlcoveError, CapacityError, HostError, ThrottledError
from alcove.functions.model import FunctionVersion
from alcove.functions.observed import Observation
from alcove.telemetry.durations import Buckets, Durations

# When each series began is of no use here, and doubles their number.
disable_created_metrics()  # type: ignore[no-untyped-call]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LABEL_LIMIT = 32
OTHER = "other"
# From a warm call to the longest that a function may run, in seconds.
DURATIONS = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900)
LATENESS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 60, 300)


@dataclass(frozen=True, slots=True)
class Gauge:
    """One number that is looked up; those of the same name have the same labels. ``counts``: it only grows."""

    name: str
    help: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)
    counts: bool = False


Source = Callable[[], Awaitable[Iterable[Gauge]]]


class Bounded:
    """Lets the first ``limit`` texts through; whatever else comes is ``other``."""

    def __init__(self, limit: int = LABEL_LIMIT) -> None:
        self._limit = limit
        self._known: set[str] = set()

    def __call__(self, text: str) -> str:
        if text not in self._known:
            if len(self._known) >= self._limit:
                return OTHER
            self._known.add(text)
        return text


# Kinds of answers that are tallied before they are added up.
KNOWN_TALLIES = 256
_Key = tuple[str, str, str, str, str]


@dataclass(slots=True)
class _Tally:
    """Answers of one kind since the last scrape: plain sums, for counting in the series takes longer than a call's
    way through the dispatcher.
    """

    durations: Buckets
    calls: int = 0
    billed_gb_s: float = 0.0
    streamed: int = 0
    phases_ms: dict[str, float] = field(default_factory=dict)


class Metrics:
    """An ``Observer`` of the dispatcher; ``sources`` are asked by ``render``."""

    def __init__(self) -> None:
        self.sources: Sequence[Source] = ()
        self._registry = CollectorRegistry()
        ProcessCollector(namespace="alcove", registry=self._registry)
        self._gauges = _Gauges()
        self._registry.register(self._gauges)
        self._calls = self._counter(
            "alcove_invocations", "Invocations that were answered.", "runtime", "isolation", "outcome"
        )
        self._refused = self._counter("alcove_invocations_refused", "Invocations that were not run.", "reason")
        self._starts = self._counter("alcove_starts", "How invocations got their sandbox, and why.", "start", "cause")
        self._phases = self._counter("alcove_phase_seconds", "Time of invocations by phase.", "phase")
        self._durations = Durations(
            "alcove_invocation_duration_seconds",
            "From an invocation's arrival at the dispatcher to its answer.",
            "start",
            DURATIONS,
        )
        self._registry.register(self._durations)
        self._billed = self._counter("alcove_billed_gb_seconds", "Billed time times memory.")
        self._streamed = self._counter("alcove_streamed_bytes", "Bytes of streamed answers.")
        self._lateness = Histogram(
            "alcove_timer_lateness_seconds",
            "From a timer's instant to its run being handed in.",
            buckets=LATENESS,
            registry=self._registry,
        )
        self._audited = self._counter("alcove_audited_changes", "Changes that were audited.", "outcome")
        self._tallies: dict[_Key, _Tally] = {}
        bounded = ("start", "cause", "phase", "reason", "runtime", "isolation", "outcome")
        self._bounded = {name: Bounded() for name in bounded}

    def _counter(self, name: str, help: str, *labels: str) -> Counter:
        return Counter(name, help, labels, registry=self._registry)

    # What happens

    def answered(self, seen: Observation) -> None:
        function, result = seen.function, seen.result
        outcome = "ok" if result.error is None else "error"
        key = (function.runtime_name, function.isolation, outcome, result.start, result.why)
        tally = self._tallies.get(key)
        if tally is None:
            tally = self._begin_tally(key)
        tally.calls += 1
        tally.durations.observe(seen.duration_s)
        tally.billed_gb_s += result.billed_ms * function.memory_mib / 1_024_000
        tally.streamed += seen.streamed_bytes
        phases = tally.phases_ms
        for phase, spent_ms in result.phases_ms.items():
            phases[phase] = phases.get(phase, 0.0) + spent_ms

    def _begin_tally(self, key: _Key) -> _Tally:
        if len(self._tallies) >= KNOWN_TALLIES:
            self._add_up()
        tally = self._tallies[key] = _Tally(self._durations.of(self._bounded["start"](key[3])))
        return tally

    def _add_up(self) -> None:
        """Put what was tallied into the series."""
        bounded = self._bounded
        for (runtime, isolation, outcome, start, why), tally in self._tallies.items():
            answered = self._calls.labels(bounded["runtime"](runtime), bounded["isolation"](isolation), outcome)
            answered.inc(tally.calls)
            self._starts.labels(bounded["start"](start), bounded["cause"](why)).inc(tally.calls)
            for phase, spent_ms in tally.phases_ms.items():
                self._phases.labels(bounded["phase"](phase)).inc(max(0.0, spent_ms) / 1000)
            self._billed.inc(tally.billed_gb_s)
            self._streamed.inc(tally.streamed)
        self._tallies.clear()

    def refused(self, function: FunctionVersion, error: AlcoveError) -> None:
        self._refused.labels(self._bounded["reason"](_reason(error))).inc()

    def timer_handed_in(self, instant_ms: int) -> None:
        self._lateness.observe(max(0.0, time.time() - instant_ms / 1000))

    def audited(self, outcome: str) -> None:
        self._audited.labels(self._bounded["outcome"](outcome)).inc()

    # What is there

    async def render(self) -> bytes:
        """Return everything in Prometheus's text format."""
        self._add_up()
        self._gauges.found = [gauge for source in self.sources for gauge in await source()]
        return generate_latest(self._registry)


class _Gauges(Collector):
    """Shows what was looked up last."""

    def __init__(self) -> None:
        self.found: list[Gauge] = []

    def collect(self) -> Iterable[Metric]:
        families: dict[str, GaugeMetricFamily | CounterMetricFamily] = {}
        for gauge in self.found:
            family = families.get(gauge.name)
            if family is None:
                kind = CounterMetricFamily if gauge.counts else GaugeMetricFamily
                family = families[gauge.name] = kind(gauge.name, gauge.help, labels=list(gauge.labels))
            family.add_metric(list(gauge.labels.values()), gauge.value)
        return families.values()


def _reason(error: AlcoveError) -> str:
    """A throttled call's reason is one of a few that the dispatcher knows."""
    if isinstance(error, ThrottledError):
        return str(getattr(error, "reason", "") or "throttled")
    if isinstance(error, CapacityError):
        return "capacity"
    return "host" if isinstance(error, HostError) else OTHER
