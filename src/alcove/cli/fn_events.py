"""``alcove fn events``: what becomes of a function's asynchronous calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import click

from alcove.cli import output
from alcove.cli.client import FUNCTIONS, Client
from alcove.cli.naming import function_names, qualifiers, target_names
from alcove.cli.options import json_option, run_option
from alcove.cli.targets import arn
from alcove.errors import NotFound


@click.command()
@click.argument("name", shell_complete=function_names)
@click.option("--qualifier", shell_complete=qualifiers, help="A version or alias; without it, $LATEST.")
@click.option("--retries", type=int, help="Tries again after an error of the function: 0 to 2.")
@click.option("--max-age", type=int, metavar="S", help="Seconds after which a call is given up: 60 to 21600.")
@click.option(
    "--on-success",
    metavar="TO",
    shell_complete=target_names,
    help="Where results go: queue:NAME, function:NAME, bucket:NAME.",
)
@click.option("--on-failure", metavar="TO", shell_complete=target_names, help="Where calls go that failed for good.")
@click.option(
    "--dead-letter",
    metavar="TO",
    shell_complete=target_names,
    help="The queue for events themselves that failed (of $LATEST).",
)
@click.option("--clear", is_flag=True, help="Back to the defaults: two more tries, six hours, no destination.")
@run_option
@json_option
def events(
    name: str, qualifier: str | None, dead_letter: str | None, clear: bool, run: Path, as_json: bool, **given: Any
) -> None:
    """Show or change what becomes of asynchronous calls of the function NAME.

    \b
    Examples:
      alcove fn events report
      alcove fn events report --retries 1 --on-failure queue:failed --on-success function:notify
      alcove fn events report --dead-letter queue:failed
    """
    client = Client(run)
    query = "?" + urlencode({"Qualifier": qualifier}) if qualifier else ""
    path = f"/2019-09-25/functions/{quote(name, safe='')}/event-invoke-config{query}"
    if dead_letter is not None:
        document = {"DeadLetterConfig": {"TargetArn": arn(client, dead_letter)}}
        client.call("PUT", f"{FUNCTIONS}/{quote(name, safe='')}/configuration", document)
    if clear:
        client.call("DELETE", path)
    change = _change(client, given)
    if change:
        _put(client, path, change)
    configuration = client.call("GET", f"{FUNCTIONS}/{quote(name, safe='')}/configuration{query}")
    _print({**_found(client, path), "DeadLetterConfig": configuration.get("DeadLetterConfig", {})}, as_json)


def _change(client: Client, given: dict[str, Any]) -> dict[str, Any]:
    names = {"retries": "MaximumRetryAttempts", "max_age": "MaximumEventAgeInSeconds"}
    change: dict[str, Any] = {names[key]: value for key, value in given.items() if key in names and value is not None}
    destinations = {"on_success": "OnSuccess", "on_failure": "OnFailure"}
    targets = {
        name: {"Destination": arn(client, given[option])}
        for option, name in destinations.items()
        if given[option] is not None
    }
    return {**change, **({"DestinationConfig": targets} if targets else {})}


def _put(client: Client, path: str, change: dict[str, Any]) -> None:
    """Change what is set; set it where nothing is."""
    try:
        client.call("POST", path, change)
    except NotFound:
        # Where the function is what is missing, this says so.
        client.call("PUT", path, change)


def _found(client: Client, path: str) -> dict[str, Any]:
    try:
        return dict(client.call("GET", path))
    except NotFound as error:
        if "EventInvokeConfig" not in str(error):
            raise
        return {}


def _print(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        output.print_json(found)
        return
    destinations = found.get("DestinationConfig", {})
    click.echo(f"{'Retries:':<14}{found.get('MaximumRetryAttempts', '2 (the default)')}")
    click.echo(f"{'Maximum age:':<14}{found.get('MaximumEventAgeInSeconds', '21600 (the default)')} s")
    for label, key in (("On success:", "OnSuccess"), ("On failure:", "OnFailure")):
        click.echo(f"{label:<14}{destinations.get(key, {}).get('Destination', '-')}")
    click.echo(f"{'Dead letters:':<14}{found['DeadLetterConfig'].get('TargetArn', '-')}")
