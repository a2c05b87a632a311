"""Rows of the queue of asynchronous invocations. Each function runs inside ``Database.write`` or ``read``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from sqlite3 import Connection


@dataclass(frozen=True, slots=True)
class EventRow:
    """Field order is column order, after ``sequence``."""

    request_id: str
    tenant_id: str
    function: str  # its name; the ARN of what else takes it
    qualifier: str
    payload: bytes
    source: str
    trace_id: str
    client_context: str
    accepted_ms: int
    due_ms: int
    failures: int = 0
    refusals: int = 0
    depth: int = 0
    sequence: int = 0


_COLUMNS = (
    "request_id, tenant_id, function, qualifier, payload, source, trace_id, client_context, accepted_ms, due_ms, "
    "failures, refusals, depth"
)


def insert_events(connection: Connection, rows: Iterable[EventRow]) -> int:
    """Accept the events whose ids are neither waiting nor finished; return how many those were."""
    accepted = 0
    for row in rows:
        if connection.execute("SELECT 1 FROM finished WHERE request_id = ?", (row.request_id,)).fetchone():
            continue
        values = (
            *(row.request_id, row.tenant_id, row.function, row.qualifier, row.payload, row.source, row.trace_id),
            *(row.client_context, row.accepted_ms, row.due_ms, row.failures, row.refusals, row.depth),
        )
        accepted += connection.execute(
            f"INSERT OR IGNORE INTO events ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
            values,
        ).rowcount
    return accepted


# Goes from function to function by the index, so that it costs by functions that wait, not by their events.
_DUE = """
WITH RECURSIVE waiting (tenant_id, function) AS (
    SELECT * FROM (SELECT tenant_id, function FROM events ORDER BY tenant_id, function LIMIT 1)
    UNION ALL
    SELECT next.tenant_id, next.function FROM waiting JOIN events AS next ON next.sequence = coalesce(
        (SELECT sequence FROM events WHERE tenant_id = waiting.tenant_id AND function > waiting.function
         ORDER BY function LIMIT 1),
        (SELECT sequence FROM events WHERE tenant_id > waiting.tenant_id ORDER BY tenant_id, function LIMIT 1))
)
SELECT sequence, tenant_id, function FROM (
    SELECT due.sequence, due.tenant_id, due.function, due.due_ms,
        ROW_NUMBER() OVER (PARTITION BY due.tenant_id, due.function ORDER BY due.due_ms, due.sequence) AS place
    FROM waiting JOIN events AS due ON due.sequence IN (
        SELECT sequence FROM events
        WHERE tenant_id = waiting.tenant_id AND function = waiting.function AND due_ms <= :now_ms
        ORDER BY due_ms, sequence LIMIT :of_one)
) ORDER BY place, due_ms, sequence LIMIT :limit
"""


def due_events(connection: Connection, now_ms: int, *, of_one: int, limit: int) -> list[tuple[int, str, str]]:
    """Return (sequence, tenant, function) of what is due: the first of each function, then the second of each, at
    most ``of_one`` of each, so that no backlog is in another's way.
    """
    found = connection.execute(_DUE, {"now_ms": now_ms, "of_one": of_one, "limit": limit})
    return [(row[0], row[1], row[2]) for row in found]


def next_due_ms(connection: Connection, after_ms: int) -> int | None:
    row = connection.execute("SELECT MIN(due_ms) FROM events WHERE due_ms > ?", (after_ms,)).fetchone()
    return None if row[0] is None else int(row[0])


def find_events(connection: Connection, sequences: Iterable[int]) -> list[EventRow]:
    """Return those that are there, by sequence."""
    wanted = ", ".join(map(str, map(int, sequences)))
    rows = connection.execute(f"SELECT {_COLUMNS}, sequence FROM events WHERE sequence IN ({wanted}) ORDER BY sequence")  # noqa: S608
    return [EventRow(*row) for row in rows.fetchall()]


def postpone_event(connection: Connection, sequence: int, due_ms: int, failures: int, refusals: int) -> None:
    connection.execute(
        "UPDATE events SET due_ms = ?, failures = ?, refusals = ? WHERE sequence = ?",
        (due_ms, failures, refusals, sequence),
    )


def finish_event(connection: Connection, row: EventRow, now_ms: int, forget_before_ms: int) -> int:
    """Remove an event, if it is there, and return how many that were; an id that its caller gave is kept, and those
    that are old are forgotten.
    """
    removed = connection.execute("DELETE FROM events WHERE sequence = ?", (row.sequence,)).rowcount
    if row.source != "invoke":
        connection.execute("INSERT OR IGNORE INTO finished VALUES (?, ?)", (row.request_id, now_ms))
        connection.execute("DELETE FROM finished WHERE finished_ms < ?", (forget_before_ms,))
    return removed


def delete_events(connection: Connection, tenant_id: str) -> int:
    """Remove all events of the tenant; return how many there were."""
    return connection.execute("DELETE FROM events WHERE tenant_id = ?", (tenant_id,)).rowcount


def oldest_event_ms(connection: Connection) -> int | None:
    """Return when the oldest event was accepted, None where there is none."""
    row = connection.execute("SELECT accepted_ms FROM events ORDER BY sequence LIMIT 1").fetchone()
    return None if row is None else int(row[0])


def waiting_by_tenant(connection: Connection) -> dict[str, int]:
    return {row[0]: row[1] for row in connection.execute("SELECT tenant_id, COUNT(*) FROM events GROUP BY tenant_id")}
