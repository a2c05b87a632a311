"""The source of CFC's relations that are buckets: ``bos/BUCKET``.

A relation is one more rule of its bucket, kept beside those that S3's clients set, and told in BOS's words. The rules
are in memory: every start attaches all relations anew, before anything is answered. A bucket that is not there yet is
no mistake: its first object calls.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alcove.buckets.rules import EVERYTHING, Rule, Shape
from alcove.buckets.service import BucketService
from alcove.errors import InvalidRequest
from alcove.triggers.relation import Address, Relation, enabled

PREFIX = "bos/"
# BOS's kinds of event ("PutNotification", BOS API reference; "data types", CFC API reference), in S3's words. There is
# no way here to append to an object, or to have one fetched.
EVENTS = {
    "PutObject": "s3:ObjectCreated:Put",
    "PostObject": "s3:ObjectCreated:Post",
    "AppendObject": "s3:ObjectCreated:Append",
    "CopyObject": "s3:ObjectCreated:Copy",
    "CompleteMultipartUpload": "s3:ObjectCreated:CompleteMultipartUpload",
    "CompleteMultipartObject": "s3:ObjectCreated:CompleteMultipartUpload",
    "FetchObject": "s3:ObjectCreated:Fetch",
    "DeleteObject": "s3:ObjectRemoved:Delete",
    "DeleteMultipleObjects": "s3:ObjectRemoved:Delete",
}


class BucketSource:
    """Data: EventType (names or a list of them; without it all), Resource (a prefix, or PREFIX*SUFFIX, with or without
    the bucket's name before it) or Prefix and Suffix, Status.
    """

    address = Address.NONE
    signed = False

    def __init__(self, buckets: BucketService) -> None:
        self._buckets = buckets

    def check(self, data: Mapping[str, Any]) -> dict[str, Any]:
        _events(data)
        _filters(data)
        enabled(data, "Status")
        return dict(data)

    async def attach(self, relation: Relation) -> None:
        row, data = relation.row, relation.data
        bucket = row.source.removeprefix(PREFIX)
        if not enabled(data, "Status"):
            self._buckets.relations.remove(relation.tenant, bucket, relation.id)
            return
        prefix, suffix = _filters(data, bucket)
        rule = Rule(relation.id, _events(data), row.function, row.qualifier, prefix, suffix, Shape.BOS)
        self._buckets.relations.put(relation.tenant, bucket, rule)

    async def detach(self, relation: Relation) -> None:
        bucket = relation.row.source.removeprefix(PREFIX)
        self._buckets.relations.remove(relation.tenant, bucket, relation.id)


def _events(data: Mapping[str, Any]) -> tuple[str, ...]:
    """Raises ``InvalidRequest``."""
    given = data.get("EventType") or []
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list) or not all(isinstance(name, str) and name in EVENTS for name in names):
        raise InvalidRequest(f"EventType must be of {', '.join(EVENTS)}.")
    return tuple(dict.fromkeys(EVENTS[name] for name in names)) or EVERYTHING


def _filters(data: Mapping[str, Any], bucket: str = "") -> tuple[str, str]:
    """Return prefix and suffix of the keys. Raises ``InvalidRequest``."""
    resource, prefix, suffix = (data.get(name) or "" for name in ("Resource", "Prefix", "Suffix"))
    if not all(isinstance(one, str) for one in (resource, prefix, suffix)) or resource.count("*") > 1:
        raise InvalidRequest("Resource must be a prefix, or a prefix, an asterisk and a suffix.")
    if not resource:
        return prefix.removeprefix("/"), suffix
    if prefix or suffix:
        raise InvalidRequest("Data has either Resource or Prefix and Suffix.")
    if bucket:
        resource = resource.removeprefix(f"{bucket}/")
    prefix, _, suffix = resource.removeprefix("/").partition("*")
    return prefix, suffix
