"""Buckets and objects: the control plane of the object store.

Content goes to the disk first (``contents``, ``blobs``), then one transaction makes it an object, frees what it
replaces and writes down whom to tell (``records``). Killed anywhere, the store has the old object or the new one,
whole: files that no row names are removed at the next start.
"""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from alcove.buckets import names, records
from alcove.buckets import rules as notification
from alcove.buckets.blobs import BlobStore
from alcove.buckets.change import Cause
from alcove.buckets.contents import Arrival
from alcove.buckets.errors import (
    BucketExists,
    BucketNotEmpty,
    NoSuchKey,
    NoSuchUpload,
    SlowDown,
    TooManyBuckets,
)
from alcove.buckets.landing import Landing
from alcove.buckets.listing import Listing
from alcove.buckets.model import (
    BUCKETS_LIMIT,
    Attributes,
    Bucket,
    Limits,
    Page,
    Segment,
    StoredObject,
)
from alcove.buckets.quota import Quota
from alcove.buckets.records import NewObject, Records
from alcove.buckets.rules import ExtraRules, Rule
from alcove.buckets.uploads import Uploads
from alcove.host.clock import now_ms
from alcove.sandbox.protocol import TenantId
from alcove.store import buckets as rows
from alcove.store.database import Database

T = TypeVar("T")
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Opened:
    """An object whose content stays while it is read."""

    bucket: str
    object: StoredObject
    read: Callable[[int, int], AsyncIterator[bytes]]
    segments: tuple[Segment, ...] = ()


