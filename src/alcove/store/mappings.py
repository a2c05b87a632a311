"""Rows of event source mappings. Each function runs inside ``Database.write`` or ``read``."""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields
from sqlite3 import Connection

from alcove.store.attempts import delete_attempts_of


@dataclass(frozen=True, slots=True)
class MappingRow:
    """Field order is column order."""

    uuid: str
    tenant_id: str
    function: str
    qualifier: str
    source: str
    spec: str
    enabled: int
    deleting: int
    created_ms: int
    modified_ms: int


_MARKS = ", ".join("?" * len(fields(MappingRow)))


def put_mapping(connection: Connection, row: MappingRow) -> None:
    """Insert, or write anew. Raises ``sqlite3.IntegrityError`` where another one has the same source and function."""
    connection.execute("DELETE FROM mappings WHERE uuid = ?", (row.uuid,))
    connection.execute(f"INSERT INTO mappings VALUES ({_MARKS})", astuple(row))  # noqa: S608


def find_mapping(connection: Connection, uuid: str) -> MappingRow | None:
    row = connection.execute("SELECT * FROM mappings WHERE uuid = ?", (uuid,)).fetchone()
    return None if row is None else MappingRow(*row)


def delete_mapping(connection: Connection, uuid: str) -> None:
    delete_attempts_of(connection, uuid)
    connection.execute("DELETE FROM mappings WHERE uuid = ?", (uuid,))


def all_mappings(connection: Connection) -> list[MappingRow]:
    return [MappingRow(*row) for row in connection.execute("SELECT * FROM mappings ORDER BY created_ms")]


def count_mappings(connection: Connection, tenant_id: str) -> int:
    return int(connection.execute("SELECT COUNT(*) FROM mappings WHERE tenant_id = ?", (tenant_id,)).fetchone()[0])


def list_mappings(
    connection: Connection, tenant_id: str, after: str, limit: int, *, function: str = "", source: str = ""
) -> list[MappingRow]:
    """Return at most ``limit`` mappings by id, those after ``after``; of one function or source where one is given."""
    rows = connection.execute(
        "SELECT * FROM mappings WHERE tenant_id = ? AND uuid > ? AND ? IN ('', function) AND ? IN ('', source) "
        "ORDER BY uuid LIMIT ?",
        (tenant_id, after, function, source, limit),
    )
    return [MappingRow(*row) for row in rows]
