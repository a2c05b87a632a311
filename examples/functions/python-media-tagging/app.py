"""Tags pictures, by Pillow: a function with a compiled wheel that a bucket calls.

For each picture in the event its size, format, main colours and a thumbnail go to the bucket that ``TARGET`` names:
``KEY.json`` and ``KEY.thumbnail.jpg``.
"""

from __future__ import annotations

import io
import json
import os
from typing import Any
from urllib.parse import unquote_plus

import alcove_client as store
from PIL import Image

# A picture with more is refused before it is decoded: a small file can hold a huge one.
Image.MAX_IMAGE_PIXELS = 50_000_000
NAMES = {(0, 0, 0): "black", (255, 255, 255): "white", (255, 0, 0): "red", (0, 128, 0): "green", (0, 0, 255): "blue"}


def handler(event: dict[str, Any], context: Any) -> list[dict[str, Any]]:
    return [
        tag(record["s3"]["bucket"]["name"], unquote_plus(record["s3"]["object"]["key"])) for record in event["Records"]
    ]


def tag(bucket: str, key: str) -> dict[str, Any]:
    picture = Image.open(io.BytesIO(store.get(bucket, key)))
    tags = {"key": key, "format": picture.format, "width": picture.width, "height": picture.height}
    small = picture.convert("RGB")
    small.thumbnail((64, 64))
    tags["colours"] = colours(small)
    thumbnail = io.BytesIO()
    small.save(thumbnail, "JPEG")
    target = os.environ["TARGET"]
    store.put(target, f"{key}.thumbnail.jpg", thumbnail.getvalue(), "image/jpeg")
    store.put(target, f"{key}.json", json.dumps(tags).encode(), "application/json")
    print(f"tagged {key}: {tags}")
    return tags


def colours(picture: Image.Image) -> list[str]:
    """The named colours that are nearest to a tenth of the picture each, the most frequent first."""
    pixels = picture.width * picture.height
    counts: dict[str, int] = {}
    for count, (red, green, blue) in picture.getcolors(pixels) or []:
        name = min(
            NAMES.items(), key=lambda one: sum((a - b) ** 2 for a, b in zip(one[0], (red, green, blue), strict=True))
        )[1]
        counts[name] = counts.get(name, 0) + count
    return [name for name, count in sorted(counts.items(), key=lambda one: -one[1]) if count * 10 >= pixels]
