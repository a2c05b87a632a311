"""Uploads in parts that nobody completes: aborted when they are older than ``Limits.uploads_kept_ms``.

Age counts from the beginning of an upload, as in S3's rule AbortIncompleteMultipartUpload, on the wall clock, so a
server that was down makes up for it at its start. A client that is late is told NoSuchUpload.
"""

from __future__ import annotations

import asyncio
import logging

from alcove.buckets.service import BucketService
from alcove.errors import AlcoveError
from alcove.host.clock import now_ms

log = logging.getLogger(__name__)

EVERY_S = 600.0


class UploadExpiry:
    """``start`` to ``close``."""

    def __init__(self, buckets: BucketService) -> None:
        self._buckets = buckets
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                await self.sweep(now_ms())
            except AlcoveError as error:
                log.warning("old uploads cannot be aborted: %s", error)
            await asyncio.sleep(EVERY_S)

    async def sweep(self, at_ms: int) -> int:
        """Abort what is too old at that moment; return how many uploads that were."""
        count = await self._buckets.uploads.expire(at_ms - self._buckets.uploads.kept_ms)
        if count:
            log.info("aborted %d uploads that nobody completed", count)
        return count
