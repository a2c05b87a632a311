"""Packs the files of a game's build into one archive.

A build is what is under ``GAME/VERSION/`` in the bucket of the event; it is complete when its ``build.json`` is stored,
which is what calls this function. The archive goes to the bucket that ``TARGET`` names, as ``GAME-VERSION.zip``.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from typing import Any
from urllib.parse import unquote_plus

import alcove_client as store


def handler(event: dict[str, Any], context: Any) -> list[dict[str, Any]]:
    return [
        pack(record["s3"]["bucket"]["name"], unquote_plus(record["s3"]["object"]["key"])) for record in event["Records"]
    ]


def pack(bucket: str, manifest: str) -> dict[str, Any]:
    folder = manifest.rpartition("/")[0]
    described = json.loads(store.get(bucket, manifest))
    archive = io.BytesIO()
    packed = 0
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        for key in store.keys(bucket, f"{folder}/"):
            # Always one date: the same build makes the same archive.
            info = zipfile.ZipInfo(key.removeprefix(f"{folder}/"), (2020, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            target.writestr(info, store.get(bucket, key))
            packed += 1
    name = f"{described['game']}-{described['version']}.zip"
    store.put(os.environ["TARGET"], name, archive.getvalue(), "application/zip")
    print(f"packed {packed} files of {folder} as {name}, {archive.tell()} bytes")
    return {"archive": name, "files": packed}
