"""A mirror of a package registry, in three functions of one package.

``check`` is called by a timer: it reads which version of each package the registry has, compares with what was handed
out before (``index.json`` in the bucket) and starts ``update`` for what is newer, a batch at a time. ``update`` fetches
and stores. ``serve`` answers over HTTP from the bucket. An update is started before the index says so: killed in
between, the next check starts it again, and storing twice is as good as once.
"""

from __future__ import annotations

import base64
import json
import os
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import quote

import alcove_client as store

BATCH = 25


def check(event: dict[str, Any], context: Any) -> dict[str, int]:
    there: dict[str, str] = json.loads(_fetch("/-/versions"))
    try:
        known: dict[str, str] = json.loads(store.get(os.environ["BUCKET"], "index.json"))
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise
        known = {}
    newer = [[name, version] for name, version in sorted(there.items()) if known.get(name) != version]
    for first in range(0, len(newer), BATCH):
        store.start(os.environ["UPDATE"], {"packages": newer[first : first + BATCH]})
    if newer:
        store.put(os.environ["BUCKET"], "index.json", json.dumps(there).encode(), "application/json")
    print(f"{len(there)} packages in the registry, {len(newer)} are newer")
    return {"packages": len(there), "newer": len(newer)}


def update(event: dict[str, Any], context: Any) -> int:
    for name, version in event["packages"]:
        described = json.loads(_fetch(f"/{quote(name)}"))
        package = _fetch(f"/{quote(name)}/-/{version}.tgz")
        store.put(os.environ["BUCKET"], f"packages/{name}/{version}.tgz", package)
        # The description last: what it promises is there.
        store.put(
            os.environ["BUCKET"], f"packages/{name}/latest.json", json.dumps(described).encode(), "application/json"
        )
    print(f"updated {len(event['packages'])} packages")
    return len(event["packages"])


def serve(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """``/NAME`` is the package's description, ``/NAME/-/VERSION.tgz`` the package."""
    name, _, file = event["rawPath"].strip("/").partition("/-/")
    try:
        if file:
            body = store.get(os.environ["BUCKET"], f"packages/{name}/{file}")
            encoded = base64.b64encode(body).decode()
            return {
                "statusCode": 200,
                "headers": {"content-type": "application/gzip"},
                "body": encoded,
                "isBase64Encoded": True,
            }
        body = store.get(os.environ["BUCKET"], f"packages/{name}/latest.json")
        return {"statusCode": 200, "headers": {"content-type": "application/json"}, "body": body.decode()}
    except urllib.error.HTTPError as error:
        return {"statusCode": 404 if error.code == 404 else 502, "body": "not here\n"}


def _fetch(path: str) -> bytes:
    with urllib.request.urlopen(os.environ["REGISTRY"] + path, timeout=60) as answer:  # noqa: S310
        found: bytes = answer.read()
        return found
