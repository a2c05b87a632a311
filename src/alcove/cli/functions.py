"""``alcove fn``: list, show and delete functions; the other commands have modules of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import click

from alcove.cli import output
from alcove.cli.alias import all_aliases, describe
from alcove.cli.client import FUNCTIONS, Client
from alcove.cli.deploy import deploy
from alcove.cli.export import get
from alcove.cli.findings import show_findings
from alcove.cli.fn_events import events
from alcove.cli.invoke import invoke
from alcove.cli.logs import logs
from alcove.cli.naming import function_names
from alcove.cli.options import json_option, run_option


@click.group()
def group() -> None:
    """Deploy, call and look at functions."""


group.add_command(deploy)
group.add_command(events)
group.add_command(get)
group.add_command(invoke)
group.add_command(logs)


@group.command("list")
@run_option
@json_option
def list_command(run: Path, as_json: bool) -> None:
    """List the functions.

    \b
    Example:
      alcove fn list --json
    """
    found = list(_all(Client(run)))
    if as_json:
        output.print_json(found)
        return
    columns = ("NAME", "RUNTIME", "HANDLER", "MEMORY", "TIMEOUT", "ISOLATION", "BECAUSE", "PACKAGE", "CHANGED")
    rows = [
        (
            one.get("FunctionName", ""),
            one.get("Runtime", ""),
            one.get("Handler", ""),
            f"{one.get('MemorySize', '')} MiB",
            f"{one.get('Timeout', '')} s",
            one.get("Isolation", ""),
            one.get("IsolationCase", ""),
            output.size(one.get("CodeSize", 0)),
            str(one.get("LastModified", ""))[:19],
        )
        for one in found
    ]
    output.print_table(columns, rows, empty="no functions yet; deploy one with: alcove fn deploy FOLDER")


@group.command()
@click.argument("name", shell_complete=function_names)
@click.option("--qualifier", help="A version or alias; without it, $LATEST.")
@click.option("--findings", is_flag=True, help="What the automatic checks found in its code.")
@run_option
@json_option
def show(name: str, qualifier: str | None, findings: bool, run: Path, as_json: bool) -> None:
    """Show a function, its versions and aliases, or what the automatic checks found in its code.

    \b
    Examples:
      alcove fn show hello
      alcove fn show hello --findings
    """
    client = Client(run)
    query = "?" + urlencode({"Qualifier": qualifier}) if qualifier else ""
    if findings:
        show_findings(client.call("GET", f"/alcove/v1/functions/{quote(name, safe='')}/findings{query}"), as_json)
        return
    found = client.call("GET", f"{FUNCTIONS}/{quote(name)}" + query)
    versions = client.pages(f"{FUNCTIONS}/{quote(name)}/versions", "Versions")
    aliases = all_aliases(client, name)
    if as_json:
        output.print_json({**found, "Versions": versions, "Aliases": aliases})
        return
    for key, value in found.get("Configuration", {}).items():
        click.echo(f"{key + ':':<20}{_text(value)}")
    click.echo(f"{'Versions:':<20}{', '.join(one.get('Version', '') for one in versions)}")
    if aliases:
        click.echo(f"{'Aliases:':<20}{'; '.join(map(describe, aliases))}")


@group.command()
@click.argument("name", shell_complete=function_names)
@click.option("--qualifier", help="Delete this version only.")
@run_option
@json_option
def delete(name: str, qualifier: str | None, run: Path, as_json: bool) -> None:
    """Delete a function with all its versions and its log.

    \b
    Example:
      alcove fn delete hello
    """
    query = "?" + urlencode({"Qualifier": qualifier}) if qualifier else ""
    Client(run).call("DELETE", f"{FUNCTIONS}/{quote(name)}" + query)
    if as_json:
        output.print_json({"deleted": name, "qualifier": qualifier})
    else:
        click.echo(f"deleted {name}" + (f":{qualifier}" if qualifier else ""))


def _all(client: Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    marker = ""
    while True:
        query = {"MaxItems": 50, **({"Marker": marker} if marker else {})}
        page = client.call("GET", f"{FUNCTIONS}/?{urlencode(query)}")
        found += page.get("Functions", [])
        marker = page.get("NextMarker") or ""
        if not marker:
            return found


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={_text(one)}" for key, one in value.items()) or "-"
    if isinstance(value, list):
        return "; ".join(map(_text, value)) or "-"
    return "-" if value in ("", None) else str(value)
