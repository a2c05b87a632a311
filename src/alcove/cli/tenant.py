"""``alcove tenant``: who may use this server, with which keys, and how much."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import click

from alcove.cli import output
from alcove.cli.client import Client
from alcove.cli.naming import tenant_names
from alcove.cli.options import json_option, run_option
from alcove.tenants.quotas import QUOTA_NAMES

F = TypeVar("F", bound=Callable[..., Any])
TENANTS = "/alcove/v1/tenants"
_HELP = {
    "functions": "Functions that it may have.",
    "code_bytes": "Bytes of the packages of all its versions.",
    "concurrency": "Calls that may run at once.",
    "timers": "Timers that it may have.",
    "events": "Asynchronous calls that may wait.",
    "flows": "Flows that it may have.",
    "executions": "Executions of its flows that may run at once.",
    "instances": "Container instances that it may have.",
}


def quota_options(function: F) -> F:
    for name in reversed(QUOTA_NAMES):
        flag = "--" + name.replace("_", "-")
        function = click.option(flag, name, metavar="N|default", type=_quota, help=_HELP[name])(function)
    return function


def _quota(text: str) -> int | None:
    if text == "default":
        return None
    try:
        return int(text)
    except ValueError:
        raise click.BadParameter("a whole number or 'default' is wanted") from None


@click.group()
def group() -> None:
    """Say who may use this server, and how much.

    Each tenant has its own functions, timers and logs, and sees nothing of another's. Commands that work on functions
    take the tenant from the variable ALCOVE_TENANT; without it they work for the tenant 'default'.
    """


@group.command()
@click.argument("name", shell_complete=tenant_names)
@quota_options
@run_option
@json_option
def add(name: str, run: Path, as_json: bool, **quotas: int | None) -> None:
    """Make a tenant with a first key. Its secret is printed now and by 'alcove env'.

    \b
    Examples:
      alcove tenant add shop
      alcove tenant add shop --functions 100 --concurrency 20
    """
    document = {"name": name, "quotas": _given(quotas)}
    made = Client(run).call("POST", TENANTS, document)
    if as_json:
        output.print_json(made)
        return
    click.echo(f"tenant {name} is {made['id']}")
    _print_key(made["key"])


@group.command("list")
@run_option
@json_option
def list_command(run: Path, as_json: bool) -> None:
    """List the tenants.

    \b
    Example:
      alcove tenant list
    """
    found = Client(run).call("GET", TENANTS)["tenants"]
    if as_json:
        output.print_json(found)
        return
    rows = [
        (
            one["name"],
            one["id"],
            one["state"],
            len(one.get("keys", [])),
            one.get("used", {}).get("functions", ""),
            output.size(one["used"]["code_bytes"]) if "used" in one else "",
        )
        for one in found
    ]
    output.print_table(("NAME", "ID", "STATE", "KEYS", "FUNCTIONS", "CODE"), rows, empty="no tenant")


@group.command()
@click.argument("name", shell_complete=tenant_names)
@run_option
@json_option
def show(name: str, run: Path, as_json: bool) -> None:
    """Show a tenant: its keys (without secrets), its quotas and what it has of them.

    \b
    Example:
      alcove tenant show shop
    """
    found = Client(run).call("GET", _path(name))
    if as_json:
        output.print_json(found)
        return
    click.echo(f"{found['name']}, {found['id']}, since {_moment(found['created_ms'])}")
    for key in found["keys"]:
        click.echo(f"key {key['access_key']}, since {_moment(key['created_ms'])}")
    rows = [
        (one.replace("_", " "), found["used"].get(one, ""), limit, "own" if one in found["own_quotas"] else "default")
        for one, limit in found["quotas"].items()
    ]
    output.print_table(("QUOTA", "USED", "LIMIT", "SET BY"), rows, empty="")


@group.command("quota")
@click.argument("name", shell_complete=tenant_names)
@quota_options
@run_option
@json_option
def quota_command(name: str, run: Path, as_json: bool, **quotas: int | None) -> None:
    """Change quotas of a tenant; 'default' goes back to the server's setting. What it has above a quota it keeps.

    \b
    Examples:
      alcove tenant quota shop --concurrency 50
      alcove tenant quota shop --functions default
    """
    found = Client(run).call("PUT", f"{_path(name)}/quotas", _given(quotas))
    if as_json:
        output.print_json(found)
    else:
        click.echo(", ".join(f"{one.replace('_', ' ')} {limit}" for one, limit in found["quotas"].items()))


@group.command()
@click.argument("name", shell_complete=tenant_names)
@click.option("--keep", is_flag=True, help="Revoke no key: the tenant then has one more.")
@run_option
@json_option
def rotate(name: str, keep: bool, run: Path, as_json: bool) -> None:
    """Give a tenant a new key and revoke its others at the same moment.

    With --keep the others stay good until they are revoked, so that clients can change over one by one.

    \b
    Examples:
      alcove tenant rotate shop
      alcove tenant rotate shop --keep
      alcove tenant revoke shop AKALXXXXXXXXXXXXXXXX
    """
    made = Client(run).call("POST", f"{_path(name)}/keys", {"keep": keep})
    if as_json:
        output.print_json(made)
    else:
        _print_key(made["key"])


@group.command()
@click.argument("name", shell_complete=tenant_names)
@click.argument("key")
@run_option
def revoke(name: str, key: str, run: Path) -> None:
    """Revoke one key: what is signed with it is refused from now on. The last key stays.

    \b
    Example:
      alcove tenant revoke shop AKALXXXXXXXXXXXXXXXX
    """
    Client(run).request("DELETE", f"{_path(name)}/keys/{quote(key, safe='')}")
    click.echo(f"revoked {key}")


@group.command()
@click.argument("name", shell_complete=tenant_names)
@click.option("--force", is_flag=True, help="Even if it has functions: they go with everything else of it.")
@run_option
def remove(name: str, force: bool, run: Path) -> None:
    """Remove a tenant. Its keys stop at once; then its functions, timers, waiting events and logs are deleted.

    What it used stays in 'alcove usage', and what was done for it in 'alcove audit'.

    \b
    Examples:
      alcove tenant remove shop
      alcove tenant remove shop --force
    """
    query = "?" + urlencode({"force": "true"}) if force else ""
    Client(run).request("DELETE", _path(name) + query)
    click.echo(f"removed {name}")


def _path(name: str) -> str:
    return f"{TENANTS}/{quote(name, safe='')}"


def _given(quotas: dict[str, int | None]) -> dict[str, int | None]:
    """Return those that the command line names; None among them was named as the default."""
    context = click.get_current_context()
    unset = (click.core.ParameterSource.DEFAULT, None)
    return {name: value for name, value in quotas.items() if context.get_parameter_source(name) not in unset}


def _moment(milliseconds: int) -> str:
    return f"{datetime.fromtimestamp(milliseconds / 1000).astimezone():%Y-%m-%d %H:%M:%S}"


def _print_key(key: dict[str, str]) -> None:
    click.echo(f"access key {key['access_key']}")
    click.echo(f"secret     {key['secret']}")
