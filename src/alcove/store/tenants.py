"""Rows of tenants, access keys and settings. Each function runs inside ``Database.write`` or
``read``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from sqlite3 import Connection


@dataclass(frozen=True, slots=True)
class TenantRow:
    id: str
    name: str
    created_ms: int
    removing: int = 0


@dataclass(frozen=True, slots=True)
class AccessKeyRow:
    access_key: str
    secret: str
    tenant_id: str
    created_ms: int

    def __repr__(self) -> str:
        return f"AccessKeyRow({self.access_key!r}, tenant_id={self.tenant_id!r})"


def insert_tenant(connection: Connection, row: TenantRow) -> None:
    """Raises ``sqlite3.IntegrityError`` where the id or the name is taken."""
    connection.execute(
        "INSERT INTO tenants (id, name, created_ms) VALUES (?, ?, ?)",
        (row.id, row.name, row.created_ms),
    )


def insert_access_key(connection: Connection, row: AccessKeyRow) -> None:
    connection.execute(
        "INSERT INTO access_keys (access_key, secret, tenant_id, created_ms) VALUES (?, ?, ?, ?)",
        (row.access_key, row.secret, row.tenant_id, row.created_ms),
    )


def delete_access_key(connection: Connection, access_key: str) -> None:
    connection.execute("DELETE FROM access_keys WHERE access_key = ?", (access_key,))


def delete_access_keys(connection: Connection, tenant_id: str) -> None:
    connection.execute("DELETE FROM access_keys WHERE tenant_id = ?", (tenant_id,))


def mark_removing(connection: Connection, tenant_id: str) -> None:
    connection.execute("UPDATE tenants SET removing = 1 WHERE id = ?", (tenant_id,))


def delete_tenant(connection: Connection, tenant_id: str) -> None:
    """Raises ``sqlite3.IntegrityError`` while it has anything that does not go by cascade."""
    connection.execute("DELETE FROM tenants WHERE id = ?", (tenant_id,))


def all_tenants(connection: Connection) -> list[TenantRow]:
    rows = connection.execute("SELECT id, name, created_ms, removing FROM tenants ORDER BY created_ms, id")
    return [TenantRow(*row) for row in rows]


def all_access_keys(connection: Connection) -> list[AccessKeyRow]:
    rows = connection.execute(
        "SELECT access_key, secret, tenant_id, created_ms FROM access_keys ORDER BY created_ms, access_key"
    )
    return [AccessKeyRow(*row) for row in rows]


_QUOTAS = ("functions", "code_bytes", "concurrency", "timers", "events", "flows", "executions", "instances")


def all_quotas(connection: Connection) -> dict[str, dict[str, int | None]]:
    """Return the quotas of each tenant that has some of its own; None where it has not."""
    cursor = connection.execute(f"SELECT tenant_id, {', '.join(_QUOTAS)} FROM quotas")  # noqa: S608
    return {row[0]: dict(zip(_QUOTAS, row[1:], strict=True)) for row in cursor}


def put_quotas(connection: Connection, tenant_id: str, quotas: Mapping[str, int | None]) -> None:
    connection.execute(
        f"INSERT OR REPLACE INTO quotas (tenant_id, {', '.join(_QUOTAS)}) VALUES (?{', ?' * len(_QUOTAS)})",  # noqa: S608
        (tenant_id, *(quotas.get(column) for column in _QUOTAS)),
    )


def setting(connection: Connection, key: str) -> str | None:
    row = connection.execute("SELECT value FROM settings WHERE key = ?", (key,)).fetchone()
    return None if row is None else str(row[0])


def set_setting(connection: Connection, key: str, value: str) -> None:
    connection.execute(
        "INSERT INTO settings (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (key, value),
    )
