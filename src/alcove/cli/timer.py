"""``alcove timer``: functions called by the clock."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import click

from alcove.cli import output
from alcove.cli.client import Client
from alcove.cli.naming import function_names
from alcove.cli.options import json_option, run_option
from alcove.errors import InvalidRequest

TIMERS = "/alcove/v1/timers"


@click.group()
def group() -> None:
    """Have functions called by the clock."""


@group.command()
@click.argument("name")
@click.argument("function", shell_complete=function_names)
@click.argument("schedule")
@click.option("--zone", default="UTC", help="An IANA time zone, such as Europe/Berlin.")
@click.option("--qualifier", default="", help="A version; without it, $LATEST.")
@click.option("--input", "text", help="JSON that is the event; without it, EventBridge's scheduled event.")
@run_option
@json_option
def add(
    name: str, function: str, schedule: str, zone: str, qualifier: str, text: str | None, run: Path, as_json: bool
) -> None:
    """Call FUNCTION by SCHEDULE, cron(...), a Unix cron line or rate(...); a timer that is there is changed.

    \b
    Examples:
      alcove timer add nightly report 'cron(0 3 * * ? *)' --zone Europe/Berlin
      alcove timer add often ping 'rate(5 minutes)' --input '{"from": "timer"}'
    """
    document: dict[str, Any] = {"function": function, "schedule": schedule, "zone": zone, "qualifier": qualifier}
    if text is not None:
        try:
            document["input"] = json.loads(text)
        except ValueError as error:
            raise InvalidRequest(f"--input is not JSON: {error}", hint="quote it for the shell") from error
    made = Client(run).call("PUT", f"{TIMERS}/{quote(name, safe='')}", document)
    if as_json:
        output.print_json(made)
    else:
        click.echo(f"timer {name} calls {function} by {made['schedule']} ({made['zone']})")


@group.command("list")
@run_option
@json_option
def list_command(run: Path, as_json: bool) -> None:
    """List the timers.

    \b
    Example:
      alcove timer list
    """
    client, found, after = Client(run), [], ""
    while after is not None:
        page = client.call("GET", f"{TIMERS}?{urlencode({'after': after})}")
        found += page["timers"]
        after = page["after"]
    if as_json:
        output.print_json(found)
        return
    rows = [(one["name"], one["function"], one["schedule"], one["zone"], one["last_error"]) for one in found]
    output.print_table(
        ("NAME", "FUNCTION", "SCHEDULE", "ZONE", "LAST ERROR"), rows, empty="no timer yet; see: alcove timer add"
    )


@group.command()
@click.argument("name")
@run_option
def remove(name: str, run: Path) -> None:
    """Remove a timer.

    \b
    Example:
      alcove timer remove nightly
    """
    Client(run).request("DELETE", f"{TIMERS}/{quote(name, safe='')}")
    click.echo(f"removed {name}")
