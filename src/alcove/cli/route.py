"""``alcove route``: hosts and paths that functions answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import click

from alcove.cli import output
from alcove.cli.client import Client
from alcove.cli.cors import cors_document, cors_options
from alcove.cli.naming import function_names
from alcove.cli.options import json_option, run_option

ROUTES = "/alcove/v1/routes"
HOSTS = "/alcove/v1/hosts"


@click.group()
def group() -> None:
    """Have functions answer the requests to a host and path."""


def _path(place: str) -> str:
    host, _, path = place.partition("/")
    return f"{ROUTES}/{quote(host, safe='*')}/{quote(path)}".rstrip("/")


@group.command()
@click.argument("place", metavar="HOST[/PATH]")
@click.argument("function", shell_complete=function_names)
@click.option("--qualifier", default="", help="A version or an alias; without it, $LATEST.")
@click.option("--auth", type=click.Choice(["NONE", "AWS_IAM"]), default="NONE", help="Who may call.")
@click.option("--stream", is_flag=True, help="Send the answer as it is made.")
@cors_options
@run_option
@json_option
def add(
    place: str, function: str, qualifier: str, auth: str, stream: bool, run: Path, as_json: bool, **cors: Any
) -> None:
    """Have FUNCTION answer what is sent to HOST and under PATH; a route that is there is changed.

    HOST may begin with "*.": every name under it. The longest match wins.

    \b
    Examples:
      alcove route add shop.apps.localhost shop
      alcove route add shop.apps.localhost/api/v2 api --qualifier 7 --auth AWS_IAM
      alcove route add api.apps.localhost api --origin https://shop.example --method GET --max-age 600
      curl -H 'Host: shop.apps.localhost' http://127.0.0.1:9600/
    """
    mode = "RESPONSE_STREAM" if stream else "BUFFERED"
    document: dict[str, Any] = {"function": function, "qualifier": qualifier, "auth": auth, "mode": mode}
    if rules := cors_document(cors):
        document["cors"] = rules
    made = Client(run).call("PUT", _path(place), document)
    if as_json:
        output.print_json(made)
    else:
        click.echo(f"{made['host']}{made['path']} is answered by {function}")


@group.command("list")
@run_option
@json_option
def list_command(run: Path, as_json: bool) -> None:
    """List the routes.

    \b
    Example:
      alcove route list
    """
    client, more = Client(run), True
    found: list[dict[str, Any]] = []
    while more:
        after = {"after_host": found[-1]["host"], "after_path": found[-1]["path"]} if found else {}
        page = client.call("GET", f"{ROUTES}?{urlencode(after)}")
        found += page["routes"]
        more = page["more"]
    if as_json:
        output.print_json(found)
        return
    rows = [(one["host"], one["path"], one["function"], one["qualifier"], one["auth"], one["mode"]) for one in found]
    columns = ("HOST", "PATH", "FUNCTION", "QUALIFIER", "AUTH", "MODE")
    output.print_table(columns, rows, empty="no route yet; see: alcove route add")


@group.command()
@click.argument("place", metavar="HOST[/PATH]")
@run_option
def remove(place: str, run: Path) -> None:
    """Remove a route. Its host stays yours.

    \b
    Example:
      alcove route remove shop.apps.localhost/api/v2
    """
    Client(run).request("DELETE", _path(place))
    click.echo(f"removed {place}")


@group.command()
@click.argument("host")
@run_option
def release(host: str, run: Path) -> None:
    """Give a host up, with its routes: another tenant may then take it.

    \b
    Example:
      alcove route release shop.apps.localhost
    """
    Client(run).request("DELETE", f"{HOSTS}/{quote(host, safe='')}")
    click.echo(f"released {host}")
