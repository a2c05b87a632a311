"""Commands for instances: ``alcove apply``, ``logs``, ``scale``, ``stop``, ``rm``, ``inspect``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import click

from alcove.cli import output, pod_client
from alcove.cli.client import Client
from alcove.cli.naming import instance_names
from alcove.cli.options import TIERS, json_option, run_option
from alcove.cli.pod_manifests import read_manifests
from alcove.cli.terminal import talk
from alcove.errors import NotFound

DAYS_S = 30 * 86_400.0
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@click.command()
@click.option("-f", "--file", "file", type=click.File("rb"), required=True, help="YAML or JSON; - is stdin.")
@click.option("--isolation", type=TIERS, help="Tier for all of them.")
@run_option
@json_option
def apply(file: Any, isolation: str | None, run: Path, as_json: bool) -> None:
    """Make instances of the Pods in a file, with the ConfigMaps that stand beside them.

    \b
    Example:
      alcove apply -f pod.yaml
    """
    client = Client(run)
    suffix = f"?isolation={isolation}" if isolation else ""
    made = [client.call("POST", f"{pod_client.PODS}{suffix}", one) for one in read_manifests(file.read())]
    if as_json:
        output.print_json(made)
        return
    for one in made:
        click.echo(f"made {one['metadata']['name']}")


@click.command()
@click.argument("name", shell_complete=instance_names)
@click.option("-c", "--container", default="", help="Which container; the first otherwise.")
@click.option("-f", "--follow", is_flag=True, help="Go on until it has ended.")
@click.option("--tail", type=click.IntRange(0), help="Only so many of its last lines.")
@click.option("--since", default="", help="Only what is younger than 30s, 10m or 2h, or came since a time (RFC 3339).")
@click.option("--previous", is_flag=True, help="Of the container before its last restart.")
@click.option("--timestamps", is_flag=True, help="Begin each line with its time.")
@run_option
def logs(name: str, run: Path, since: str, **query: Any) -> None:
    """Print what an instance printed: its stdout to ours, its stderr to ours.

    \b
    Examples:
      alcove logs web
      alcove logs web -f --tail 10
      alcove logs web --since 10m --timestamps
    """
    try:
        pod_client.follow(Client(run, timeout_s=DAYS_S), name, since=_seconds(since), **query)
    except KeyboardInterrupt:
        sys.exit(130)


def _seconds(text: str) -> str:
    """Return a length of time in seconds; what is none is left for the server to judge."""
    number, unit = text[:-1], text[-1:]
    return str(int(number) * _UNITS[unit]) if number.isdecimal() and unit in _UNITS else text


@click.command()
@click.argument("name", shell_complete=instance_names)
@click.argument("count", type=click.IntRange(0, 1000))
@run_option
@json_option
def scale(name: str, count: int, run: Path, as_json: bool) -> None:
    """Make copies of an instance, or remove some of them (the newest first), until there are COUNT.

    \b
    Examples:
      alcove scale web 5
      alcove scale web 0
    """
    answer = Client(run).call("PUT", pod_client.path(name, "replicas"), {"replicas": count})
    if as_json:
        output.print_json(answer["items"])
        return
    for one in answer["items"]:
        click.echo(one["metadata"]["name"])


@click.command("exec", context_settings={"allow_interspersed_args": False})
@click.argument("name", shell_complete=instance_names)
@click.argument("command", nargs=-1, required=True)
@click.option("-c", "--container", default="", help="Which container; the first otherwise.")
@click.option("-i", "--stdin", is_flag=True, help="Hand our stdin on.")
@click.option("-t", "--tty", "terminal", is_flag=True, help="Give it a terminal.")
@run_option
def exec_command(name: str, command: tuple[str, ...], container: str, stdin: bool, terminal: bool, run: Path) -> None:
    """Run a program in a container of an instance.

    \b
    Examples:
      alcove exec web -- nginx -t
      alcove exec -it web -- sh

    The exit code is the program's.
    """
    words = command[1:] if command[:1] == ("--",) else command
    query = [("command", word) for word in words]
    query += [(key, "true") for key, wanted in (("stdin", stdin), ("tty", terminal)) if wanted]
    query += [("container", container)] if container else []
    path = f"{pod_client.path(name, 'exec')}?{urlencode(query)}"
    tenant = os.environ.get("ALCOVE_TENANT", "")
    sys.exit(talk(run, path, tenant=tenant, stdin=stdin, terminal=terminal and sys.stdout.isatty()))


@click.command()
@click.argument("names", nargs=-1, required=True, shell_complete=instance_names)
@click.option(
    "-t", "--time", "grace_s", type=click.IntRange(0), help="Seconds that its containers get to end; its own otherwise."
)
@run_option
def stop(names: tuple[str, ...], grace_s: int | None, run: Path) -> None:
    """Stop instances and remove them, once their containers have ended.

    \b
    Example:
      alcove stop web -t 5
    """
    _remove_all(run, names, grace_s)


@click.command("rm")
@click.argument("names", nargs=-1, required=True, shell_complete=instance_names)
@click.option("-f", "--force", is_flag=True, help="Kill what still runs.")
@run_option
def remove(names: tuple[str, ...], force: bool, run: Path) -> None:
    """Remove instances.

    \b
    Example:
      alcove rm -f web
    """
    _remove_all(run, names, 0 if force else None)


def _remove_all(run: Path, names: tuple[str, ...], grace_s: int | None) -> None:
    """One that is not there keeps no other; it is said at the end. Raises ``NotFound``."""
    missing: list[NotFound] = []
    for name in names:
        try:
            pod_client.remove(Client(run), name, grace_s=grace_s)
        except NotFound as error:
            missing.append(error)
        else:
            click.echo(name)
    for known in missing[:-1]:
        output.note(f"error: {known}")
    if missing:
        raise missing[-1]


@click.command()
@click.argument("name", shell_complete=instance_names)
@run_option
def inspect(name: str, run: Path) -> None:
    """Print an instance's manifest, status and events, as JSON.

    \b
    Example:
      alcove inspect web
    """
    client = Client(run)
    found = client.call("GET", pod_client.path(name))
    found["events"] = client.call("GET", pod_client.path(name, "events"))["items"]
    output.print_json(found)
