"""``alcove fn get``: a function as it can be deployed again, its package and its configuration."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import click

from alcove.cli import output
from alcove.cli.client import FUNCTIONS, Client
from alcove.cli.naming import function_names, qualifiers
from alcove.cli.options import json_option, run_option
from alcove.errors import InvalidRequest

# What ``alcove fn deploy`` takes, by the configuration's names.
_OPTIONS = {"Runtime": "--runtime", "Handler": "--handler", "MemorySize": "--memory", "Timeout": "--timeout"}


@click.command()
@click.argument("name", shell_complete=function_names)
@click.option("--qualifier", shell_complete=qualifiers, help="A version or alias; without it, $LATEST.")
@click.option("--download", type=click.Path(dir_okay=False, path_type=Path), help="Write the package to this file.")
@click.option("--force", is_flag=True, help="Replace the file that is there.")
@run_option
@json_option
def get(name: str, qualifier: str | None, download: Path | None, force: bool, run: Path, as_json: bool) -> None:
    """Print a function's configuration, and fetch its package.

    \b
    Examples:
      alcove fn get hello
      alcove fn get hello --qualifier live --download hello.zip
      alcove fn deploy hello.zip --runtime python3.11 --handler app.handler
    """
    client = Client(run)
    query = "?" + urlencode({"Qualifier": qualifier}) if qualifier else ""
    found = client.call("GET", f"{FUNCTIONS}/{quote(name, safe='')}{query}")
    configuration = found["Configuration"]
    if download is not None:
        _fetch(client, found["Code"]["Location"], download, force)
        output.note(f"wrote {download} ({output.size(configuration['CodeSize'])})")
    if as_json:
        output.print_json(configuration)
    else:
        click.echo(_deploy(download or Path(f"{configuration['FunctionName']}.zip"), configuration))


def _fetch(client: Client, location: str, target: Path, force: bool) -> None:
    """The URL names the server's port; the socket serves the same path."""
    if target.exists() and not force:
        raise InvalidRequest(f"{target} exists", hint="name another file, or say --force")
    place = urlsplit(location)
    target.write_bytes(client.request("GET", f"{place.path}?{place.query}").body)


def _deploy(package: Path, configuration: dict[str, Any]) -> str:
    """Return the command that deploys it again."""
    words = ["alcove", "fn", "deploy", str(package), "--name", configuration["FunctionName"]]
    for key, option in _OPTIONS.items():
        words += [option, str(configuration[key])]
    for name, value in configuration.get("Environment", {}).get("Variables", {}).items():
        words += ["--env", f"{name}={value}"]
    for layer in configuration.get("Layers", []):
        words += ["--layer", layer["Arn"]]
    return shlex.join(words)
