"""Buckets as destinations of events: an ``events.target.DestinationSink``.

The key is Lambda's (``aws/lambda/async/FUNCTION/YYYY/MM/DD/YYYY-MM-DDTHH.MM.SS-ID``), made of the record alone and
written only where there is none under it: so a record that is handed over again is there already.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping

from alcove.buckets.change import Cause
from alcove.buckets.contents import Arrival, Expected, Late
from alcove.buckets.errors import PreconditionFailed
from alcove.buckets.model import Attributes
from alcove.buckets.service import BucketService
from alcove.errors import InvalidRequest
from alcove.sandbox.protocol import TenantId

_ARN = "arn:aws:s3:::"


class BucketSink:
    def __init__(self, buckets: BucketService) -> None:
        self._buckets = buckets

    async def check(self, tenant: TenantId, arn: str) -> None:
        await self._buckets.bucket(tenant, _name(arn))

    async def put(
        self, tenant: TenantId, arn: str, record: bytes, *, record_id: str, attributes: Mapping[str, str | int]
    ) -> None:
        arrival = Arrival(_whole(record), Expected(len(record)), frozenset(), Late())
        kept = Attributes(headers={"content-type": "application/json"})
        cause = Cause(principal="lambda.amazonaws.com", request_id=record_id)
        try:
            await self._buckets.put(
                tenant, _name(arn), _key(record, record_id), arrival, kept, cause, if_none_match=True
            )
        except PreconditionFailed:
            return


def _name(arn: str) -> str:
    if not arn.startswith(_ARN):
        raise InvalidRequest(f"{arn[:200]!r} is not the ARN of a bucket.")
    return arn.removeprefix(_ARN)


def _key(record: bytes, record_id: str) -> str:
    document = json.loads(record)
    function = document["requestContext"]["functionArn"].split(":")[6]
    day, _, time = document["timestamp"].partition("T")
    stamp = f"{day}T{time[:8].replace(':', '.')}"
    return f"aws/lambda/async/{function}/{day.replace('-', '/')}/{stamp}-{record_id}"


async def _whole(record: bytes) -> AsyncIterator[bytes]:
    yield record
