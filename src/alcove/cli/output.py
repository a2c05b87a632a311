"""What commands print: JSON, tables, sizes, steps. rich is imported only where a table is drawn."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import click


def print_json(document: Any) -> None:
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """Draw a table on a terminal; elsewhere print tab-separated lines under a header line."""
    found = [[str(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for line in ([list(columns), *found]) if found else []:
            click.echo("\t".join(line))
        return
    if not found:
        click.echo(empty)
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for line in found:
        table.add_row(*line)
    Console(markup=False, highlight=False).print(table)


def size(count: float) -> str:
    """Return bytes as people read them: 512 B, 1.5 KiB, 40 MiB."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 10 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def note(text: str) -> None:
    """Say something beside the result, on stderr."""
    click.echo(text, err=True)


class Bar(Protocol):
    def __call__(self, done: int) -> None: ...


@contextmanager
def progress(title: str, total: int) -> Iterator[Bar]:
    """A progress bar on a terminal's stderr; elsewhere one line. Yields what to call."""
    if not sys.stderr.isatty():
        note(f"{title} ...")
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(title, total=max(total, 1))
        yield lambda done: bars.update(task, completed=done)
