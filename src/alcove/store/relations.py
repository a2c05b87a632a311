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


_MARKS = ", ".join(f"?{place}" for place in range(1, len(fields(RelationRow)) + 1))
_FUNCTION_IS_THERE = "EXISTS (SELECT 1 FROM functions WHERE tenant_id = ?2 AND name = ?3)"


def insert_relation(connection: Connection, row: RelationRow) -> bool:
    """Return whether its function is there: without it nothing is written.

    The row goes with the function, and the relation's timer with the row (triggers in the store).
    """
    done = connection.execute(
        f"INSERT INTO relations SELECT {_MARKS} WHERE {_FUNCTION_IS_THERE}",
        astuple(row),
    )
    return done.rowcount > 0


def replace_relation(connection: Connection, row: RelationRow) -> bool:
    """Return whether it is there, and its new function too."""
    done = connection.execute(
        f"UPDATE relations SET function = ?3, qualifier = ?4, data = ?6 WHERE id = ?1 AND {_FUNCTION_IS_THERE}",  # noqa: S608
        astuple(row)[:6],
    )
    return done.rowcount > 0


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


def delete_orphaned_timers(connection: Connection) -> None:
    """At a start: remove timers that were being made for a relation when its function, and it, went."""
    connection.execute(
        "DELETE FROM timers WHERE shape = 'cfc' AND NOT EXISTS "
        "(SELECT 1 FROM relations r WHERE timers.name = 'relation.' || r.id)"
    )
