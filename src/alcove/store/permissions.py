"""Rows of permissions. Each function runs inside ``Database.write`` or ``read``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from sqlite3 import Connection


@dataclass(frozen=True, slots=True)
class PermissionRow:
    function_id: str
    qualifier: str
    statement_id: str
    principal: str
    action: str
    conditions: Mapping[str, str] = field(default_factory=dict)


def insert_permission(connection: Connection, row: PermissionRow) -> None:
    """Put it last. Raises ``sqlite3.IntegrityError`` where there is one of this id."""
    connection.execute(
        "INSERT INTO permissions SELECT ?1, ?2, ?3, 1 + COALESCE(MAX(place), 0), ?4, ?5, ?6 FROM permissions "
        "WHERE function_id = ?1 AND qualifier = ?2",
        (
            *(row.function_id, row.qualifier, row.statement_id, row.principal, row.action),
            json.dumps(dict(row.conditions)),
        ),
    )


def list_permissions(connection: Connection, function_id: str, qualifier: str) -> list[PermissionRow]:
    """In the order in which they were made."""
    rows = connection.execute(
        "SELECT function_id, qualifier, statement_id, principal, action, conditions FROM permissions "
        "WHERE function_id = ? AND qualifier = ? ORDER BY place",
        (function_id, qualifier),
    )
    return [PermissionRow(row[0], row[1], row[2], row[3], row[4], json.loads(row[5])) for row in rows]


def delete_permission(connection: Connection, function_id: str, qualifier: str, statement_id: str) -> bool:
    """Return whether there was one."""
    done = connection.execute(
        "DELETE FROM permissions WHERE function_id = ? AND qualifier = ? AND statement_id = ?",
        (function_id, qualifier, statement_id),
    )
    return done.rowcount > 0


def delete_permissions(connection: Connection, function_id: str, qualifier: str) -> bool:
    """Remove those of the function itself, or of one version or alias; return whether there were any."""
    done = connection.execute(
        "DELETE FROM permissions WHERE function_id = ? AND qualifier = ?", (function_id, qualifier)
    )
    return done.rowcount > 0
