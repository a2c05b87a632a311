"""Commands for images of containers: ``alcove images``, ``pull``, ``cache``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from alcove.cli import output
from alcove.cli.client import Client
from alcove.cli.options import json_option, run_option
from alcove.errors import AlcoveError

IMAGES = "/alcove/v1/images"
DAY_S = 86_400.0


@click.command()
@run_option
@json_option
def images(run: Path, as_json: bool) -> None:
    """List the images of containers that are here.

    \b
    Example:
      alcove images
    """
    found = Client(run).call("GET", IMAGES)
    if as_json:
        output.print_json(found["items"])
        return
    rows = [
        (tag, one["id"].removeprefix("sha256:")[:12], output.size(one["size"]))
        for one in found["items"]
        for tag in one["tags"] or one["digests"][:1]
    ]
    output.print_table(("NAME", "ID", "SIZE"), rows, empty="no images yet; see: alcove pull")


@click.command()
@click.argument("image")
@run_option
def pull(image: str, run: Path) -> None:
    """Fetch an image, so that what is run of it starts at once.

    \b
    Example:
      alcove pull debian:12
    """
    id = fetch(Client(run, timeout_s=DAY_S), image)
    click.echo(f"{image} {id.removeprefix('sha256:')[:12]}")


def fetch(client: Client, image: str) -> str:
    """Fetch with a bar of progress; return the image's id. Raises ``AlcoveError``."""
    with output.progress(f"pulling {image}", 1 << 20) as bar:
        last = _Last(bar)
        client.request(
            "POST", IMAGES, json.dumps({"image": image}).encode(), {"Content-Type": "application/json"}, received=last
        )
    if "id" not in last.document:
        raise AlcoveError(
            str(last.document.get("error", "the server ended before the image was there")),
            hint=str(last.document.get("hint") or "check the image's name"),
        )
    return str(last.document["id"])


class _Last:
    """Takes lines of JSON, draws those that tell progress, keeps the last."""

    def __init__(self, bar: output.Bar) -> None:
        self.document: dict[str, Any] = {}
        self._bar = bar
        self._rest = b""

    def __call__(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self.document = json.loads(line)
            if self.document.get("total"):
                self._bar((self.document["done"] << 20) // self.document["total"])


@click.group()
def cache() -> None:
    """Images that are kept ready."""


@cache.command("list")
@run_option
def cache_list(run: Path) -> None:
    """Say what the images and containers take on the disk.

    \b
    Example:
      alcove cache list
    """
    found = Client(run).call("GET", IMAGES)
    click.echo(f"{len(found['items'])} images, {output.size(found['disk'])} on the disk")


@cache.command("remove")
@click.argument("image")
@run_option
def cache_remove(image: str, run: Path) -> None:
    """Remove an image; instances that run keep what they have of it.

    \b
    Example:
      alcove cache remove debian:12
    """
    Client(run).request("DELETE", f"{IMAGES}/{quote(image, safe='/:@')}")
    click.echo(f"removed {image}")
