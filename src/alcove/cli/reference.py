"""``alcove settings`` and ``alcove version``: what can be set, what this is."""

from __future__ import annotations

import platform

import click

from alcove import __version__
from alcove.cli import output
from alcove.cli.options import json_option
from alcove.settings import DEFAULT_FILE, settings


@click.command("settings")
@json_option
def settings_command(as_json: bool) -> None:
    """Print each setting of the server: its flag, variable, default, limits and meaning.

    \b
    Example:
      alcove settings
    """
    rows = list(settings())
    if as_json:
        output.print_json(
            [
                {
                    "name": one.name,
                    "flag": one.flag,
                    "variable": one.variable,
                    "default": one.show(one.default),
                    "choices": list(one.row.choices),
                    "low": one.row.low,
                    "high": one.row.high,
                    "secret": one.row.secret,
                    "help": one.row.help,
                }
                for one in rows
            ]
        )
        return
    click.echo(f"A flag beats the environment, which beats the file ({DEFAULT_FILE} or --config).\n")
    for one in rows:
        click.echo(f"{one.name} = {one.show(one.default) or '(none)'}")
        click.echo(f"    {one.row.help}")
        if one.row.choices:
            click.echo(f"    Choices: {', '.join(one.row.choices)}.")
        if one.row.low is not None:
            click.echo(f"    From {one.row.low:g} to {one.row.high:g}.")
        click.echo(f"    {one.flag}, {one.variable}\n")


@click.command()
@json_option
def version(as_json: bool) -> None:
    """Print the version."""
    if as_json:
        output.print_json({"alcove": __version__, "python": platform.python_version()})
    else:
        click.echo(f"alcove {__version__}")
