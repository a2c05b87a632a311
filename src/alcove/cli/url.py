"""``alcove url``: functions that anyone, or who signs, calls by HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import click

from alcove.cli import output
from alcove.cli.client import Client
from alcove.cli.cors import cors_document, cors_options
from alcove.cli.naming import function_names, qualifiers
from alcove.cli.options import json_option, run_option
from alcove.cli.permission import drop_statement, ensure_statement

FUNCTIONS = "/2021-10-31/functions"
# The statement that AWS's console adds to a function with a public URL.
PUBLIC = {
    "StatementId": "FunctionURLAllowPublicAccess",
    "Principal": "*",
    "Action": "lambda:InvokeFunctionUrl",
    "FunctionUrlAuthType": "NONE",
}


@click.group()
def group() -> None:
    """Give functions URLs of their own."""


def _path(function: str, qualifier: str) -> str:
    query = f"?{urlencode({'Qualifier': qualifier})}" if qualifier else ""
    return f"{FUNCTIONS}/{quote(function, safe='')}/url{query}"


qualifier_option = click.option(
    "--qualifier", default="", shell_complete=qualifiers, help="A version or an alias; without it, $LATEST."
)


@group.command()
@click.argument("function", shell_complete=function_names)
@qualifier_option
@click.option("--auth", type=click.Choice(["NONE", "AWS_IAM"]), default="NONE", help="Who may call.")
@click.option("--stream", is_flag=True, help="Send the answer as it is made.")
@cors_options
@run_option
@json_option
def add(function: str, qualifier: str, auth: str, stream: bool, run: Path, as_json: bool, **cors: Any) -> None:
    """Give FUNCTION a URL.

    With --auth NONE anyone may call: the function's policy gets the statement that says so.

    \b
    Examples:
      alcove url add hello
      alcove url add hello --qualifier live --auth AWS_IAM
      alcove url add chat --stream --origin https://example.com
    """
    document: dict[str, Any] = {"AuthType": auth, "InvokeMode": "RESPONSE_STREAM" if stream else "BUFFERED"}
    if rules := cors_document(cors):
        document["Cors"] = rules
    client = Client(run)
    made = client.call("POST", _path(function, qualifier), document)
    if auth == "NONE" and ensure_statement(client, function, qualifier, PUBLIC):
        output.note(f"anyone may call it: permission {PUBLIC['StatementId']} added to {function}")
    if as_json:
        output.print_json(made)
    else:
        click.echo(made["FunctionUrl"])


@group.command("list")
@click.argument("function", shell_complete=function_names)
@run_option
@json_option
def list_command(function: str, run: Path, as_json: bool) -> None:
    """List the URLs of FUNCTION.

    \b
    Example:
      alcove url list hello
    """
    client, marker = Client(run), ""
    found: list[dict[str, Any]] = []
    while marker is not None:
        page = client.call("GET", f"{FUNCTIONS}/{quote(function, safe='')}/urls?{urlencode({'Marker': marker})}")
        found += page["FunctionUrlConfigs"]
        marker = page.get("NextMarker")
    if as_json:
        output.print_json(found)
        return
    rows = [(one["FunctionUrl"], one["FunctionArn"], one["AuthType"], one["InvokeMode"]) for one in found]
    output.print_table(("URL", "FUNCTION", "AUTH", "MODE"), rows, empty="no URL yet; see: alcove url add")


@group.command()
@click.argument("function", shell_complete=function_names)
@qualifier_option
@run_option
def remove(function: str, qualifier: str, run: Path) -> None:
    """Take FUNCTION's URL away, and the permission that came with it; another URL will differ.

    \b
    Example:
      alcove url remove hello
    """
    client = Client(run)
    client.request("DELETE", _path(function, qualifier))
    drop_statement(client, function, qualifier, PUBLIC["StatementId"])
    click.echo(f"removed the URL of {function}")
