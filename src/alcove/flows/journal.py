"""What an execution writes down before it goes on: where each branch stands, and what has happened.

One write is one transaction. A branch that is found here goes on from where it stood; what it was doing then, it does
again. What does not fit on the disk now is tried again: an execution waits for that, it is not lost by it.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from alcove.errors import HostError, RetryLater
from alcove.flows.data import encode
from alcove.flows.faults import FinalFault
from alcove.host.clock import now_ms
from alcove.store import flows as rows
from alcove.store.database import Database
from alcove.store.flows import CheckpointRow, EventRow

log = logging.getLogger(__name__)
T = TypeVar("T")

EVENTS_LIMIT = 2000
DETAIL_LIMIT = 4096
# Of all branches of one execution together, in bytes.
POINTS_LIMIT = 4 << 20
UNSETTLED_S = 1.0


class Gone(Exception):
    """The execution does not run any more: it was stopped, or removed."""


def event(state: str, kind: str, **detail: Any) -> EventRow:
    """``detail`` is data that was looked at already; what is long is left out of the history."""
    text = encode(detail)
    if len(text) > DETAIL_LIMIT:
        text = encode({"truncated": True, "size": len(text)})
    return EventRow(state, kind, text, now_ms())


async def insist(work: Callable[[], Awaitable[T]]) -> T:
    """Do it again until the disk takes it."""
    while True:
        try:
            return await work()
        except (RetryLater, HostError) as error:
            log.warning("the executions of flows cannot be written: %s", error)
            await asyncio.sleep(UNSETTLED_S)


class Journal:
    """Of one execution that runs."""

    def __init__(self, database: Database, row: rows.ExecutionRow, points: Sequence[CheckpointRow]) -> None:
        self.row = row
        self._database = database
        self._points = {point.branch: point for point in points}
        self._size = sum(len(point.data) for point in points)
        self._events = row.events

    def point(self, branch: str) -> CheckpointRow | None:
        return self._points.get(branch)

    def below(self, prefix: str) -> list[str]:
        """Return the branches whose names begin so."""
        return [branch for branch in self._points if branch.startswith(prefix)]

    async def write(self, point: CheckpointRow, events: Sequence[EventRow] = (), *, forget: Sequence[str] = ()) -> None:
        """Raises ``Gone``, and ``FinalFault`` where the execution has used up what one may."""
        self._count(point, events, forget)
        execution = self.row.id

        def change(connection: sqlite3.Connection) -> bool:
            if not rows.add_events(connection, execution, events):
                return False
            rows.put_checkpoint(connection, execution, point)
            rows.delete_checkpoints(connection, execution, forget)
            return True

        if not await insist(lambda: self._database.write(change)):
            raise Gone

    def _count(self, point: CheckpointRow, events: Sequence[EventRow], forget: Sequence[str]) -> None:
        self._events += len(events)
        if self._events > EVENTS_LIMIT:
            raise FinalFault("XFlow.EventLimitExceeded", f"more than {EVENTS_LIMIT} events")
        for branch in forget:
            self._size -= len(self._points.pop(branch).data)
        before = self._points.get(point.branch)
        self._size += len(point.data) - (0 if before is None else len(before.data))
        self._points[point.branch] = point
        if self._size > POINTS_LIMIT:
            raise FinalFault("XFlow.DataLimitExceeded", f"its branches hold more than {POINTS_LIMIT} bytes")

    async def end(self, status: str, output: str, last: EventRow) -> bool:
        """Return whether it ran still."""
        execution = self.row.id

        def change(connection: sqlite3.Connection) -> bool:
            rows.add_events(connection, execution, [last])
            return rows.end_execution(connection, execution, status, output, last.time_ms)

        return await insist(lambda: self._database.write(change))
