"""The durable queue of asynchronous invocations: what is accepted is on the disk before its caller is told.

What is accepted, done or put off within a moment shares one transaction, hence one fsync. An id that is given twice is
accepted once, also after its event is done (for ``REMEMBER_S``): triggers use that against firing twice.
"""

from __future__ import annotations

import asyncio
import sqlite3
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from alcove.errors import ThrottledError, TooLarge
from alcove.events.policy import EVENT_LIMIT, REMEMBER_S
from alcove.host.clock import now_ms
from alcove.sandbox.protocol import TenantId
from alcove.store import events as rows
from alcove.store.database import Database
from alcove.store.group import GroupWriter
from alcove.tenants.quotas import Quotas


class EventQueue:
    """An ``EventSink`` over a file of its own. ``accepted`` is called when there is something to deliver."""

    def __init__(self, database: Database, waiting: dict[str, int], limit: Callable[[TenantId], int]) -> None:
        self.accepted: Callable[[], None] = lambda: None
        self._limit = limit
        self.database = database
        self._writer = GroupWriter(database)
        self._waiting = Counter(waiting)

    @classmethod
    async def open(cls, path: Path, limit: Callable[[TenantId], int] = lambda tenant: Quotas().events) -> EventQueue:
        """``limit`` says how many events of a tenant may wait."""
        database = await Database.open(path, schema="events")
        return cls(database, await database.read(rows.waiting_by_tenant), limit)

    def depth(self, tenant: TenantId) -> int:
        return self._waiting[tenant]

    def __len__(self) -> int:
        return self._waiting.total()

    async def submit(
        self,
        tenant: TenantId,
        function: str,
        event: bytes,
        *,
        qualifier: str = "",
        source: str = "invoke",
        request_id: str = "",
        trace_id: str = "",
        client_context: str = "",
    ) -> str:
        """Accept an event; return its request id. Raises ``TooLarge``, ``ThrottledError``, ``CapacityError``."""
        if len(event) > EVENT_LIMIT:
            raise TooLarge(f"{len(event)} bytes exceed the {EVENT_LIMIT} bytes of an asynchronous event")
        if self._waiting[tenant] >= self._limit(tenant):
            raise ThrottledError("Rate Exceeded.", hint="too many asynchronous invocations wait; try again later")
        request_id = request_id or str(uuid.uuid4())
        moment = now_ms()
        row = rows.EventRow(
            request_id, tenant, function, qualifier, event, source, trace_id, client_context, moment, moment
        )
        # Counted at once, so that no more than the limit pass it together.
        self._waiting[tenant] += 1
        done = self._writer.hand_over(lambda connection: rows.insert_events(connection, [row]))
        # Also where its caller is gone meanwhile.
        done.add_done_callback(partial(self._written, tenant))
        await asyncio.shield(done)
        return request_id

    def _written(self, tenant: TenantId, done: asyncio.Future[int]) -> None:
        inserted = 0 if done.exception() is not None else done.result()
        self._waiting[tenant] += inserted - 1
        if inserted:
            self.accepted()

    async def finish(self, row: rows.EventRow, following: Sequence[rows.EventRow] = ()) -> None:
        """Remove an event that is done, or given up; accept, in the same transaction, what follows from it.

        What follows is bounded by what was accepted, so the limit of the tenant does not hold for it.
        """
        moment = now_ms()
        horizon = moment - REMEMBER_S * 1000

        def change(connection: sqlite3.Connection) -> int:
            removed = rows.finish_event(connection, row, moment, horizon)
            return rows.insert_events(connection, following) - removed

        more = await self._writer.write(change)
        self._waiting[row.tenant_id] += more
        if following:
            self.accepted()

    async def postpone(self, row: rows.EventRow, delay_s: float, *, failures: int, refusals: int) -> None:
        """Have an event delivered again, ``delay_s`` from now."""
        due_ms = now_ms() + int(delay_s * 1000)
        await self._writer.write(
            lambda connection: rows.postpone_event(connection, row.sequence, due_ms, failures, refusals)
        )

    async def delete_every(self, tenant: TenantId) -> None:
        """Remove all events of a tenant; what is being delivered is not cut short."""
        self._waiting[tenant] -= await self._writer.write(lambda connection: rows.delete_events(connection, tenant))

    async def close(self) -> None:
        await self._writer.close()
        await self.database.close()
