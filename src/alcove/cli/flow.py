"""``alcove flow``: workflows of functions, and their executions."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import click

from alcove.cli import exits, output
from alcove.cli.client import Client
from alcove.cli.options import json_option, run_option
from alcove.errors import InvalidRequest

FLOW = "/v1/flow"
EXECUTION = "/v1/execution"
LOOK_S = 0.3
PAGE = 500


@click.group()
def group() -> None:
    """Put functions together to flows, and run them."""


def _of(flow: str, execution: str = "", **more: Any) -> str:
    names = {"flowName": flow, **({"executionName": execution} if execution else {}), **more}
    return urlencode(names)


@group.command()
@click.argument("name")
@click.argument("definition", type=click.File("r", encoding="utf-8"))
@click.option("--description", default="", help="A few words for lists.")
@click.option("--update", is_flag=True, help="Change a flow that is there; what runs of it goes on as it began.")
@run_option
@json_option
def create(name: str, definition: Any, description: str, update: bool, run: Path, as_json: bool) -> None:
    """Make a flow of the file DEFINITION, YAML in the language of docs/flows.md.

    \b
    Examples:
      alcove flow create orders orders.yaml
      alcove flow create orders orders.yaml --update
    """
    document = {"name": name, "type": "FDL", "definition": definition.read(), "description": description}
    made = Client(run).call("PUT" if update else "POST", FLOW, document)
    if as_json:
        output.print_json(made)
    else:
        click.echo(f"{'updated' if update else 'created'} {name}")


@group.command("list")
@run_option
@json_option
def list_command(run: Path, as_json: bool) -> None:
    """List the flows.

    \b
    Example:
      alcove flow list
    """
    found = Client(run).call("GET", "/v1/flows")["flows"]
    if as_json:
        output.print_json(found)
        return
    rows = [(one["name"], one["lastModifiedTime"], one["description"]) for one in found]
    output.print_table(("NAME", "CHANGED", "DESCRIPTION"), rows, empty="no flow yet; see: alcove flow create")


@group.command()
@click.argument("name")
@run_option
@json_option
def get(name: str, run: Path, as_json: bool) -> None:
    """Print a flow's definition.

    \b
    Example:
      alcove flow get orders > orders.yaml
    """
    found = Client(run).call("GET", f"{FLOW}?{_of(name)}")
    if as_json:
        output.print_json(found)
    else:
        click.echo(found["definition"].rstrip("\n"))


@group.command()
@click.argument("name")
@run_option
def delete(name: str, run: Path) -> None:
    """Delete a flow of which nothing runs, and what is kept of its executions.

    \b
    Example:
      alcove flow delete orders
    """
    Client(run).request("DELETE", f"{FLOW}?{_of(name)}")
    click.echo(f"deleted {name}")


@group.command()
@click.argument("flow")
@click.argument("input", default="{}")
@click.option("--name", default="", help="The execution's name; the same name and input again start nothing new.")
@click.option("--wait", is_flag=True, help="Wait for its end, and print what it gives.")
@run_option
@json_option
def start(flow: str, input: str, name: str, wait: bool, run: Path, as_json: bool) -> None:
    """Start an execution of FLOW with INPUT, a JSON object. With --wait, exit code 1 says that it failed.

    \b
    Examples:
      alcove flow start orders '{"order": 7}' --name order-7
      alcove flow start orders '{"order": 7}' --wait
    """
    try:
        json.loads(input)
    except ValueError as error:
        raise InvalidRequest(f"INPUT is not JSON: {error}", hint="quote it for the shell") from error
    client = Client(run)
    asked = {"flowName": flow, "executionName": name, "input": input}
    found = client.call("POST", f"{EXECUTION}/start", asked)
    while wait and found["status"] == "Running":
        time.sleep(LOOK_S)
        found = client.call("GET", f"{EXECUTION}?{_of(flow, found['name'])}")
    if as_json:
        output.print_json(found)
    elif not wait:
        click.echo(found["name"])
    else:
        click.echo(found["output"] or found["status"])
    if found["status"] not in ("Running", "Succeed"):
        click.echo(f"{found['status']}; see: alcove flow history {flow} {found['name']}", err=True)
        sys.exit(exits.FUNCTION_FAILED)


@group.command()
@click.argument("flow")
@click.argument("execution", required=False)
@run_option
@json_option
def status(flow: str, execution: str | None, run: Path, as_json: bool) -> None:
    """Say how executions of FLOW stand, the newest first, or how EXECUTION does.

    \b
    Examples:
      alcove flow status orders
      alcove flow status orders order-7
    """
    client = Client(run)
    if execution:
        found = client.call("GET", f"{EXECUTION}?{_of(flow, execution)}")
        if as_json:
            output.print_json(found)
        else:
            click.echo(f"{found['status']}  {found['output']}".rstrip())
        return
    listed = client.call("GET", f"/v1/executions?{_of(flow)}")
    if as_json:
        output.print_json(listed["executions"])
        return
    rows = [(one["name"], one["status"], _moment(one["startedTime"]), _span(one)) for one in listed["executions"]]
    empty = f"nothing ran yet; see: alcove flow start {flow}"
    output.print_table(("NAME", "STATUS", "STARTED", "SECONDS"), rows, empty=empty)


def _moment(time_ms: int) -> str:
    return f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"


def _span(execution: dict[str, Any]) -> str:
    ended = execution["stoppedTime"]
    return f"{(ended - execution['startedTime']) / 1000:.1f}" if ended else ""


@group.command()
@click.argument("flow")
@click.argument("execution")
@run_option
@json_option
def history(flow: str, execution: str, run: Path, as_json: bool) -> None:
    """Print what happened in EXECUTION.

    \b
    Example:
      alcove flow history orders order-7
    """
    client = Client(run)
    found: list[dict[str, Any]] = []
    while True:
        marker = found[-1]["eventId"] if found else 0
        page = client.call("GET", f"{EXECUTION}/history?{_of(flow, execution, limit=PAGE, marker=marker)}")["events"]
        found += page
        if len(page) < PAGE:
            break
    if as_json:
        output.print_json(found)
        return
    columns = ("eventId", "costTime", "type", "stateName", "eventDetail")
    rows = [tuple(str(one[column]) for column in columns) for one in found]
    output.print_table(("EVENT", "AFTER MS", "TYPE", "STATE", "DETAIL"), rows, empty="no events")


@group.command()
@click.argument("flow")
@click.argument("execution")
@run_option
def stop(flow: str, execution: str, run: Path) -> None:
    """Stop EXECUTION. A function that it has called goes on to its end.

    \b
    Example:
      alcove flow stop orders order-7
    """
    found = Client(run).call("POST", f"{EXECUTION}/stop", {"flowName": flow, "executionName": execution})
    click.echo(f"{execution}: {found['status']}")
