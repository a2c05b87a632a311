"""Uploads in parts: begun, filled, and made one object of several files, aborted, or expired."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from alcove.buckets import assembly, names, records
from alcove.buckets.assembly import Completion
from alcove.buckets.change import Cause
from alcove.buckets.checksums import Plan
from alcove.buckets.contents import Arrival
from alcove.buckets.errors import BadArgument, SlowDown
from alcove.buckets.landing import Landing
from alcove.buckets.model import PART_COUNT, UPLOADS_LIMIT, Attributes, Part, StoredObject, Upload, Written
from alcove.buckets.records import NewObject, Records
from alcove.host.clock import now_ms
from alcove.sandbox.protocol import TenantId
from alcove.store import buckets as rows
from alcove.store.database import Database


class Uploads:
    """``where`` is bucket, key and upload everywhere; an upload that is not there raises ``NoSuchUpload``."""

    def __init__(self, database: Database, landing: Landing, records: Records, kept_ms: int) -> None:
        self.kept_ms = kept_ms
        self._database = database
        self._landing = landing
        self._records = records

    async def begin(
        self, tenant: TenantId, bucket: str, key: str, attributes: Attributes, plan: Plan | None = None
    ) -> str:
        names.check_key(key)
        upload = secrets.token_hex(24)
        chosen = records.dump_plan(plan or Plan())

        def change(connection: sqlite3.Connection) -> None:
            home = self._records.bucket(connection, tenant, bucket)
            if len(rows.list_uploads(connection, home.id)) >= UPLOADS_LIMIT:
                raise SlowDown("Too many uploads are under way in this bucket.", hint="complete or abort some")
            text = records.dump_attributes(attributes)
            rows.insert_upload(connection, rows.UploadRow(upload, home.id, key, text, now_ms(), chosen))

        await self._database.write(change)
        return upload

    async def put_part(
        self, tenant: TenantId, where: tuple[str, str, str], number: int, arrival: Arrival
    ) -> tuple[Part, Written]:
        """``where``: bucket, key, upload. A part that is there is replaced."""
        if not 1 <= number <= PART_COUNT:
            raise BadArgument(f"Part number must be an integer between 1 and {PART_COUNT}, inclusive")
        _, upload = await self._database.read(lambda connection: self._records.upload(connection, tenant, *where))
        assembly.check_part(upload.plan, arrival.named)
        with await self._landing.promise(tenant, where[0], arrival):
            written = await self._landing.receive(arrival, upload.plan.algorithm)
            segment = replace(written.segment, checksum=written.checksums[upload.plan.algorithm])
            part = Part(number, segment, written.md5, now_ms())
            await self._landing.commit(
                lambda connection: (part, self._records.put_part(connection, tenant, where, part)), written
            )
        return part, written

    async def complete(
        self, tenant: TenantId, where: tuple[str, str, str], wanted: Completion, cause: Cause
    ) -> StoredObject:
        """Make one object of the parts, without copying any."""
        bucket, key, _ = where

        def change(connection: sqlite3.Connection) -> tuple[StoredObject, list[str]]:
            _, upload = self._records.upload(connection, tenant, *where)
            there = {row.number: records.to_part(row) for row in rows.list_parts(connection, upload.id)}
            parts = assembly.choose(there, wanted, upload.plan)
            new = NewObject(
                key,
                tuple(part.segment for part in parts),
                assembly.etag(parts),
                assembly.attributes(upload, parts, wanted),
                "s3:ObjectCreated:CompleteMultipartUpload",
                wanted.if_none_match,
                wanted.if_match,
            )
            freed = self._records.end_upload(connection, tenant, upload, parts)
            made, replaced = self._records.put(connection, tenant, bucket, new, cause)
            return made, freed + replaced

        return await self._landing.commit(change)

    async def abort(self, tenant: TenantId, where: tuple[str, str, str]) -> None:
        def change(connection: sqlite3.Connection) -> tuple[None, list[str]]:
            _, upload = self._records.upload(connection, tenant, *where)
            return None, self._records.end_upload(connection, tenant, upload)

        await self._landing.commit(change)

    async def expire(self, before_ms: int) -> int:
        """Abort the uploads that began before that moment, each in a transaction of its own; return how many."""

        def change(connection: sqlite3.Connection, tenant: TenantId, id: str) -> tuple[None, list[str]]:
            row = rows.find_upload_by_id(connection, id)
            return None, [] if row is None else self._records.end_upload(connection, tenant, records.to_upload(row))

        count = 0
        while found := await self._database.read(partial(rows.old_uploads, before_ms=before_ms)):
            for tenant, id in found:
                await self._landing.commit(partial(change, tenant=TenantId(tenant), id=id))
            count += len(found)
        return count

    async def parts(
        self, tenant: TenantId, where: tuple[str, str, str], after: int, limit: int
    ) -> tuple[Upload, Sequence[Part]]:
        def query(connection: sqlite3.Connection) -> tuple[Upload, Sequence[Part]]:
            _, upload = self._records.upload(connection, tenant, *where)
            return upload, [records.to_part(row) for row in rows.list_parts(connection, upload.id, after, limit)]

        return await self._database.read(query)

    async def list(self, tenant: TenantId, bucket: str) -> Sequence[Upload]:
        def query(connection: sqlite3.Connection) -> Sequence[Upload]:
            home = self._records.bucket(connection, tenant, bucket)
            return [records.to_upload(row) for row in rows.list_uploads(connection, home.id)]

        return await self._database.read(query)
