"""``alcove layer``: packages that functions share, at /opt in each of them."""

from __future__ import annotations

import base64
from pathlib import Path
from urllib.parse import quote

import click

from alcove.cli import output
from alcove.cli.client import Client
from alcove.cli.options import json_option, run_option
from alcove.cli.package import folder_size, pack

LAYERS = "/2018-10-31/layers"


@click.group()
def group() -> None:
    """Share packages between functions."""


def _versions(name: str) -> str:
    return f"{LAYERS}/{quote(name, safe='')}/versions"


@group.command(no_args_is_help=True)
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.option("--name", help="The layer's name; without it, the folder's or file's.")
@click.option("--description", default="", help="A line about it.")
@click.option("--runtime", "runtimes", multiple=True, help="A runtime that it is for; may be repeated.")
@run_option
@json_option
def publish(
    source: Path, name: str | None, description: str, runtimes: tuple[str, ...], run: Path, as_json: bool
) -> None:
    """Make a version of a layer from SOURCE (a folder or a zip), whose files are at /opt in functions that use it.

    Python finds modules in python/, Node.js in nodejs/node_modules/, the shell programs in bin/, the loader
    libraries in lib/.

    \b
    Examples:
      alcove layer publish ./tools --runtime python3.11
      alcove fn deploy ./hello --layer arn:aws:lambda:us-east-1:123456789012:layer:tools:1
    """
    name = name or (source.resolve().name if source.is_dir() else source.stem)
    with output.progress(f"packing {source}", folder_size(source)) as bar:
        packed = pack(source, bar)
    code = base64.b64encode(packed.data).decode()
    document = {"Content": {"ZipFile": code}, "Description": description, "CompatibleRuntimes": list(runtimes)}
    with output.progress(f"sending {output.size(len(packed.data))}", len(code)) as bar:
        made = Client(run).call("POST", _versions(name), document, sent=bar)
    if as_json:
        output.print_json(made)
    else:
        click.echo(made["LayerVersionArn"])


@group.command("list")
@click.argument("name", required=False)
@run_option
@json_option
def list_command(name: str | None, run: Path, as_json: bool) -> None:
    """List the layers, each with its newest version, or the versions of one.

    \b
    Examples:
      alcove layer list
      alcove layer list tools
    """
    client = Client(run)
    if name is None:
        found = [one["LatestMatchingVersion"] for one in client.pages(LAYERS, "Layers")]
    else:
        found = client.pages(_versions(name), "LayerVersions")
    if as_json:
        output.print_json(found)
        return
    rows = [
        (one["LayerVersionArn"], ", ".join(one["CompatibleRuntimes"]), one["CreatedDate"][:19], one["Description"])
        for one in found
    ]
    output.print_table(
        ("LAYER VERSION", "RUNTIMES", "CREATED", "DESCRIPTION"), rows, empty="no layer yet; see: alcove layer publish"
    )


@group.command()
@click.argument("name")
@click.argument("version", type=click.IntRange(min=1))
@run_option
@json_option
def delete(name: str, version: int, run: Path, as_json: bool) -> None:
    """Delete a version of a layer; functions that have it keep it.

    \b
    Example:
      alcove layer delete tools 1
    """
    client, path = Client(run), f"{_versions(name)}/{version}"
    client.call("GET", path)  # AWS's delete does not say where there is none
    client.request("DELETE", path)
    if as_json:
        output.print_json({"deleted": name, "version": version})
    else:
        click.echo(f"deleted {name}:{version}")
