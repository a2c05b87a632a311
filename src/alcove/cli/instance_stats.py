"""``alcove stats``: what instances use."""

from __future__ import annotations

from pathlib import Path

import click

from alcove.cli import output, pod_client
from alcove.cli.client import Client
from alcove.cli.options import json_option, run_option
from alcove.errors import Conflict, NotFound


@click.command()
@click.argument("names", nargs=-1)
@run_option
@json_option
def stats(names: tuple[str, ...], run: Path, as_json: bool) -> None:
    """Print processor time, memory and disk of instances' containers; of all that run, where none is named.

    \b
    Example:
      alcove stats web
    """
    client = Client(run)
    chosen = names or tuple(
        one["metadata"]["name"] for one in pod_client.every(client) if one["status"]["phase"] == "Running"
    )
    found = []
    for name in chosen:
        try:
            told = client.call("GET", pod_client.path(name, "stats"))["items"]
        except (Conflict, NotFound):
            if names:
                raise
            continue
        found += [{"instance": name, **one} for one in told]
    if as_json:
        output.print_json(found)
        return
    rows = [
        (
            *(one["instance"], one["name"], f"{one['cpuNanoseconds'] / 1e9:.2f} s"),
            *(output.size(one["memoryBytes"]), output.size(one["diskBytes"])),
        )
        for one in found
    ]
    output.print_table(("INSTANCE", "CONTAINER", "CPU", "MEMORY", "DISK"), rows, empty="nothing runs")
