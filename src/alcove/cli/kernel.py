"""``alcove kernel``: kernels for functions that need one of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from alcove.cli import output
from alcove.cli.client import Client
from alcove.cli.options import json_option, run_option

KERNELS = "/alcove/v1/kernels"


@click.group()
def group() -> None:
    """Register kernels for functions that need one of their own.

    A function names its kernel by the tag alcove:kernel; it then runs in a VM, whatever the isolation rules say. A
    published version keeps the kernel that it was published with.
    """


@group.command()
@click.argument("name")
@click.option(
    "--vmlinuz", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=True, help="A bzImage."
)
@click.option(
    "--modules",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Its lib/modules/RELEASE; without it all that the guest needs must be built in.",
)
@click.option("--append", default="", metavar="ARGS", help="Kernel arguments, after Alcove's own.")
@run_option
@json_option
def add(name: str, vmlinuz: Path, modules: Path | None, append: str, run: Path, as_json: bool) -> None:
    """Register a kernel under NAME. What is registered never changes.

    \b
    Examples:
      alcove kernel add rt --vmlinuz /boot/vmlinuz-6.1.0-28-rt-amd64 --modules /lib/modules/6.1.0-28-rt-amd64
      alcove kernel add mine --vmlinuz ./bzImage --append 'hugepages=64'
    """
    document: dict[str, Any] = {"vmlinuz": str(vmlinuz.resolve()), "append": append}
    if modules is not None:
        document["modules"] = str(modules.resolve())
    made = Client(run).call("PUT", f"{KERNELS}/{quote(name, safe='')}", document)
    if as_json:
        output.print_json(made)
    else:
        click.echo(f"kernel {name}: {made['release']} ({made['digest'][:12]})")


@group.command("list")
@run_option
@json_option
def list_command(run: Path, as_json: bool) -> None:
    """List the kernels.

    \b
    Example:
      alcove kernel list
    """
    found = Client(run).call("GET", KERNELS)["kernels"]
    if as_json:
        output.print_json(found)
        return
    rows = [(one["name"], one["release"], one["digest"][:12], one["append"]) for one in found]
    output.print_table(
        ("NAME", "RELEASE", "DIGEST", "ARGUMENTS"),
        rows,
        empty="no kernels but the guest image's; see: alcove kernel add",
    )


@group.command()
@click.argument("name")
@run_option
def remove(name: str, run: Path) -> None:
    """Remove a kernel that no version uses.

    \b
    Example:
      alcove kernel remove rt
    """
    Client(run).request("DELETE", f"{KERNELS}/{quote(name, safe='')}")
    click.echo(f"removed {name}")
