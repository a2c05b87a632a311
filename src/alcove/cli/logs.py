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
from alcove.cli.naming import function_names
from alcove.cli.options import json_option, run_option

_POLL_S = 0.5


@click.command()
@click.argument("name", shell_complete=function_names)
@click.option("--tail", type=click.IntRange(1), default=100, show_default=True, help="Last lines.")
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("--request", default="", metavar="ID", help="The lines of one request, by its id or how that begins.")
@run_option
@json_option
def logs(name: str, tail: int, follow: bool, request: str, run: Path, as_json: bool) -> None:
    """Print the log of NAME: time, request, text. With --json, one object a line.

    Asynchronous calls and timers write under the id that they were accepted with, each repetition anew.

    \b
    Examples:
      alcove fn logs hello --tail 20
      alcove fn logs hello --follow
      alcove fn logs hello --request 4f3c2d1e
    """
    client = Client(run)
    cursor = 0
    query: dict[str, str | int] = {"after": cursor, "tail": tail, **({"request": request} if request else {})}
    while True:
        page = client.call("GET", f"/alcove/v1/functions/{quote(name, safe='')}/logs?{urlencode(query)}")
        for line in page.get("lines", []):
            click.echo(json.dumps(line) if as_json else _text(line))
        if not follow:
            return
        cursor = page.get("cursor", cursor)
        query |= {"after": cursor, "tail": 10_000}
        try:
            time.sleep(_POLL_S)
        except KeyboardInterrupt:
            return  # the way to end it: no error


def _text(line: dict[str, Any]) -> str:
    moment = datetime.fromtimestamp(float(line["time"])).astimezone()
    return f"{moment:%Y-%m-%d %H:%M:%S} {str(line['request_id'])[:8]} {line['text']}"
