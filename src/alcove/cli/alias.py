"""``alcove alias``: names for versions, which may share their calls between two."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from alcove.cli import output
from alcove.cli.client import FUNCTIONS, Client
from alcove.cli.naming import alias_names, function_names, version_numbers
from alcove.cli.options import json_option, run_option
from alcove.errors import InvalidRequest


@click.group()
def group() -> None:
    """Name versions, and share calls between two of them."""


def _path(function: str, alias: str = "") -> str:
    return f"{FUNCTIONS}/{quote(function, safe='')}/aliases" + (f"/{quote(alias, safe='')}" if alias else "")


def _weights(pairs: tuple[str, ...]) -> dict[str, Any]:
    weights = {}
    for pair in pairs:
        version, equals, share = pair.partition("=")
        try:
            if not (version and equals):
                raise ValueError
            weights[version] = float(share)
        except ValueError:
            raise InvalidRequest(f"--weight {pair}: VERSION=SHARE is wanted", hint="such as --weight 2=0.1") from None
    return {"RoutingConfig": {"AdditionalVersionWeights": weights}} if weights else {}


def _show(made: dict[str, Any], function: str, as_json: bool) -> None:
    if as_json:
        output.print_json(made)
        return
    click.echo(f"{function}:{made['Name']} leads to version {_versions(made)}")


def _versions(alias: dict[str, Any]) -> str:
    weights = alias.get("RoutingConfig", {}).get("AdditionalVersionWeights", {})
    return str(alias["FunctionVersion"]) + "".join(f", {share:.1%} to {v}" for v, share in weights.items())


def describe(alias: dict[str, Any]) -> str:
    """Return one line about an alias, for ``alcove fn show``."""
    return f"{alias['Name']} -> {_versions(alias)}"


def all_aliases(client: Client, function: str) -> list[dict[str, Any]]:
    return client.pages(_path(function), "Aliases")


@group.command()
@click.argument("function", shell_complete=function_names)
@click.argument("name", shell_complete=alias_names)
@click.argument("version", shell_complete=version_numbers)
@click.option("--weight", "pairs", multiple=True, metavar="VERSION=SHARE", help="A second version's share, 0 to 1.")
@click.option("--description", default="", help="A line about it.")
@run_option
@json_option
def create(
    function: str, name: str, version: str, pairs: tuple[str, ...], description: str, run: Path, as_json: bool
) -> None:
    """Make NAME another name for VERSION of FUNCTION.

    \b
    Examples:
      alcove alias create hello live 1
      alcove alias create hello canary 1 --weight 2=0.1
    """
    document = {"Name": name, "FunctionVersion": version, "Description": description, **_weights(pairs)}
    _show(Client(run).call("POST", _path(function), document), function, as_json)


@group.command()
@click.argument("function", shell_complete=function_names)
@click.argument("name", shell_complete=alias_names)
@click.option("--version", help="The version that it leads to from now on.")
@click.option("--weight", "pairs", multiple=True, metavar="VERSION=SHARE", help="A second version's share, 0 to 1.")
@click.option("--no-weight", is_flag=True, help="All calls go to one version again.")
@click.option("--description", help="A line about it.")
@run_option
@json_option
def update(
    function: str,
    name: str,
    version: str | None,
    pairs: tuple[str, ...],
    no_weight: bool,
    description: str | None,
    run: Path,
    as_json: bool,
) -> None:
    """Point an alias at another version, or share its calls anew.

    \b
    Examples:
      alcove alias update hello live --weight 2=0.5
      alcove alias update hello live --version 2 --no-weight
    """
    if pairs and no_weight:
        raise click.UsageError("--weight and --no-weight exclude each other")
    document = _weights(pairs)
    if no_weight:
        document = {"RoutingConfig": {"AdditionalVersionWeights": {}}}
    if version is not None:
        document["FunctionVersion"] = version
    if description is not None:
        document["Description"] = description
    _show(Client(run).call("PUT", _path(function, name), document), function, as_json)


@group.command("list")
@click.argument("function", shell_complete=function_names)
@run_option
@json_option
def list_command(function: str, run: Path, as_json: bool) -> None:
    """List a function's aliases.

    \b
    Example:
      alcove alias list hello
    """
    found = all_aliases(Client(run), function)
    if as_json:
        output.print_json(found)
        return
    rows = [(one["Name"], _versions(one), one["Description"]) for one in found]
    output.print_table(("NAME", "VERSION", "DESCRIPTION"), rows, empty="no alias yet; see: alcove alias create")


@group.command()
@click.argument("function", shell_complete=function_names)
@click.argument("name", shell_complete=alias_names)
@run_option
@json_option
def delete(function: str, name: str, run: Path, as_json: bool) -> None:
    """Delete an alias; its versions stay.

    \b
    Example:
      alcove alias delete hello canary
    """
    client = Client(run)
    client.call("GET", _path(function, name))  # AWS's delete does not say where there is none
    client.request("DELETE", _path(function, name))
    if as_json:
        output.print_json({"deleted": name, "function": function})
    else:
        click.echo(f"deleted {function}:{name}")
