"""From the outbox to the queue of invocations: every change is told of, once.

A row is written with its change and removed after the queue has accepted its event. Killed in between, the row is
handed in again, under the id it had: the queue accepts an id once. A tenant whose events the queue refuses for a while
waits; others do not.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from alcove.buckets.permission import May, caller
from alcove.errors import AlcoveError, HostError, RetryLater
from alcove.events.sink import EventSink
from alcove.sandbox.protocol import TenantId
from alcove.store import outbox as rows
from alcove.store.database import Database

log = logging.getLogger(__name__)

AT_ONCE = 64  # of one tenant
RETRY_S = 2.0


class Outbox:
    """``start`` to ``close``; ``look`` when there is something new."""

    def __init__(self, database: Database, sink: EventSink, may: May) -> None:
        self._database = database
        self._sink = sink
        self._may = may
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._changed.set()
        self._task = asyncio.create_task(self._run())

    def look(self) -> None:
        self._changed.set()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                refused = await self.drain()
            except AlcoveError as error:
                log.warning("events of buckets cannot be handed in: %s", error)
                refused = {""}
            if refused:
                await asyncio.sleep(RETRY_S)
                self._changed.set()

    async def drain(self) -> set[str]:
        """Hand in all that is there; return the tenants whose events the queue refuses now."""
        refused: set[str] = set()
        while True:
            without = frozenset(refused)
            found = await self._database.read(partial(rows.oldest_outbox, without=without, limit=AT_ONCE))
            if not found:
                return refused
            outcomes = await asyncio.gather(*(self._submit(row) for row in found))
            done = [row.id for row, accepted in zip(found, outcomes, strict=True) if accepted and row.id is not None]
            refused |= {row.tenant_id for row, accepted in zip(found, outcomes, strict=True) if not accepted}
            await self._database.write(partial(rows.delete_outbox, ids=done))

    async def _submit(self, row: rows.OutboxRow) -> bool:
        """Tell whether the row is done with."""
        tenant = TenantId(row.tenant_id)
        try:
            if row.source_arn and not await self._may(
                tenant, row.function, row.qualifier, caller(row.source_arn, tenant)
            ):
                log.warning("an event of %s is dropped: %s does not let it in", row.source_arn, row.function)
                return True
            await self._sink.submit(
                tenant,
                row.function,
                row.payload,
                qualifier=row.qualifier,
                source="s3",
                request_id=row.request_id,
            )
        except RetryLater:
            return False
        except AlcoveError as error:
            if isinstance(error, HostError):
                return False
            log.warning("an event for %s is dropped: %s", row.function, error)
        return True
