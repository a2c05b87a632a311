"""``alcove ps``: the sandboxes that run now."""

from __future__ import annotations

from pathlib import Path

import click

from alcove.cli import output
from alcove.cli.client import Client
from alcove.cli.options import json_option, run_option

_COLUMNS = (
    "sandbox",
    "isolation",
    "runtime",
    "start",
    "state",
    "function",
    "version",
    "served",
    "memory_mib",
    "memory_peak_mib",
    "idle_s",
)
_QUEUE_COLUMNS = ("function", "version", "waiting", "starting")


@click.command()
@run_option
@json_option
def ps(run: Path, as_json: bool) -> None:
    """List the sandboxes that run now, and the calls that wait for one.

    \b
    Example:
      alcove ps
    """
    answer = Client(run).call("GET", "/alcove/v1/instances")
    found = answer.get("instances", [])
    if as_json:
        output.print_json(found)
        return
    columns = [name for name in _COLUMNS if any(name in one for one in found)]
    rows = [["" if one.get(name) is None else one[name] for name in columns] for one in found]
    output.print_table([name.upper() for name in columns], rows, empty="no sandbox runs")
    if queues := answer.get("queues", []):
        click.echo()
        rows = [[one[name] for name in _QUEUE_COLUMNS] for one in queues]
        output.print_table([name.upper() for name in _QUEUE_COLUMNS], rows, empty="")
