"""``alcove env``: what SDKs need to know to talk to this server."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from alcove.cli import output
from alcove.cli.client import Client
from alcove.cli.options import json_option, run_option


@click.command()
@run_option
@json_option
def env(run: Path, as_json: bool) -> None:
    """Print the exports that point boto3 and the Baidu SDK at this server, with its keys.

    \b
    Example:
      eval "$(alcove env)"
    """
    found = Client(run).call("GET", "/alcove/v1/env")
    if "AWS_REGION" in found:
        # botocore reads the region under this name only; other AWS SDKs read AWS_REGION.
        found.setdefault("AWS_DEFAULT_REGION", found["AWS_REGION"])
    if as_json:
        output.print_json(found)
        return
    for name, value in found.items():
        click.echo(f"export {name}={shlex.quote(str(value))}")
