"""``alcove permission``: who else may call a function."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import click

from alcove.cli import output
from alcove.cli.client import FUNCTIONS, Client
from alcove.cli.naming import function_names
from alcove.cli.options import json_option, run_option
from alcove.errors import Conflict, NotFound


@click.group()
def group() -> None:
    """Say who else may call a function."""


def _path(function: str, qualifier: str | None, statement: str = "") -> str:
    query = "?" + urlencode({"Qualifier": qualifier}) if qualifier else ""
    return f"{FUNCTIONS}/{quote(function, safe='')}/policy{f'/{quote(statement)}' if statement else ''}{query}"


@group.command()
@click.argument("function", shell_complete=function_names)
@click.argument("statement")
@click.argument("principal")
@click.option("--action", default="lambda:InvokeFunction", show_default=True, help="What they may do.")
@click.option("--source-arn", help="Only on behalf of this resource; * and ? stand for what they do in file names.")
@click.option("--url-auth", type=click.Choice(["NONE", "AWS_IAM"]), help="Only by a URL with this --auth.")
@click.option("--qualifier", help="Only by this version or alias; without it, only by no qualifier.")
@run_option
@json_option
def add(
    function: str,
    statement: str,
    principal: str,
    action: str,
    source_arn: str | None,
    url_auth: str | None,
    qualifier: str | None,
    run: Path,
    as_json: bool,
) -> None:
    """Let PRINCIPAL (an account, a service, or * for all) call FUNCTION; STATEMENT names the permission.

    \b
    Examples:
      alcove permission add hello friends 123456789012
      alcove permission add hello uploads s3.amazonaws.com --source-arn 'arn:aws:s3:::pictures'
      alcove permission add hello public '*' --action lambda:InvokeFunctionUrl --url-auth NONE
    """
    document: dict[str, Any] = {"StatementId": statement, "Principal": principal, "Action": action}
    if source_arn is not None:
        document["SourceArn"] = source_arn
    if url_auth is not None:
        document["FunctionUrlAuthType"] = url_auth
    made = json.loads(Client(run).call("POST", _path(function, qualifier), document)["Statement"])
    if as_json:
        output.print_json(made)
    else:
        click.echo(f"{principal} may {action} on {made['Resource']}")


@group.command("list")
@click.argument("function", shell_complete=function_names)
@click.option("--qualifier", help="Those of this version or alias.")
@run_option
@json_option
def list_command(function: str, qualifier: str | None, run: Path, as_json: bool) -> None:
    """List who else may call FUNCTION.

    \b
    Example:
      alcove permission list hello
    """
    client = Client(run)
    try:
        found = json.loads(client.call("GET", _path(function, qualifier))["Policy"])["Statement"]
    except NotFound:
        client.call("GET", f"{FUNCTIONS}/{quote(function, safe='')}/configuration")  # raises where that is missing
        found = []
    if as_json:
        output.print_json(found)
        return
    rows = [(one["Sid"], _who(one["Principal"]), one["Action"], json.dumps(one.get("Condition", {}))) for one in found]
    output.print_table(
        ("STATEMENT", "PRINCIPAL", "ACTION", "CONDITION"), rows, empty="nobody else; see: alcove permission add"
    )


@group.command()
@click.argument("function", shell_complete=function_names)
@click.argument("statement")
@click.option("--qualifier", help="Of this version or alias.")
@run_option
@json_option
def remove(function: str, statement: str, qualifier: str | None, run: Path, as_json: bool) -> None:
    """Take a permission away.

    \b
    Example:
      alcove permission remove hello friends
    """
    Client(run).request("DELETE", _path(function, qualifier, statement))
    if as_json:
        output.print_json({"removed": statement, "function": function})
    else:
        click.echo(f"removed {statement} from {function}")


def ensure_statement(client: Client, function: str, qualifier: str, statement: dict[str, str]) -> bool:
    """Add a statement; return whether it was missing."""
    try:
        client.call("POST", _path(function, qualifier), statement)
    except Conflict:
        return False
    return True


def drop_statement(client: Client, function: str, qualifier: str, statement: str) -> None:
    """Take a statement away, if it is there."""
    try:
        client.request("DELETE", _path(function, qualifier, statement))
    except NotFound:
        return


def _who(principal: Any) -> str:
    return principal if isinstance(principal, str) else ", ".join(map(str, principal.values()))
