"""Tables of ``alcove bench disk``."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from alcove.bench import fio
from alcove.bench.disk import CACHED, HOST, Found, middle


def print_places(console: Console, found: Found) -> None:
    table = Table(title="fio: requests a second of random jobs, MB/s of sequential ones; medians")
    places = ("block", "virtio-fs", HOST, CACHED)
    for name in ("job", *places, "block / virtio-fs", "block / disk", "block / cache"):
        table.add_column(name, justify="left" if name == "job" else "right")
    for job in fio.JOBS:
        rates = [found.figure(place, job) for place in places]
        block, other, disk, cache = rates
        shares = (f"{block / other:.2f}", f"{block / disk:.0%}", f"{block / cache:.0%}")
        table.add_row(job.name, *(f"{one:.0f}" for one in rates), *shares)
    console.print(table)


def print_ways(console: Console, found: Found) -> None:
    ways = list(dict.fromkeys(way for way, _ in found.ways))
    if not ways:
        return
    table = Table(title="The same by other ways to serve the disk, each in a machine of its own")
    table.add_column("job")
    for way in ways:
        table.add_column(way, justify="right")
    for job in fio.JOBS:
        table.add_row(job.name, *(f"{middle(found.ways[way, job.name], job):.0f}" for way in ways))
    console.print(table)


def document(found: Found, facts: dict[str, Any]) -> dict[str, Any]:
    """Return the medians by what was measured and job, and how they stand against the specification."""
    kinds = {"places": found.places, "ways": found.ways}
    names = {job.name: job for job in fio.JOBS}
    medians = {
        kind: {f"{place}: {name}": middle(rates, names[name]) for (place, name), rates in samples.items()}
        for kind, samples in kinds.items()
    }
    return {"facts": facts, **medians, "ratios": [one.to_json() for one in found.ratios()]}
