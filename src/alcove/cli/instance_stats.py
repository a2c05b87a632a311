"""``alcove stats``: what instances use."""

from __future__ import annotations

from pathlib import Path

import click

from alcove.cli import output, pod_client
from alcove.cli.client import Client
from alcove.cli.naming import instance_names
from alcove.cli.options import json_option, run_option
from alcove.errors import Conflict, NotFound


@click.command()
@click.argument("names", nargs=-1, shell_complete=instance_names)
@run_option
@json_option
def stats(names: tuple[str, ...], run: Path, as_json: bool) -> None:
    """Print processor time, memory and disk of instances' containers, and the instance's traffic; of all that run,
    where none is named.

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
            told = client.call("GET", pod_client.path(name, "stats"))
        except (Conflict, NotFound):
            if names:
                raise
            continue
        found += [{"instance": name, **one, **told["network"]} for one in told["items"]]
    if as_json:
        output.print_json(found)
        return
    rows = [
        (
            *(one["instance"], one["name"], f"{one['cpuNanoseconds'] / 1e9:.2f} s"),
            *(output.size(one["memoryBytes"]), output.size(one["diskBytes"])),
            *(output.size(one["receivedBytes"]), output.size(one["sentBytes"])),
        )
        for one in found
    ]
    columns = ("INSTANCE", "CONTAINER", "CPU", "MEMORY", "DISK", "RECEIVED", "SENT")
    output.print_table(columns, rows, empty="nothing runs")
