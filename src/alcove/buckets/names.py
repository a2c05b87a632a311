"""Which names buckets and objects may have ("Bucket naming rules", "Object key naming", Amazon S3 user guide)."""

from __future__ import annotations

import ipaddress
import re

from alcove.buckets.errors import BadArgument, BadBucketName, KeyTooLong

KEY_LIMIT = 1024
_BUCKET = re.compile(r"[a-z0-9](?:[a-z0-9.-]{1,61})[a-z0-9]", re.ASCII)
# What XML 1.0 cannot say cannot be listed either.
_UNSPEAKABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def check_bucket(name: str) -> str:
    """Return the name. Raises ``BadBucketName``."""
    if not _BUCKET.fullmatch(name) or ".." in name or _is_address(name):
        raise BadBucketName(
            "The specified bucket is not valid.",
            hint="3 to 63 lower-case letters, digits, dots and hyphens; a letter or digit first and last",
        )
    return name


def check_key(key: str) -> str:
    """Return the key. Raises ``KeyTooLong``, ``BadArgument``."""
    if _UNSPEAKABLE.search(key):
        raise BadArgument("The object's key has characters that XML cannot hold.")
    if not key or len(key.encode()) > KEY_LIMIT:
        raise KeyTooLong(f"Your key is too long: it has 1 to {KEY_LIMIT} bytes.")
    return key


def _is_address(name: str) -> bool:
    try:
        ipaddress.IPv4Address(name)
    except ValueError:
        return False
    return True
