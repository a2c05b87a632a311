"""Samples, percentiles, tables, JSON."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

Key = tuple[str, str, str]


def percentile(samples: list[float], share: float) -> float:
    """Return the nearest-rank percentile; NaN where there is no sample."""
    if not samples:
        return math.nan
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


@dataclass(slots=True)
class Figures:
    """Samples in milliseconds by (tier, mode, function)."""

    samples: dict[Key, list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, tier: str, mode: str, function: str, sample_ms: float) -> None:
        self.samples[(tier, mode, function)].append(sample_ms)

    def p50(self, tier: str, mode: str, function: str) -> float:
        return percentile(self.samples.get((tier, mode, function), []), 0.50)

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "tier": tier,
                "mode": mode,
                "function": function,
                "n": len(samples),
                "p50_ms": round(percentile(samples, 0.50), 3),
                "p99_ms": round(percentile(samples, 0.99), 3),
            }
            for (tier, mode, function), samples in self.samples.items()
        ]

    def print(self, console: Console, title: str) -> None:
        table = Table(title=title)
        for name in ("tier", "mode", "function"):
            table.add_column(name)
        for name in ("n", "p50 ms", "p99 ms"):
            table.add_column(name, justify="right")
        for row in self.rows():
            table.add_row(
                row["tier"],
                row["mode"],
                row["function"],
                str(row["n"]),
                f"{row['p50_ms']:.1f}",
                f"{row['p99_ms']:.1f}",
            )
        console.print(table)


@dataclass(frozen=True, slots=True)
class Ratio:
    """A figure of the specification: what was reached, against what was to be reached at most."""

    name: str
    reached: float
    limit: float

    @property
    def holds(self) -> bool:
        return self.reached <= self.limit

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "reached": self.reached, "at_most": self.limit, "holds": self.holds}


def print_ratios(console: Console, ratios: list[Ratio]) -> None:
    table = Table(title="Against the specification")
    table.add_column("figure")
    table.add_column("reached", justify="right")
    table.add_column("at most", justify="right")
    table.add_column("")
    for ratio in ratios:
        verdict = "[green]holds[/]" if ratio.holds else "[red]missed[/]"
        table.add_row(ratio.name, f"{ratio.reached:.2f}", f"{ratio.limit:.2f}", verdict)
    console.print(table)


def write_report(path: Path, figures: Figures, ratios: list[Ratio], facts: dict[str, Any]) -> None:
    report = {"facts": facts, "rows": figures.rows(), "ratios": [ratio.to_json() for ratio in ratios]}
    path.write_text(json.dumps(report, indent=1) + "\n")
