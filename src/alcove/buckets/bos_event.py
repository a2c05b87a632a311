"""A change of an object as functions get it from BOS's triggers of CFC.

Source: "Push event messages" and "PostEvent" in the BOS API reference, which the documentation of CFC's BOS trigger
goes by. There are no temporary credentials in it: a function has a key of its own.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from alcove.buckets.change import Cause, Change
from alcove.buckets.model import Bucket

DOMAIN = "s3.localhost"
# By S3's names. A batch of deletions is told of one by one, as S3 does.
NAMES = {
    "s3:ObjectCreated:Put": "PutObject",
    "s3:ObjectCreated:Post": "PostObject",
    "s3:ObjectCreated:Copy": "CopyObject",
    "s3:ObjectCreated:CompleteMultipartUpload": "CompleteMultipartUpload",
    "s3:ObjectRemoved:Delete": "DeleteObject",
}


def bos_event(bucket: Bucket, rule: str, change: Change, cause: Cause, event_id: str) -> dict[str, Any]:
    """Return one event. Keys are as they are, unlike in S3's events."""
    moment = datetime.fromtimestamp(change.at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    content: dict[str, Any] = {"userId": bucket.tenant, "domain": DOMAIN, "bucket": bucket.name, "object": change.key}
    if change.size is not None:
        content |= {"eTag": change.etag, "contentType": change.content_type, "filesize": change.size}
    content["lastModified"] = moment
    if cause.copied_from is not None:
        content |= {"copySourceBucket": cause.copied_from[0], "copySourceObject": cause.copied_from[1]}
    return {
        "version": "1.0",
        "eventFrom": "Client",
        "eventId": event_id,
        "eventOrigin": "bos:realtime",
        "eventTime": moment,
        "eventType": NAMES[change.event],
        "configurationId": rule,
        "content": content,
    }
