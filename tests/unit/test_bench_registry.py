"""The benchmarks without machines: small runs of them, for what they are made of."""

from __future__ import annotations

from pathlib import Path

from alcove.bench import registry, timers
from alcove.bench.figures import Figures


def test_the_registry_benchmark_measures_all_that_it_reports(tmp_path: Path) -> None:
    found = registry.measure(tmp_path / "r", functions=20, calls=30, progress=lambda line: None)
    counts = {mode: len(samples) for (_, mode, _), samples in found.figures.samples.items()}
    assert (counts["create"], counts["first call"], counts["warm, 10"], counts["warm, 20"]) == (20, 20, 30, 30)
    assert all(counts[name] == 100 for name in ("get", "configuration", "list page", "update", "delete"))
    assert 10 < found.rss_many_mib < 300
    assert len(registry.ratios(found, 20)) == 8


def test_lateness_is_reported_for_each_stage() -> None:
    figures = Figures()
    for stage in timers.STAGES:
        figures.add(stage, "spread", "timer", 250.0)
    assert [ratio.holds for ratio in timers.ratios(figures)] == [False] * 3
