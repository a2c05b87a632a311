"""Rows of relations. Each function runs inside ``Database.write`` or ``read``."""

from __future__ import annotations

from dataclasses import astuple, dataclass, field, fields
from sqlite3 import Connection


@dataclass(frozen=True, slots=True)
class RelationRow:
    """Field order is column order."""

    id: str
    tenant_id: str
    function: str
    qualifier: str
    source: str
    data: str
    endpoint: str
    secret: str = field(repr=False)
    created_ms: int = 0


_MARKS = ", ".join("?" * len(fields(RelationRow)))


def put_relation(connection: Connection, row: RelationRow) -> None:
    """Insert, or replace the one of this id."""
    connection.execute(f"INSERT OR REPLACE INTO relations VALUES ({_MARKS})", astuple(row))  # noqa: S608


def find_relation(connection: Connection, tenant_id: str, relation_id: str) -> RelationRow | None:
    row = connection.execute(
        "SELECT * FROM relations WHERE tenant_id = ? AND id = ?", (tenant_id, relation_id)
    ).fetchone()
    return None if row is None else RelationRow(*row)


def list_relations(connection: Connection, tenant_id: str, function: str) -> list[RelationRow]:
    """Return those of the function, oldest first."""
    rows = connection.execute(
        "SELECT * FROM relations WHERE tenant_id = ? AND function = ? ORDER BY created_ms, id", (tenant_id, function)
    )
    return [RelationRow(*row) for row in rows]


def count_relations(connection: Connection, tenant_id: str) -> int:
    row = connection.execute("SELECT COUNT(*) FROM relations WHERE tenant_id = ?", (tenant_id,)).fetchone()
    return int(row[0])


def all_relations(connection: Connection) -> list[RelationRow]:
    return [RelationRow(*row) for row in connection.execute("SELECT * FROM relations ORDER BY created_ms, id")]


def delete_relation(connection: Connection, tenant_id: str, relation_id: str) -> bool:
    found = connection.execute("DELETE FROM relations WHERE id = ? AND tenant_id = ?", (relation_id, tenant_id))
    return found.rowcount > 0
