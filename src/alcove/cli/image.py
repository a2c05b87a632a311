"""``alcove image``: guest images, built from Debian packages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from alcove.cli import output
from alcove.cli.options import json_option, state_option


@click.group()
def group() -> None:
    """Build and list guest images."""


@group.command()
@state_option
@click.option("--refresh", is_flag=True, help="Build anew from the newest Debian packages.")
@json_option
def build(state: Path, refresh: bool, as_json: bool) -> None:
    """Build the guest image of this version of Alcove, unless it is there already.

    \b
    Example:
      alcove image build
    """
    from alcove.images.guest import build_guest_image

    image = build_guest_image(state / "images", progress=lambda text: output.note(f"  {text}"), refresh=refresh)
    if as_json:
        output.print_json({"digest": image.digest, "root": str(image.root)})
    else:
        click.echo(f"guest image {image.digest[:12]}: {image.root.parent}")


@group.command("list")
@state_option
@json_option
def list_command(state: Path, as_json: bool) -> None:
    """List the guest images that are built; the current one is marked.

    \b
    Example:
      alcove image list
    """
    from alcove.images.guest import find_guest_image

    current = find_guest_image(state / "images")
    found = [_describe(path) for path in sorted((state / "images/guest").glob("[!.]*/manifest.json"))]
    for one in found:
        one["current"] = current is not None and one["digest"] == current.digest
    if as_json:
        output.print_json(found)
        return
    rows = [
        (
            one["digest"][:12],
            one["kernel"],
            output.size(one["bytes"]),
            "*" if one["current"] else "",
        )
        for one in found
    ]
    columns = ("DIGEST", "KERNEL", "SIZE", "CURRENT")
    output.print_table(columns, rows, empty="no guest image yet; build it with: alcove image build")


def _describe(path: Path) -> dict[str, Any]:
    manifest = json.loads(path.read_text())
    files = [file for file in path.parent.iterdir() if file.is_file()]
    return {
        "digest": manifest["digest"],
        "kernel": str(manifest.get("kernel", "")),
        "bytes": sum(file.stat().st_size for file in files),
    }
