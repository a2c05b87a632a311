"""``alcove fn logs``: what a function printed, once or as it comes."""

from __future__ import annotations

import json
import time
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import click

from alcove.cli.client import Client
from alcove.cli.options import json_option, run_option

_POLL_S = 0.5


@click.command()
@click.argument("name")
@click.option("--tail", type=click.IntRange(1), default=100, show_default=True, help="Last lines.")
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@run_option
@json_option
def logs(name: str, tail: int, follow: bool, run: Path, as_json: bool) -> None:
    """Print the log of NAME: time, request, text. With --json, one object a line.

    \b
    Examples:
      alcove fn logs hello --tail 20
      alcove fn logs hello --follow
    """
    client = Client(run)
    cursor = 0
    query = {"after": cursor, "tail": tail}
    while True:
        page = client.call("GET", f"/alcove/v1/functions/{quote(name, safe='')}/logs?{urlencode(query)}")
        for line in page.get("lines", []):
            click.echo(json.dumps(line) if as_json else _text(line))
        if not follow:
            return
        cursor = page.get("cursor", cursor)
        query = {"after": cursor}
        try:
            time.sleep(_POLL_S)
        except KeyboardInterrupt:
            return  # the way to end it: no error


def _text(line: dict[str, Any]) -> str:
    moment = datetime.fromtimestamp(float(line["time"])).astimezone()
    return f"{moment:%Y-%m-%d %H:%M:%S} {str(line['request_id'])[:8]} {line['text']}"
