"""``alcove bucket hook``: doors for object stores elsewhere."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import click

from alcove.cli import output
from alcove.cli.client import Client
from alcove.cli.naming import function_names
from alcove.cli.options import json_option, run_option

HOOKS = "/alcove/v1/hooks"


@click.group()
def hook() -> None:
    """Have stores elsewhere, such as MinIO, call functions when their objects change."""


@hook.command()
@click.argument("name")
@click.argument("function", shell_complete=function_names)
@click.option("--qualifier", default="", help="A version; without it, $LATEST.")
@run_option
@json_option
def add(name: str, function: str, qualifier: str, run: Path, as_json: bool) -> None:
    """Make a hook that calls FUNCTION; print its URL and its token, which is not shown again.

    \b
    Examples:
      alcove bucket hook add outside tag-images
      mc admin config set STORE notify_webhook:1 endpoint=URL auth_token=TOKEN
    """
    document = {"function": function, "qualifier": qualifier}
    made = Client(run).call("PUT", f"{HOOKS}/{quote(name, safe='')}", document)
    if as_json:
        output.print_json(made)
    else:
        click.echo(f"url    {made['url']}\ntoken  {made['token']}")


@hook.command("list")
@run_option
@json_option
def list_command(run: Path, as_json: bool) -> None:
    """List the hooks.

    \b
    Example:
      alcove bucket hook list
    """
    found = Client(run).call("GET", HOOKS)["hooks"]
    if as_json:
        output.print_json(found)
        return
    rows = [(one["name"], one["function"], one["qualifier"], one["url"]) for one in found]
    output.print_table(("NAME", "FUNCTION", "QUALIFIER", "URL"), rows, empty="no hook yet; see: alcove bucket hook add")


@hook.command()
@click.argument("name")
@run_option
def remove(name: str, run: Path) -> None:
    """Remove a hook: what stores send to it is refused from now on.

    \b
    Example:
      alcove bucket hook remove outside
    """
    Client(run).request("DELETE", f"{HOOKS}/{quote(name, safe='')}")
    click.echo(f"removed {name}")
