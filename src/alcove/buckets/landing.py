"""Content on its way into the store: room is promised, it is received, a transaction makes it part of the store."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from alcove.buckets.blobs import BlobStore
from alcove.buckets.contents import Arrival, receive
from alcove.buckets.errors import EntityTooLarge
from alcove.buckets.model import OBJECT_LIMIT, Written
from alcove.buckets.records import Records
from alcove.sandbox.protocol import TenantId
from alcove.store import buckets as rows
from alcove.store.database import Database

T = TypeVar("T")


class Landing:
    """``changed`` is called after each change."""

    def __init__(self, database: Database, blobs: BlobStore, records: Records, changed: Callable[[], None]) -> None:
        self._database = database
        self._blobs = blobs
        self._records = records
        self._changed = changed
        self._committing: set[asyncio.Future[Any]] = set()

    async def close(self) -> None:
        await asyncio.gather(*self._committing, return_exceptions=True)

    async def promise(self, tenant: TenantId, bucket: str, arrival: Arrival) -> AbstractContextManager[None]:
        """Keep room for what arrives while the block runs. Raises ``NoSuchBucket``, ``QuotaExceeded``."""
        size = arrival.expected.size
        if size > OBJECT_LIMIT:
            raise EntityTooLarge("Your proposed upload exceeds the maximum allowed size", hint="upload it in parts")

        def query(connection: sqlite3.Connection) -> tuple[int, int]:
            self._records.bucket(connection, tenant, bucket)
            return rows.stored(connection, tenant)

        return self._records.quota.promise(tenant, await self._database.read(query), size)

    async def receive(self, arrival: Arrival, also: str = "") -> Written:
        """Write it to the disk; ``also``: a checksum that is computed beside those that the client names."""
        return await receive(self._blobs, arrival, frozenset({also} if also else ()))

    async def commit(
        self, change: Callable[[sqlite3.Connection], tuple[T, list[str]]], written: Written | None = None
    ) -> T:
        """Write a change, which returns its result and the files that it frees; what was ``written`` for it goes where
        it fails. Not cut short by a caller that is cancelled: it could not know which of the two.
        """

        async def commit() -> T:
            try:
                made, freed = await self._database.write(change)
            except BaseException:
                if written is not None:
                    await self._blobs.remove([written.segment.blob])
                raise
            self._changed()
            await self._blobs.remove(freed)
            return made

        task = asyncio.ensure_future(commit())
        self._committing.add(task)
        task.add_done_callback(self._committing.discard)
        return await asyncio.shield(task)
