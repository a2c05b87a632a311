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
@click.option("--runtime", help="The image that holds this runtime, such as java17.")
@click.option("--refresh", is_flag=True, help="Build anew from the newest Debian packages.")
@json_option
def build(state: Path, runtime: str | None, refresh: bool, as_json: bool) -> None:
    """Build a guest image of this version of Alcove, unless it is there already.

    Python, Node.js and provided share one; java17 and php8.2 have their own, which the server builds when a function
    first needs it.

    \b
    Examples:
      alcove image build
      alcove image build --runtime java17
    """
    from alcove.functions.runtimes import resolve
    from alcove.images.families import Family
    from alcove.images.guest import build_guest_image

    family = resolve(runtime).family if runtime else Family.BASE
    image = build_guest_image(state / "images", family, progress=lambda text: output.note(f"  {text}"), refresh=refresh)
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
    from alcove.images.families import Family
    from alcove.images.guest import find_guest_image

    found = []
    for family in Family:
        current = find_guest_image(state / "images", family)
        for path in sorted((state / "images" / family.folder).glob("[!.]*/manifest.json")):
            one = _describe(path)
            found.append({"family": str(family), **one, "current": current and one["digest"] == current.digest})
    if as_json:
        output.print_json(found)
        return
    rows = [
        (
            one["family"],
            one["digest"][:12],
            one["kernel"],
            output.size(one["bytes"]),
            "*" if one["current"] else "",
        )
        for one in found
    ]
    columns = ("FAMILY", "DIGEST", "KERNEL", "SIZE", "CURRENT")
    output.print_table(columns, rows, empty="no guest image yet; build it with: alcove image build")


def _describe(path: Path) -> dict[str, Any]:
    manifest = json.loads(path.read_text())
    files = [file for file in path.parent.iterdir() if file.is_file()]
    return {
        "digest": manifest["digest"],
        "kernel": str(manifest.get("kernel", "")),
        "bytes": sum(file.stat().st_size for file in files),
    }
