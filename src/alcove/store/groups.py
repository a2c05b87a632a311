"""Rows of groups of functions. Each function runs inside ``Database.write`` or ``read``."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from sqlite3 import Connection


@dataclass(frozen=True, slots=True)
class GroupRow:
    """Field order is column order."""

    tenant_id: str
    name: str
    description: str
    configuration: str
    created_ms: int
    modified_ms: int


def put_group(connection: Connection, row: GroupRow) -> None:
    connection.execute("INSERT OR REPLACE INTO function_groups VALUES (?, ?, ?, ?, ?, ?)", astuple(row))


def find_group(connection: Connection, tenant_id: str, name: str) -> GroupRow | None:
    row = connection.execute(
        "SELECT * FROM function_groups WHERE tenant_id = ? AND name = ?", (tenant_id, name)
    ).fetchone()
    return None if row is None else GroupRow(*row)


def list_groups(connection: Connection, tenant_id: str) -> list[GroupRow]:
    rows = connection.execute("SELECT * FROM function_groups WHERE tenant_id = ? ORDER BY name", (tenant_id,))
    return [GroupRow(*row) for row in rows]


def delete_group(connection: Connection, tenant_id: str, name: str) -> bool:
    """Return whether there was one."""
    done = connection.execute("DELETE FROM function_groups WHERE tenant_id = ? AND name = ?", (tenant_id, name))
    return done.rowcount > 0


def delete_groups(connection: Connection, tenant_id: str) -> None:
    connection.execute("DELETE FROM function_groups WHERE tenant_id = ?", (tenant_id,))


def count_by_tag(connection: Connection, tenant_id: str, tag: str) -> dict[str, int]:
    """Return how many functions of the tenant have each value of the tag, "" standing for none."""
    rows = connection.execute(
        "SELECT coalesce(json_extract(tags, ?), '') AS value, COUNT(*) FROM functions WHERE tenant_id = ? "
        "GROUP BY value",
        (f'$."{tag}"', tenant_id),
    )
    return {str(row[0]): int(row[1]) for row in rows}
