"""Which bucket and key a request is for: by its path, or by its host (``BUCKET.s3.localhost``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from alcove.buckets.errors import BadArgument

SUFFIX = ".s3.localhost"


@dataclass(frozen=True, slots=True)
class Address:
    """``bucket`` and ``key`` are empty where they are not named; ``resource`` is ``/BUCKET/KEY`` as it was encoded."""

    bucket: str
    key: str
    resource: str


def parse(headers: Mapping[str, str], raw_path: str) -> Address:
    """Raises ``BadArgument`` where the key is not UTF-8."""
    host = headers.get("host", "").partition(":")[0].lower()
    resource = raw_path
    if host.endswith(SUFFIX):
        resource = f"/{host.removesuffix(SUFFIX)}{raw_path}"
    bucket, _, key = resource.removeprefix("/").partition("/")
    try:
        return Address(unquote_to_bytes(bucket).decode(), unquote_to_bytes(key).decode(), resource)
    except UnicodeDecodeError:
        raise BadArgument("The object's key must be UTF-8.") from None
