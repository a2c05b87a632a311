"""Whom to tell of which changes, and in which words.

A rule is one ``LambdaFunctionConfiguration`` of a bucket's notification: kinds of event, the key's prefix and suffix,
the function. The event has the shape of "Event message structure" in the Amazon S3 user guide, version 2.1. Its request
id is derived from the change's sequencer and the rule, so that however often it is handed in it is accepted once.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from urllib.parse import quote_plus

from alcove.buckets.bos_event import bos_event
from alcove.buckets.change import Cause, Change
from alcove.buckets.errors import BadArgument
from alcove.buckets.model import Bucket
from alcove.buckets.permission import source_arn
from alcove.store.outbox import OutboxRow

RULES_LIMIT = 100
EVENTS = frozenset(
    (
        *("s3:ObjectCreated:*", "s3:ObjectCreated:Put", "s3:ObjectCreated:Post", "s3:ObjectCreated:Copy"),
        *("s3:ObjectCreated:CompleteMultipartUpload", "s3:ObjectRemoved:*", "s3:ObjectRemoved:Delete"),
        "s3:ObjectRemoved:DeleteMarkerCreated",
    )
)
_SPACE = uuid.UUID("0b3a5c0e-6d0f-5c8f-9c39-6f2f6a1a7c11")


EVERYTHING = ("s3:ObjectCreated:*", "s3:ObjectRemoved:*")


class Shape(StrEnum):
    """In whose words a function is told."""

    S3 = "s3"
    BOS = "bos"


@dataclass(frozen=True, slots=True)
class Rule:
    """``function`` and ``qualifier`` are names of the bucket's own tenant."""

    id: str
    events: tuple[str, ...]
    function: str
    qualifier: str
    prefix: str = ""
    suffix: str = ""
    shape: str = Shape.S3

    def wants(self, event: str, key: str) -> bool:
        if not (key.startswith(self.prefix) and key.endswith(self.suffix)):
            return False
        return any(event == one or (one.endswith("*") and event.startswith(one[:-1])) for one in self.events)


class ExtraRules:
    """Rules that are kept elsewhere: by a bucket's tenant and name, whether there is such a bucket or not."""

    def __init__(self) -> None:
        self._rules: dict[tuple[str, str], dict[str, Rule]] = {}

    def put(self, tenant: str, bucket: str, rule: Rule) -> None:
        # What is being looked through is not changed: other threads read.
        self._rules[tenant, bucket] = {**self._rules.get((tenant, bucket), {}), rule.id: rule}

    def remove(self, tenant: str, bucket: str, rule_id: str) -> None:
        left = {key: rule for key, rule in self._rules.get((tenant, bucket), {}).items() if key != rule_id}
        self._rules.pop((tenant, bucket), None)
        if left:
            self._rules[tenant, bucket] = left

    def of(self, bucket: Bucket) -> tuple[Rule, ...]:
        return tuple(self._rules.get((bucket.tenant, bucket.name), {}).values())


def check(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """Return the rules. Raises ``BadArgument``."""
    checked = tuple(rules)
    if len(checked) > RULES_LIMIT:
        raise BadArgument(f"A bucket has at most {RULES_LIMIT} notification configurations.")
    for rule in checked:
        unknown = [event for event in rule.events if event not in EVENTS]
        if unknown or not rule.events:
            raise BadArgument(f"The event is not supported for notifications: {', '.join(unknown)[:200]}")
        if len(rule.id) > 255 or len(rule.prefix) > 1024 or len(rule.suffix) > 1024:
            raise BadArgument("An id or a filter is too long.")
    if len({rule.id for rule in checked}) != len(checked):
        raise BadArgument("Configurations must have ids of their own.")
    return checked


def dump(rules: Iterable[Rule]) -> str:
    return json.dumps([asdict(rule) for rule in rules])


def load(text: str) -> tuple[Rule, ...]:
    return tuple(Rule(**{**one, "events": tuple(one["events"])}) for one in json.loads(text))


def told(bucket: Bucket, change: Change, cause: Cause, region: str, extra: tuple[Rule, ...] = ()) -> list[OutboxRow]:
    """Return what the change has functions called with. Rules of S3's kind need the function's permission; a relation
    of CFC is one.
    """
    rows = []
    for rule in (*load(bucket.notification), *extra):
        if rule.wants(change.event, change.key):
            request_id = str(uuid.uuid5(_SPACE, f"{bucket.id}/{change.sequencer}/{rule.id}"))
            if rule.shape == Shape.BOS:
                source, event = "", {"events": [bos_event(bucket, rule.id, change, cause, request_id)]}
            else:
                source = source_arn(bucket.name)
                event = {"Records": [record(bucket, rule.id, change, cause, region)]}
            payload = json.dumps(event).encode()
            rows.append(OutboxRow(None, bucket.tenant, rule.function, rule.qualifier, request_id, payload, source))
    return rows


def record(bucket: Bucket, rule: str, change: Change, cause: Cause, region: str) -> dict[str, Any]:
    """Return one record of an S3 event. Keys are encoded as in a form: a space is a plus sign."""
    moment = datetime.fromtimestamp(change.at_ms / 1000, UTC)
    subject: dict[str, Any] = {"key": quote_plus(change.key, safe="/")}
    if change.size is not None:
        subject |= {"size": change.size, "eTag": change.etag}
    subject["sequencer"] = f"{change.sequencer:018X}"
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": region,
        "eventTime": moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{change.at_ms % 1000:03d}Z",
        "eventName": change.event.removeprefix("s3:"),
        "userIdentity": {"principalId": cause.principal},
        "requestParameters": {"sourceIPAddress": cause.address},
        "responseElements": {"x-amz-request-id": cause.request_id, "x-amz-id-2": cause.request_id},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": rule,
            "bucket": {
                "name": bucket.name,
                "ownerIdentity": {"principalId": bucket.tenant},
                "arn": source_arn(bucket.name),
            },
            "object": subject,
        },
    }
