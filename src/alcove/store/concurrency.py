"""Rows of reserved and provisioned concurrency. Each function runs inside ``Database.write`` or ``read``."""

from __future__ import annotations

from dataclasses import dataclass
from sqlite3 import Connection


@dataclass(frozen=True, slots=True)
class ReservedRow:
    tenant_id: str
    function_id: str
    calls: int


@dataclass(frozen=True, slots=True)
class ProvisionedRow:
    tenant_id: str
    function_id: str
    name: str
    qualifier: str
    calls: int
    modified_ms: int


def all_reserved(connection: Connection) -> list[ReservedRow]:
    rows = connection.execute(
        "SELECT f.tenant_id, r.function_id, r.calls "
        "FROM reserved_concurrency r JOIN functions f ON f.id = r.function_id"
    )
    return [ReservedRow(*row) for row in rows]


def all_provisioned(connection: Connection) -> list[ProvisionedRow]:
    rows = connection.execute(
        "SELECT f.tenant_id, p.function_id, f.name, p.qualifier, p.calls, p.modified_ms "
        "FROM provisioned_concurrency p JOIN functions f ON f.id = p.function_id "
        "ORDER BY p.function_id, p.qualifier"
    )
    return [ProvisionedRow(*row) for row in rows]


def put_reserved(connection: Connection, function_id: str, calls: int | None) -> None:
    """Set it; None removes it. Raises ``sqlite3.IntegrityError`` where the function is gone."""
    connection.execute("DELETE FROM reserved_concurrency WHERE function_id = ?", (function_id,))
    if calls is not None:
        connection.execute("INSERT INTO reserved_concurrency VALUES (?, ?)", (function_id, calls))


def put_provisioned(connection: Connection, function_id: str, qualifier: str, calls: int, modified_ms: int) -> None:
    """Set it. Raises ``sqlite3.IntegrityError`` where the function is gone."""
    delete_provisioned(connection, function_id, qualifier)
    row = (function_id, qualifier, calls, modified_ms)
    connection.execute("INSERT INTO provisioned_concurrency VALUES (?, ?, ?, ?)", row)


def delete_provisioned(connection: Connection, function_id: str, qualifier: str) -> None:
    connection.execute(
        "DELETE FROM provisioned_concurrency WHERE function_id = ? AND qualifier = ?", (function_id, qualifier)
    )
