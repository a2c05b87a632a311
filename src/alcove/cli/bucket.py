"""``alcove bucket``: the object store."""

from __future__ import annotations

import mimetypes
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from alcove.cli import output
from alcove.cli.bucket_client import BucketClient, elements, texts
from alcove.cli.bucket_hook import hook
from alcove.cli.bucket_notify import notify
from alcove.cli.naming import bucket_names
from alcove.cli.options import json_option, run_option
from alcove.errors import InvalidRequest

_COPY_BYTES = 1 << 20


@click.group()
def group() -> None:
    """Buckets: store objects, and have functions called when they change."""


group.add_command(hook)
group.add_command(notify)


def _split(place: str) -> tuple[str, str]:
    """BUCKET/KEY to its parts. Raises ``InvalidRequest``."""
    bucket, _, key = place.removeprefix("s3://").partition("/")
    if not bucket or not key:
        raise InvalidRequest(f"{place!r} does not name an object", hint="write BUCKET/KEY")
    return bucket, key


@group.command()
@click.argument("bucket", shell_complete=bucket_names)
@run_option
def create(bucket: str, run: Path) -> None:
    """Make a bucket.

    \b
    Example:
      alcove bucket create photos
    """
    BucketClient(run).call("PUT", bucket)
    click.echo(f"created {bucket}")


@group.command("list")
@run_option
@json_option
def list_command(run: Path, as_json: bool) -> None:
    """List the buckets.

    \b
    Example:
      alcove bucket list
    """
    root = BucketClient(run).document("GET")
    found = [
        {"name": texts(one, "Name")[0], "created": texts(one, "CreationDate")[0]} for one in elements(root, "Bucket")
    ]
    if as_json:
        output.print_json(found)
        return
    rows = [(one["name"], one["created"]) for one in found]
    output.print_table(("NAME", "CREATED"), rows, empty="no bucket yet; see: alcove bucket create")


@group.command()
@click.argument("place", shell_complete=bucket_names)
@run_option
@json_option
def ls(place: str, run: Path, as_json: bool) -> None:
    """List the objects of BUCKET, or those under BUCKET/PREFIX.

    \b
    Examples:
      alcove bucket ls photos
      alcove bucket ls photos/2026/ --json
    """
    bucket, _, prefix = place.removeprefix("s3://").partition("/")
    client, found = BucketClient(run), []
    query = {"list-type": "2", "prefix": prefix}
    while True:
        root = client.document("GET", bucket, **query)
        found += [_described(one) for one in elements(root, "Contents")]
        more = texts(root, "NextContinuationToken")
        if not more:
            break
        query["continuation-token"] = more[0]
    if as_json:
        output.print_json(found)
        return
    rows = [(one["key"], output.size(one["size"]), one["modified"]) for one in found]
    output.print_table(("KEY", "SIZE", "MODIFIED"), rows, empty="nothing there")


def _described(element: Any) -> dict[str, Any]:
    key, modified, etag, size = (texts(element, name)[0] for name in ("Key", "LastModified", "ETag", "Size"))
    return {"key": key, "size": int(size), "modified": modified, "etag": etag.strip('"')}


@group.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("place", shell_complete=bucket_names)
@click.option("--type", "content_type", help="The content type; without it, guessed by the name.")
@run_option
def put(file: Path, place: str, content_type: str | None, run: Path) -> None:
    """Store FILE as BUCKET/KEY. A PLACE that ends with a slash gets the file's name.

    \b
    Examples:
      alcove bucket put cat.jpg photos/2026/cat.jpg
      alcove bucket put cat.jpg photos/2026/
    """
    bucket, key = _split(place + file.name if place.endswith("/") else place)
    kind = content_type or mimetypes.guess_type(file.name)[0] or ""
    with file.open("rb") as source:
        etag = BucketClient(run).put(bucket, key, source, os.fstat(source.fileno()).st_size, kind)
    click.echo(f"stored {bucket}/{key} ({etag})")


@group.command()
@click.argument("place", shell_complete=bucket_names)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), required=False)
@run_option
def get(place: str, file: Path | None, run: Path) -> None:
    """Write the object BUCKET/KEY to FILE, or to standard output.

    \b
    Examples:
      alcove bucket get photos/2026/cat.jpg cat.jpg
      alcove bucket get logs/today.txt | less
    """
    bucket, key = _split(place)
    with BucketClient(run).get(bucket, key) as response:
        if file is None:
            while data := response.read(_COPY_BYTES):
                sys.stdout.buffer.write(data)
            return
        # Under another name until it is whole.
        with tempfile.NamedTemporaryFile(dir=file.absolute().parent, delete=False) as target:
            try:
                while data := response.read(_COPY_BYTES):
                    target.write(data)
                os.replace(target.name, file)
            except BaseException:
                os.unlink(target.name)
                raise
    click.echo(f"wrote {file}")


@group.command()
@click.argument("place", shell_complete=bucket_names)
@run_option
def rm(place: str, run: Path) -> None:
    """Remove the object BUCKET/KEY.

    \b
    Example:
      alcove bucket rm photos/2026/cat.jpg
    """
    bucket, key = _split(place)
    BucketClient(run).call("DELETE", bucket, key)
    click.echo(f"removed {bucket}/{key}")


@group.command()
@click.argument("bucket", shell_complete=bucket_names)
@run_option
def delete(bucket: str, run: Path) -> None:
    """Delete a bucket, which must be empty.

    \b
    Example:
      alcove bucket delete photos
    """
    BucketClient(run).call("DELETE", bucket)
    click.echo(f"deleted {bucket}")
