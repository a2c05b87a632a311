"""Buckets and objects as rows, and the changes to them that are one transaction each.

Everything here runs inside ``Database.write``: the change, what is counted for the tenant, and what functions are to be
told of it happen together or not at all. Each change returns the files that no row names any more.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass

from alcove.buckets import rules
from alcove.buckets.change import Cause, Change
from alcove.buckets.checksums import Kind, Plan
from alcove.buckets.errors import NoSuchBucket, NoSuchUpload, PreconditionFailed, SlowDown
from alcove.buckets.model import DEFAULT_TYPE, Attributes, Bucket, Part, Segment, StoredObject, Upload
from alcove.buckets.quota import Quota
from alcove.buckets.rules import ExtraRules
from alcove.host.clock import now_ms
from alcove.sandbox.protocol import TenantId
from alcove.store import buckets as rows
from alcove.store import outbox

# Events of one tenant that may wait for the queue of invocations.
OUTBOX_LIMIT = 100_000


@dataclass(frozen=True, slots=True)
class NewObject:
    """An object that is to be: its content is on the disk."""

    key: str
    segments: tuple[Segment, ...]
    etag: str
    attributes: Attributes
    event: str = "s3:ObjectCreated:Put"
    if_none_match: bool = False  # only where there is none under this key
    if_match: str = ""  # only in place of the one with this ETag

    @property
    def size(self) -> int:
        return sum(segment.size for segment in self.segments)


@dataclass(frozen=True, slots=True)
class Records:
    quota: Quota
    region: str
    extra: ExtraRules

    def bucket(self, connection: sqlite3.Connection, tenant: TenantId, name: str) -> Bucket:
        row = rows.find_bucket(connection, tenant, name)
        if row is None:
            raise NoSuchBucket("The specified bucket does not exist", hint="alcove bucket list shows what there is")
        return to_bucket(row)

    def put(
        self, connection: sqlite3.Connection, tenant: TenantId, bucket: str, new: NewObject, cause: Cause
    ) -> tuple[StoredObject, list[str]]:
        """Write an object in place of the one under its key, if any."""
        home = self.bucket(connection, tenant, bucket)
        old = rows.find_object(connection, home.id, new.key)
        if (new.if_none_match and old is not None) or (new.if_match and (old is None or old.etag != new.if_match)):
            raise PreconditionFailed("At least one of the pre-conditions you specified did not hold")
        freed = [] if old is None else self._take_out(connection, tenant, old)
        made = StoredObject(
            rows.next_sequence(connection), new.key, new.size, new.etag, now_ms(), attributes=new.attributes
        )
        row = rows.ObjectRow(
            made.id, home.id, made.key, made.size, made.etag, made.modified_ms, dump_attributes(new.attributes)
        )
        rows.insert_object(connection, row, [astuple(segment) for segment in new.segments])
        self.quota.count(connection, tenant, made.size, 1)
        kind = new.attributes.headers.get("content-type", DEFAULT_TYPE)
        change = Change(new.event, made.key, made.id, made.modified_ms, made.size, made.etag, kind)
        self._tell(connection, home, change, cause)
        return made, freed

    def delete(
        self, connection: sqlite3.Connection, tenant: TenantId, bucket: str, key: str, cause: Cause
    ) -> list[str]:
        """Remove an object; one that is not there is as good as removed, and of no interest to functions."""
        home = self.bucket(connection, tenant, bucket)
        old = rows.find_object(connection, home.id, key)
        if old is None:
            return []
        freed = self._take_out(connection, tenant, old)
        change = Change("s3:ObjectRemoved:Delete", key, rows.next_sequence(connection), now_ms())
        self._tell(connection, home, change, cause)
        return freed

    def upload(
        self, connection: sqlite3.Connection, tenant: TenantId, bucket: str, key: str, id: str
    ) -> tuple[Bucket, Upload]:
        home = self.bucket(connection, tenant, bucket)
        row = rows.find_upload(connection, home.id, key, id)
        if row is None:
            raise NoSuchUpload(
                "The specified upload does not exist. The upload ID may be invalid, or the upload may have been "
                "aborted or completed."
            )
        return home, to_upload(row)

    def put_part(
        self, connection: sqlite3.Connection, tenant: TenantId, where: tuple[str, str, str], part: Part
    ) -> list[str]:
        """``where``: bucket, key, upload."""
        _, upload = self.upload(connection, tenant, *where)
        old = rows.find_part(connection, upload.id, part.number)
        rows.put_part(
            connection,
            rows.PartRow(
                upload_id=upload.id,
                number=part.number,
                blob=part.segment.blob,
                size=part.segment.size,
                etag=part.etag,
                modified_ms=part.modified_ms,
                checksum=part.segment.checksum,
            ),
        )
        if old is not None:
            self.quota.count(connection, tenant, -old.size, -1)
        self.quota.count(connection, tenant, part.segment.size, 1)
        return [] if old is None else [old.blob]

    def end_upload(
        self, connection: sqlite3.Connection, tenant: TenantId, upload: Upload, kept: Sequence[Part] = ()
    ) -> list[str]:
        """Forget the upload; its files but those of the ``kept`` parts are free."""
        parts = rows.list_parts(connection, upload.id)
        self.quota.count(connection, tenant, -sum(part.size for part in parts), -len(parts))
        rows.delete_upload(connection, upload.id)
        return [part.blob for part in parts if part.number not in {one.number for one in kept}]

    def _take_out(self, connection: sqlite3.Connection, tenant: TenantId, old: rows.ObjectRow) -> list[str]:
        freed = [blob for blob, _, _ in rows.find_segments(connection, old.id)]
        rows.delete_object(connection, old.id)
        self.quota.count(connection, tenant, -old.size, -1)
        return freed

    def _tell(self, connection: sqlite3.Connection, bucket: Bucket, change: Change, cause: Cause) -> None:
        told = rules.told(bucket, change, cause, self.region, self.extra.of(bucket))
        if told and outbox.count_outbox(connection, bucket.tenant) + len(told) > OUTBOX_LIMIT:
            raise SlowDown("Too many events of this account wait; try again later.")
        for row in told:
            outbox.insert_outbox(connection, row)


def to_bucket(row: rows.BucketRow) -> Bucket:
    return Bucket(row.id, TenantId(row.tenant_id), row.name, row.created_ms, row.notification)


def to_object(row: rows.ObjectRow) -> StoredObject:
    return StoredObject(row.id, row.key, row.size, row.etag, row.modified_ms, load_attributes(row.attributes))


def to_upload(row: rows.UploadRow) -> Upload:
    return Upload(row.id, row.key, row.created_ms, load_attributes(row.attributes), load_plan(row.plan))


def to_part(row: rows.PartRow) -> Part:
    return Part(row.number, Segment(row.blob, row.size, row.checksum), row.etag, row.modified_ms)


def dump_attributes(attributes: Attributes) -> str:
    return json.dumps(asdict(attributes))


def dump_plan(plan: Plan) -> str:
    return json.dumps(asdict(plan)) if plan.explicit else ""


def load_plan(text: str) -> Plan:
    return Plan(**{**(found := json.loads(text)), "kind": Kind(found["kind"])}) if text else Plan()


def load_attributes(text: str) -> Attributes:
    return Attributes(**json.loads(text))
