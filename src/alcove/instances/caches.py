"""Caches of images: fetched once, ahead of the instances that will use them, and kept until they are deleted.

A cache is written down, then its images are fetched one after the other; a daemon that starts goes on with those that
are not done. Images are the runtime's, shared by all: one goes with the last cache that names it, unless a pod does.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import sqlite3
from collections.abc import Sequence

from alcove.errors import AlcoveError, InvalidRequest, NotFound, QuotaExceeded
from alcove.host.clock import now_ms
from alcove.instances.cri import Unavailable
from alcove.instances.image_access import ImageAccess
from alcove.instances.manifest import IMAGE
from alcove.instances.pull_secrets import PullSecret, dump_secrets, load_secrets
from alcove.instances.runtime import Runtime
from alcove.sandbox.protocol import TenantId
from alcove.store import image_caches as rows
from alcove.store.database import Database
from alcove.store.image_caches import CacheRow

log = logging.getLogger(__name__)

# Of one tenant.
CACHES_LIMIT = 100
IMAGES_LIMIT = 20
RETRY_S = 2.0
_MESSAGE_LIMIT = 1000


class ImageCaches:
    """``start`` to ``close``."""

    def __init__(self, database: Database, runtime: Runtime, access: ImageAccess) -> None:
        self._database = database
        self._runtime = runtime
        self._access = access
        self._tasks: dict[str, asyncio.Task[None]] = {}
        # A registry that stalls holds up its tenant's caches, not others'.
        self._turns: dict[str, asyncio.Lock] = {}

    async def start(self) -> None:
        for row in await self._database.read(rows.list_creating):
            self._begin(row)

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def create(
        self, tenant: TenantId, name: str, images: Sequence[str], pull_secrets: Sequence[PullSecret] = ()
    ) -> CacheRow:
        """Write a cache down and set it going. Raises ``InvalidRequest`` or ``QuotaExceeded``."""
        if not 1 <= len(images) <= IMAGES_LIMIT:
            raise InvalidRequest(f"A cache has 1 to {IMAGES_LIMIT} images.")
        for image in images:
            if not IMAGE.fullmatch(image):
                raise InvalidRequest(f"{image[:200]!r} is no name of an image.")
        text = json.dumps(list(dict.fromkeys(images)))
        cache_id = f"imc-{secrets.token_hex(8)}"
        row = CacheRow(cache_id, tenant, name, text, now_ms(), secrets=dump_secrets(pull_secrets))
        await self._database.write(lambda c: _insert(c, row))
        self._begin(row)
        return row

    async def list(self, tenant: TenantId, *, skip: int, limit: int) -> tuple[Sequence[CacheRow], int]:
        """Return some of the tenant's caches, the newest first, and how many there are."""
        found = await self._database.read(lambda c: rows.list_caches(c, tenant, skip=skip, limit=limit))
        return found, await self._database.read(lambda c: rows.count_caches(c, tenant))

    async def delete(self, tenant: TenantId, ids: Sequence[str]) -> None:
        """Delete all of them. Raises ``NotFound`` where one is not there; then none is."""
        found = await self._database.write(lambda c: _remove(c, tenant, ids))
        for row in found:
            if (task := self._tasks.get(row.cache_id)) is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        for image in {name for row in found for name in row.names}:
            await self._drop(image)

    async def delete_every(self, tenant: TenantId) -> None:
        found = await self._database.read(lambda c: rows.list_caches(c, tenant))
        await self.delete(tenant, [row.cache_id for row in found])

    async def _drop(self, image: str) -> None:
        """Remove an image that came for caches alone, and that nobody names any more."""
        if not await self._database.write(lambda c: rows.take_unused(c, image)):
            return
        try:
            cri = await self._runtime.cri()
            if await cri.image(image) is not None:
                await cri.call("RemoveImage", {"image": {"image": image}})
        except AlcoveError as error:
            log.warning("the image %s stays: %s", image, error)

    def _begin(self, row: CacheRow) -> None:
        task = self._tasks[row.cache_id] = asyncio.create_task(self._fetch(row))
        task.add_done_callback(lambda _: self._tasks.pop(row.cache_id, None))

    async def _fetch(self, row: CacheRow) -> None:
        own, names, done = load_secrets(row.secrets), row.names, row.done
        async with self._turns.setdefault(row.tenant_id, asyncio.Lock()):
            while done < len(names):
                try:
                    await self._pull(row, names[done], own)
                except Unavailable:
                    await asyncio.sleep(RETRY_S)
                    continue
                except AlcoveError as error:
                    await self._note(row, rows.FAILED, done, f"{names[done]}: {error}"[:_MESSAGE_LIMIT])
                    return
                done += 1
                await self._note(row, rows.READY if done == len(names) else rows.CREATING, done)

    async def _pull(self, row: CacheRow, image: str, own: Sequence[PullSecret]) -> None:
        cri = await self._runtime.cri()
        if await cri.image(image) is None:
            await self._database.write(lambda c: rows.note_brought(c, image))
        await self._access.pull(cri, row.tenant_id, image, own)

    async def _note(self, row: CacheRow, state: str, done: int, message: str = "") -> None:
        await self._database.write(lambda c: rows.progress(c, row.cache_id, state, done, message))


def _insert(connection: sqlite3.Connection, row: CacheRow) -> None:
    if rows.count_caches(connection, row.tenant_id) >= CACHES_LIMIT:
        raise QuotaExceeded(f"A tenant has at most {CACHES_LIMIT} image caches.", code="image_caches")
    rows.insert_cache(connection, row)


def _remove(connection: sqlite3.Connection, tenant: str, ids: Sequence[str]) -> list[CacheRow]:
    found = []
    for cache_id in dict.fromkeys(ids):
        row = rows.find_cache(connection, tenant, cache_id)
        if row is None:
            raise NotFound(f"There is no image cache {cache_id[:80]!r}.", hint="list them")
        rows.delete_cache(connection, cache_id)
        found.append(row)
    return found
