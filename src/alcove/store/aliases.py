"""Rows of aliases. Each function runs inside ``Database.write`` or ``read``."""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields
from sqlite3 import Connection


@dataclass(frozen=True, slots=True)
class AliasRow:
    """Field order is column order. ``second_version`` is empty where all calls go to ``version``."""

    function_id: str
    name: str
    version: str
    second_version: str
    second_share: float
    description: str
    revision_id: str
    created_ms: int
    modified_ms: int


_MARKS = ", ".join("?" * len(fields(AliasRow)))


def put_alias(connection: Connection, row: AliasRow) -> None:
    """Insert, or replace the one of this name."""
    connection.execute(f"INSERT OR REPLACE INTO aliases VALUES ({_MARKS})", astuple(row))  # noqa: S608


def find_alias(connection: Connection, function_id: str, name: str) -> AliasRow | None:
    row = connection.execute("SELECT * FROM aliases WHERE function_id = ? AND name = ?", (function_id, name)).fetchone()
    return None if row is None else AliasRow(*row)


def list_aliases(
    connection: Connection, function_id: str, version: str, after: str, limit: int, skip: int = 0
) -> list[AliasRow]:
    """At most ``limit`` aliases with names greater than ``after``, less the first ``skip`` of them, by name; with a
    ``version``, those that use it.
    """
    rows = connection.execute(
        "SELECT * FROM aliases WHERE function_id = ?1 AND name > ?2 AND (?3 IN ('', version, second_version)) "
        "ORDER BY name LIMIT ?4 OFFSET ?5",
        (function_id, after, version, limit, skip),
    )
    return [AliasRow(*row) for row in rows]


def count_aliases(connection: Connection, function_id: str) -> int:
    row = connection.execute("SELECT COUNT(*) FROM aliases WHERE function_id = ?", (function_id,)).fetchone()
    return int(row[0])


def delete_alias(connection: Connection, function_id: str, name: str) -> bool:
    """Return whether there was one."""
    done = connection.execute("DELETE FROM aliases WHERE function_id = ? AND name = ?", (function_id, name))
    return done.rowcount > 0
