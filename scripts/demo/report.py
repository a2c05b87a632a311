"""What the demo shows."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from alcove.cli.invocation import Call

if TYPE_CHECKING:
    from calls import Function

Made = Sequence[tuple["Function", str, Call]]
# Wide enough for the phases where no terminal says how wide it is.
CONSOLE = Console(width=None if sys.stdout.isatty() else 160, highlight=False, markup=False)
MODES = ("booted", "restored", "snapshot", "mounted", "warm")


def title(text: str) -> None:
    CONSOLE.print(f"\n{text}", style="bold")


def step(text: str) -> None:
    CONSOLE.print(f"  {text}", soft_wrap=True)


def mode(call: Call) -> str:
    """Return the start mode, snapshots told apart from templates."""
    return "snapshot" if call.start == "restored" and "snapshot" in call.why else call.start


def calls(made: Made) -> None:
    """Each call: its machine, start mode and milliseconds by phase. Of warm calls, the first."""
    table = Table(title="Calls", box=box.SIMPLE_HEAD, title_justify="left")
    for column in ("function", "call", "machine", "start", "ms", "of which"):
        table.add_column(column, justify="right" if column == "ms" else "left", overflow="fold")
    seen = set()
    for function, kind, call in made:
        if kind == "warm" and (function.name, kind) in seen:
            continue
        seen.add((function.name, kind))
        phases = ", ".join(f"{name} {ms:.1f}" for name, ms in call.phases_ms.items())
        table.add_row(function.name, kind, call.sandbox, mode(call), f"{call.total_ms:.1f}", phases)
    CONSOLE.print(table)


def startup_times(made: Made) -> None:
    """The p50 of the whole call, by start mode and function."""
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    names = list(dict.fromkeys(function.name for function, _, _ in made))
    for function, _, call in made:
        times[mode(call), function.name].append(call.total_ms)
    table = Table(
        title="Start-up times: p50 of the whole call in ms (number of calls)",
        box=box.SIMPLE_HEAD,
        title_justify="left",
    )
    table.add_column("start")
    for name in names:
        table.add_column(name, justify="right")
    for row in MODES:
        cells = [times.get((row, name), []) for name in names]
        if any(cells):
            table.add_row(row, *(f"{median(c):.1f} ({len(c)})" if c else "-" for c in cells))
    CONSOLE.print(table)
