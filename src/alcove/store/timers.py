"""Rows of timers. Each function runs inside ``Database.write`` or ``read``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from sqlite3 import Connection


@dataclass(frozen=True, slots=True)
class TimerRow:
    """Field order is column order."""

    id: str
    tenant_id: str
    name: str
    function: str
    qualifier: str
    schedule: str
    zone: str
    input: str
    shape: str
    enabled: int
    start_ms: int | None
    end_ms: int | None
    anchor_ms: int
    handled_ms: int
    last_error: str
    created_ms: int


_MARKS = ", ".join("?" * len(fields(TimerRow)))


def insert_timer(connection: Connection, row: TimerRow) -> None:
    """Raises ``sqlite3.IntegrityError`` where the tenant has a timer of that name."""
    connection.execute(f"INSERT INTO timers VALUES ({_MARKS})", astuple(row))  # noqa: S608


def replace_timer(connection: Connection, row: TimerRow) -> None:
    """Write a timer that exists anew."""
    delete_timer(connection, row.id)
    insert_timer(connection, row)


def find_timer(connection: Connection, tenant_id: str, name: str) -> TimerRow | None:
    row = connection.execute("SELECT * FROM timers WHERE tenant_id = ? AND name = ?", (tenant_id, name)).fetchone()
    return None if row is None else TimerRow(*row)


def list_timers(connection: Connection, tenant_id: str, after: str, limit: int) -> list[TimerRow]:
    """At most ``limit`` timers of the tenant with names greater than ``after``, by name."""
    rows = connection.execute(
        "SELECT * FROM timers WHERE tenant_id = ? AND name > ? ORDER BY name LIMIT ?", (tenant_id, after, limit)
    )
    return [TimerRow(*row) for row in rows]


def count_timers(connection: Connection, tenant_id: str) -> int:
    row = connection.execute("SELECT COUNT(*) FROM timers WHERE tenant_id = ?", (tenant_id,)).fetchone()
    return int(row[0])


def enabled_timers(connection: Connection) -> list[TimerRow]:
    return [TimerRow(*row) for row in connection.execute("SELECT * FROM timers WHERE enabled = 1")]


def delete_timer(connection: Connection, timer_id: str) -> None:
    connection.execute("DELETE FROM timers WHERE id = ?", (timer_id,))


def delete_timers(connection: Connection, tenant_id: str) -> list[TimerRow]:
    """Remove and return all timers of the tenant."""
    found = list_timers(connection, tenant_id, "", -1)
    connection.execute("DELETE FROM timers WHERE tenant_id = ?", (tenant_id,))
    return found


def set_handled(connection: Connection, handled: Iterable[tuple[str, int, str]]) -> None:
    """Note (timer, instant, error) of runs; an instant never moves back."""
    connection.executemany(
        "UPDATE timers SET handled_ms = MAX(handled_ms, ?2), last_error = ?3 WHERE id = ?1", list(handled)
    )