class BucketService:
    """``changed`` is called when there may be something in the outbox."""

    def __init__(self, database: Database, blobs: BlobStore, limits: Limits, region: str) -> None:
        self.database = database
        self.region = region
        self.changed: Callable[[], None] = lambda: None
        self.relations = ExtraRules()
        self._blobs = blobs
        quota = Quota(limits)
        self._records = Records(quota, region, self.relations)
        self._landing = Landing(database, blobs, self._records, lambda: self.changed())
        self.uploads = Uploads(database, self._landing, self._records, limits.uploads_kept_ms)

    @classmethod
    async def open(cls, state: Path, limits: Limits, region: str) -> BucketService:
        """Open the store in ``state``; what a killed server left half-done is gone."""
        database = await Database.open(state / "buckets.db", schema="buckets")
        blobs = BlobStore(state / "buckets")
        await blobs.recover(await database.read(rows.all_blobs))
        return cls(database, blobs, limits, region)

    async def close(self) -> None:
        await self._landing.close()
        await self.database.close()
        self._blobs.close()

    # Buckets

    async def create_bucket(self, tenant: TenantId, name: str) -> Bucket:
        """Raises ``BadBucketName``, ``BucketExists``, ``TooManyBuckets``."""
        row = rows.BucketRow(secrets.token_hex(16), tenant, names.check_bucket(name), "[]", now_ms())

        def change(connection: sqlite3.Connection) -> None:
            if len(rows.list_buckets(connection, tenant)) >= BUCKETS_LIMIT:
                raise TooManyBuckets("You have attempted to create more buckets than allowed")
            rows.insert_bucket(connection, row)

        try:
            await self.database.write(change)
        except sqlite3.IntegrityError:
            raise BucketExists(
                "Your previous request to create the named bucket succeeded and you already own it."
            ) from None
        return records.to_bucket(row)

    async def bucket(self, tenant: TenantId, name: str) -> Bucket:
        return await self.database.read(lambda connection: self._records.bucket(connection, tenant, name))

    async def buckets(self, tenant: TenantId) -> list[Bucket]:
        found = await self.database.read(lambda connection: rows.list_buckets(connection, tenant))
        return [records.to_bucket(row) for row in found]

    async def delete_bucket(self, tenant: TenantId, name: str) -> None:
        """Raises ``BucketNotEmpty`` while it has objects; uploads under way are aborted."""

        def check(connection: sqlite3.Connection) -> Bucket:
            home = self._records.bucket(connection, tenant, name)
            if not rows.is_empty(connection, home.id):
                raise BucketNotEmpty("The bucket you tried to delete is not empty", hint="delete its objects first")
            return home

        def change(connection: sqlite3.Connection) -> list[str]:
            home, freed = check(connection), []
            for row in rows.list_uploads(connection, home.id):
                freed += self._records.end_upload(connection, tenant, records.to_upload(row))
            rows.delete_bucket(connection, home.id)
            return freed

        await self.database.read(check)
        # Each in a transaction of its own: all at once they could keep others from writing for long.
        for upload in await self.uploads.list(tenant, name):
            with contextlib.suppress(NoSuchUpload):
                await self.uploads.abort(tenant, (name, upload.key, upload.id))
        await self._blobs.remove(await self.database.write(change))

    async def set_rules(self, tenant: TenantId, name: str, new: Sequence[Rule]) -> None:
        """Replace whom to tell of the bucket's changes."""
        text = notification.dump(notification.check(new))

        def change(connection: sqlite3.Connection) -> None:
            rows.set_notification(connection, self._records.bucket(connection, tenant, name).id, text)

        await self.database.write(change)

    async def delete_every(self, tenant: TenantId) -> None:
        """Delete all that the tenant has here."""
        for bucket in await self.buckets(tenant):
            while found := (await self.page(tenant, bucket.name, Listing())).objects:
                await self.set_rules(tenant, bucket.name, ())
                await self.delete(tenant, bucket.name, [one.key for one in found], Cause())
            await self.delete_bucket(tenant, bucket.name)
        await self.database.write(lambda connection: rows.forget_tenant(connection, tenant))

    # Objects

    async def put(
        self,
        tenant: TenantId,
        bucket: str,
        key: str,
        arrival: Arrival,
        attributes: Attributes,
        cause: Cause,
        *,
        event: str = "s3:ObjectCreated:Put",
        if_none_match: bool = False,
        if_match: str = "",
    ) -> StoredObject:
        """Store an object; it is on the disk when this returns."""
        names.check_key(key)
        with await self._landing.promise(tenant, bucket, arrival):
            written = await self._landing.receive(arrival, "" if arrival.named else arrival.default)
            kept = Attributes(attributes.headers, attributes.metadata, written.checksums)
            new = NewObject(key, (written.segment,), written.md5, kept, event, if_none_match, if_match)
            return await self._landing.commit(
                lambda connection: self._records.put(connection, tenant, bucket, new, cause), written
            )

    @asynccontextmanager
    async def open_object(self, tenant: TenantId, bucket: str, key: str) -> AsyncIterator[Opened]:
        """Yield an object whose content stays readable while the block runs. Raises ``NoSuchKey``."""

        def find(connection: sqlite3.Connection) -> tuple[StoredObject, list[Segment]]:
            home = self._records.bucket(connection, tenant, bucket)
            row = rows.find_object(connection, home.id, key)
            if row is None:
                raise NoSuchKey("The specified key does not exist.")
            return records.to_object(row), [Segment(*one) for one in rows.find_segments(connection, row.id)]

        for _ in range(_ATTEMPTS):
            found, segments = await self.database.read(find)
            async with self._blobs.holding(segments):
                # Replaced before it was held, its files may be gone.
                again, _ = await self.database.read(find)
                if again.id == found.id:
                    yield Opened(bucket, found, partial(self._blobs.read, segments), tuple(segments))
                    return
        raise SlowDown("The object changes too fast to be read; try again.")

    async def head(self, tenant: TenantId, bucket: str, key: str) -> StoredObject:
        async with self.open_object(tenant, bucket, key) as opened:
            return opened.object

    async def delete(
        self, tenant: TenantId, bucket: str, keys: Sequence[str], cause: Cause, only: Mapping[str, str] | None = None
    ) -> list[str]:
        """Delete objects, all in one transaction; return the keys whose objects are not those that ``only`` says, by
        their ETags (``*``: any), and stay.
        """

        def change(connection: sqlite3.Connection) -> tuple[list[str], list[str]]:
            freed: list[str] = []
            home = self._records.bucket(connection, tenant, bucket)
            others = [key for key, etag in (only or {}).items() if not _is(connection, home, key, etag)]
            for key in keys:
                if key not in others:
                    freed += self._records.delete(connection, tenant, bucket, key, cause)
            return others, freed

        return await self._landing.commit(change)

    async def page(self, tenant: TenantId, bucket: str, listing: Listing) -> Page:
        def query(connection: sqlite3.Connection) -> Page:
            return listing.page(connection, self._records.bucket(connection, tenant, bucket).id)

        return await self.database.read(query)


def _is(connection: sqlite3.Connection, bucket: Bucket, key: str, etag: str) -> bool:
    row = rows.find_object(connection, bucket.id, key)
    return row is not None and etag in (row.etag, "*")
