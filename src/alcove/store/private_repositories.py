"""Which tenants a registry has let have the repositories that were asked for with credentials."""

from __future__ import annotations

import sqlite3


def is_private(connection: sqlite3.Connection, repository: str) -> bool:
    query = "SELECT 1 FROM private_repositories WHERE repository=? LIMIT 1"
    return connection.execute(query, (repository,)).fetchone() is not None


def granted_ms(connection: sqlite3.Connection, repository: str, tenant: str) -> int:
    """Return when the tenant was last let in; 0: never."""
    query = "SELECT granted_ms FROM private_repositories WHERE repository=? AND tenant_id=?"
    row = connection.execute(query, (repository, tenant)).fetchone()
    return 0 if row is None else int(row[0])


def count(connection: sqlite3.Connection, tenant: str) -> int:
    query = "SELECT count(*) FROM private_repositories WHERE tenant_id=?"
    return int(connection.execute(query, (tenant,)).fetchone()[0])


def put(connection: sqlite3.Connection, repository: str, tenant: str, moment_ms: int) -> None:
    """0 says that the repository is private, and nothing of the tenant."""
    connection.execute(
        "INSERT INTO private_repositories (repository, tenant_id, granted_ms) VALUES (?, ?, ?) "
        "ON CONFLICT DO UPDATE SET granted_ms=max(granted_ms, excluded.granted_ms)",
        (repository, tenant, moment_ms),
    )
