"""``alcove audit``: who changed what."""

from __future__ import annotations

import json
import time
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import click

from alcove.cli.client import Client
from alcove.cli.naming import tenant_names
from alcove.cli.options import json_option, run_option

_POLL_S = 0.5


@click.command()
@click.option(
    "--tenant",
    default="",
    shell_complete=tenant_names,
    help="One tenant, by name or id, or 'operator'; without it, all.",
)
@click.option("--tail", type=click.IntRange(1, 10_000), default=100, show_default=True, help="Last lines.")
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@run_option
@json_option
def audit(tenant: str, tail: int, follow: bool, run: Path, as_json: bool) -> None:
    """Print a line for each change: when, who, what, of what, from where, and what became of it.

    Deeper in the past than the server remembers of all together are each tenant's own lines (--tenant). With --json,
    one object a line.

    \b
    Examples:
      alcove audit
      alcove audit --tenant shop --tail 1000
      alcove audit --follow --json
    """
    client = Client(run)
    query: dict[str, str | int] = {"tenant": tenant, "tail": tail}
    while True:
        page = client.call("GET", f"/alcove/v1/audit?{urlencode(query)}")
        for line in page["lines"]:
            click.echo(json.dumps(line) if as_json else _text(line))
        if not follow:
            return
        query = {"tenant": tenant, "after": page["cursor"], "tail": 10_000}
        try:
            time.sleep(_POLL_S)
        except KeyboardInterrupt:
            return  # the way to end it: no error


def _text(line: dict[str, Any]) -> str:
    moment = datetime.fromtimestamp(line["time_ms"] / 1000).astimezone()
    who = line["key"] or line["by"]
    return (
        f"{moment:%Y-%m-%d %H:%M:%S} {line['scope']} {who} {line['operation']} {line['resource'] or '-'} "
        f"{line['outcome']} ({line['address']}, {line['request_id']})"
    )
