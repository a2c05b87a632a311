"""Rows of the outbox of buckets and of their hooks. Each function runs inside ``Database.write`` or ``read``."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import astuple, dataclass
from sqlite3 import Connection


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """Field order is column order."""

    id: int | None
    tenant_id: str
    function: str
    qualifier: str
    request_id: str
    payload: bytes
    source_arn: str = ""


@dataclass(frozen=True, slots=True)
class HookRow:
    id: str
    tenant_id: str
    name: str
    function: str
    qualifier: str
    token_sha256: str
    created_ms: int


def insert_outbox(connection: Connection, row: OutboxRow) -> None:
    connection.execute("INSERT INTO outbox VALUES (?, ?, ?, ?, ?, ?, ?)", astuple(row))


def oldest_outbox(connection: Connection, without: Collection[str], limit: int) -> list[OutboxRow]:
    """The oldest rows of each tenant but these, at most ``limit`` of one: no tenant's backlog is in another's way."""
    tenants = connection.execute("SELECT DISTINCT tenant_id FROM outbox").fetchall()
    found: list[OutboxRow] = []
    for (tenant,) in tenants:
        if tenant not in without:
            rows = connection.execute("SELECT * FROM outbox WHERE tenant_id = ? ORDER BY id LIMIT ?", (tenant, limit))
            found += [OutboxRow(*row) for row in rows]
    return found


def delete_outbox(connection: Connection, ids: Collection[int]) -> None:
    connection.executemany("DELETE FROM outbox WHERE id = ?", [(one,) for one in ids])


def count_outbox(connection: Connection, tenant_id: str) -> int:
    row = connection.execute("SELECT COUNT(*) FROM outbox WHERE tenant_id = ?", (tenant_id,)).fetchone()
    return int(row[0])


def insert_hook(connection: Connection, row: HookRow) -> None:
    """Raises ``sqlite3.IntegrityError`` where the tenant has a hook of that name."""
    connection.execute("INSERT INTO hooks VALUES (?, ?, ?, ?, ?, ?, ?)", astuple(row))


def find_hook(connection: Connection, hook_id: str) -> HookRow | None:
    row = connection.execute("SELECT * FROM hooks WHERE id = ?", (hook_id,)).fetchone()
    return None if row is None else HookRow(*row)


def list_hooks(connection: Connection, tenant_id: str) -> list[HookRow]:
    rows = connection.execute("SELECT * FROM hooks WHERE tenant_id = ? ORDER BY name", (tenant_id,))
    return [HookRow(*row) for row in rows]


def delete_hook(connection: Connection, tenant_id: str, name: str) -> bool:
    return connection.execute("DELETE FROM hooks WHERE tenant_id = ? AND name = ?", (tenant_id, name)).rowcount > 0
