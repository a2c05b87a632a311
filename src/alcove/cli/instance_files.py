"""``alcove cp``: files into and out of instances, as tar over exec, so that the instance needs a ``tar``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click

from alcove.cli import pod_client
from alcove.cli.client import Client
from alcove.cli.naming import instance_paths
from alcove.cli.options import run_option
from alcove.errors import InvalidRequest


@click.command("cp")
@click.argument("source", shell_complete=instance_paths)
@click.argument("target", shell_complete=instance_paths)
@click.option("-c", "--container", default="", help="Which container; the first otherwise.")
@run_option
def copy(source: str, target: str, container: str, run: Path) -> None:
    """Copy a file or folder; one of both is NAME:PATH, in an instance.

    What comes out of an instance is not trusted: it is unpacked without owners, and never through a link.

    \b
    Examples:
      alcove cp web:/var/log/nginx ./logs
      alcove cp ./site web:/usr/share/nginx/html
    """
    from_name, from_colon, from_path = source.partition(":")
    to_name, to_colon, to_path = target.partition(":")
    if bool(from_colon) == bool(to_colon):
        raise InvalidRequest("one of both must be NAME:PATH", hint="see alcove cp --help")
    if from_colon:
        sys.exit(_out(run, from_name, container, from_path, Path(target)))
    sys.exit(_in(run, to_name, container, Path(source), to_path))


def _in(run: Path, name: str, container: str, source: Path, target: str) -> int:
    if not source.exists():
        raise InvalidRequest(f"there is no {source}")
    packing = ["tar", "-C", str(source.parent), "-cf", "-", "--", source.name]
    unpacking = _exec(run, name, container, "-i", ["tar", "-C", target or "/", "-xf", "-"])
    with subprocess.Popen(packing, stdout=subprocess.PIPE) as pack:
        done = subprocess.run(unpacking, stdin=pack.stdout, check=False)
    return done.returncode or pack.returncode


def _out(run: Path, name: str, container: str, source: str, target: Path) -> int:
    # Nothing is made here where there is nothing to be had.
    Client(run).call("GET", pod_client.path(name))
    parent, _, last = source.rstrip("/").rpartition("/")
    packing = _exec(run, name, container, "", ["tar", "-C", parent or "/", "-cf", "-", "--", last or "."])
    target.mkdir(parents=True, exist_ok=True)
    # GNU tar takes no name with "..", and makes links last, so that it never writes through one.
    unpacking = ["/usr/bin/tar", "-C", str(target), "--no-same-owner", "--no-same-permissions", "-xf", "-"]
    with subprocess.Popen(packing, stdout=subprocess.PIPE) as pack:
        done = subprocess.run(unpacking, stdin=pack.stdout, stderr=subprocess.PIPE, check=False)
    if not pack.returncode:
        # Otherwise it is said already why there was nothing to unpack.
        sys.stderr.buffer.write(done.stderr)
    return pack.returncode or done.returncode


def _exec(run: Path, name: str, container: str, stdin: str, command: list[str]) -> list[str]:
    """Return a command of ours that runs ``command`` there."""
    ours = [sys.executable, "-c", "from alcove.cli import main; main()", "exec", "--run", str(run)]
    options = [*(["-c", container] if container else []), *([stdin] if stdin else [])]
    return [*ours, *options, name, "--", *command]
