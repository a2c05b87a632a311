"""``alcove ps``: instances, and the sandboxes of functions that run now."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from alcove.cli import output, pod_client
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
_POD_COLUMNS = ("INSTANCE", "READY", "STATUS", "RESTARTS", "AGE", "ADDRESS", "ISOLATION")
_QUEUE_COLUMNS = ("function", "version", "waiting", "starting")


@click.command()
@run_option
@json_option
def ps(run: Path, as_json: bool) -> None:
    """List the instances, the sandboxes of functions that run now, and the calls that wait for one.

    \b
    Example:
      alcove ps
    """
    client = Client(run)
    answer = client.call("GET", "/alcove/v1/instances")
    found, pods = answer.get("instances", []), list(pod_client.every(client))
    if as_json:
        output.print_json([*found, *pods])
        return
    if pods:
        output.print_table(
            ("INSTANCE", "READY", "STATUS", "RESTARTS", "AGE", "ADDRESS", "ISOLATION"), map(_row, pods), empty=""
        )
        if not found:
            return
        click.echo()
    columns = [name for name in _COLUMNS if any(name in one for one in found)]
    rows = [["" if one.get(name) is None else one[name] for name in columns] for one in found]
    output.print_table([name.upper() for name in columns], rows, empty="no sandbox runs")
    if queues := answer.get("queues", []):
        click.echo()
        rows = [[one[name] for name in _QUEUE_COLUMNS] for one in queues]
        output.print_table([name.upper() for name in _QUEUE_COLUMNS], rows, empty="")


def _row(pod: dict[str, Any]) -> tuple[object, ...]:
    status = pod["status"]
    told = status.get("containerStatuses", [])
    ready = sum(one["ready"] for one in told)
    restarts = sum(one["restartCount"] for one in told)
    age = datetime.now(UTC) - datetime.fromisoformat(pod["metadata"]["creationTimestamp"])
    return (
        *(pod["metadata"]["name"], f"{ready}/{len(pod['spec']['containers'])}", _state(pod), restarts),
        *(str(timedelta(seconds=int(age.total_seconds()))), status.get("podIP", ""), pod["alcove"]["isolation"]),
    )


def _state(pod: dict[str, Any]) -> str:
    """One word: why a container does not run, if one does not; else the phase."""
    if "deletionTimestamp" in pod["metadata"]:
        return "Terminating"
    for one in pod_client.containers(pod):
        reason = one["state"].get("waiting", {}).get("reason", "")
        if reason and pod["status"]["phase"] in ("Pending", "Running"):
            return str(reason)
    return str(pod["status"].get("reason") or pod["status"]["phase"])
