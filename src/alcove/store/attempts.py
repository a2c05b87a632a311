"""Rows of failed tries of outside sources' items. Each function runs inside ``Database.write`` or ``read``."""

from __future__ import annotations

from collections.abc import Iterable
from sqlite3 import Connection


def known_attempts(connection: Connection, mapping: str, forget_before_ms: int) -> list[tuple[int, str, int]]:
    """Return (id, item, failures) of a mapping, the oldest first; what is too old is removed."""
    connection.execute("DELETE FROM attempts WHERE mapping = ? AND counted_ms < ?", (mapping, forget_before_ms))
    rows = connection.execute("SELECT id, item, failures FROM attempts WHERE mapping = ? ORDER BY id", (mapping,))
    return [(int(row[0]), str(row[1]), int(row[2])) for row in rows]


def add_attempt(connection: Connection, mapping: str, item: str, failures: int, moment_ms: int) -> int:
    """Return the row's id."""
    found = connection.execute(
        "INSERT INTO attempts (mapping, item, failures, counted_ms) VALUES (?, ?, ?, ?)",
        (mapping, item, failures, moment_ms),
    )
    assert found.lastrowid is not None
    return found.lastrowid


def set_attempts(connection: Connection, row_id: int, failures: int, moment_ms: int) -> None:
    connection.execute("UPDATE attempts SET failures = ?, counted_ms = ? WHERE id = ?", (failures, moment_ms, row_id))


def delete_attempts(connection: Connection, row_ids: Iterable[int]) -> None:
    connection.executemany("DELETE FROM attempts WHERE id = ?", [(row_id,) for row_id in row_ids])


def delete_attempts_of(connection: Connection, mapping: str) -> None:
    connection.execute("DELETE FROM attempts WHERE mapping = ?", (mapping,))
