"""A histogram that is counted up in plain lists, for observing in a library's takes longer than a call's way
through the dispatcher, and shown to Prometheus when it asks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector


class Buckets:
    """``counts[i]`` observations are at most ``bounds[i]`` and above the bound before; the last count has no bound."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Durations(Collector):
    """A series of ``Buckets`` for each value of one label."""

    def __init__(self, name: str, help: str, label: str, bounds: Sequence[float]) -> None:
        self._name, self._help, self._label = name, help, label
        self._bounds = tuple(sorted(bounds))
        self._series: dict[str, Buckets] = {}

    def of(self, value: str) -> Buckets:
        series = self._series.get(value)
        if series is None:
            series = self._series[value] = Buckets(self._bounds)
        return series

    def collect(self) -> Iterable[Metric]:
        family = HistogramMetricFamily(self._name, self._help, labels=[self._label])
        names = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        for value, series in self._series.items():
            buckets = list(zip(names, accumulate(series.counts), strict=True))
            family.add_metric([value], buckets, series.total)
        return [family]
