"""Tokens by which a client asks for one thing several times and gets it once. They are kept for a day."""

from __future__ import annotations

import sqlite3

KEPT_MS = 24 * 3_600_000
# Of one tenant; the oldest go.
TOKENS_LIMIT = 50_000
_PRUNED_AT_ONCE = 1000


def find_token(connection: sqlite3.Connection, tenant: str, token: str, now_ms: int) -> tuple[str, str] | None:
    """Return the digest of the parameters and the answer, or None."""
    row = connection.execute(
        "SELECT digest, answer FROM client_tokens WHERE tenant_id=? AND token=? AND created_ms>?",
        (tenant, token, now_ms - KEPT_MS),
    ).fetchone()
    return None if row is None else (row[0], row[1])


def insert_token(
    connection: sqlite3.Connection, tenant: str, token: str, digest: str, answer: str, now_ms: int
) -> None:
    """Write a token down, and forget some of those that are old."""
    connection.execute(
        "DELETE FROM client_tokens WHERE tenant_id=? AND token IN "
        "(SELECT token FROM client_tokens WHERE tenant_id=? AND created_ms<=? ORDER BY created_ms LIMIT ?)",
        (tenant, tenant, now_ms - KEPT_MS, _PRUNED_AT_ONCE),
    )
    connection.execute(
        "INSERT OR REPLACE INTO client_tokens (tenant_id, token, digest, answer, created_ms) VALUES (?, ?, ?, ?, ?)",
        (tenant, token, digest, answer, now_ms),
    )
    _bound(connection, tenant)


def _bound(connection: sqlite3.Connection, tenant: str) -> None:
    """Forget the oldest one where there is one too many: each insert brings one."""
    row = connection.execute(
        "SELECT created_ms FROM client_tokens WHERE tenant_id=? ORDER BY created_ms DESC LIMIT 1 OFFSET ?",
        (tenant, TOKENS_LIMIT),
    ).fetchone()
    if row is not None:
        connection.execute("DELETE FROM client_tokens WHERE tenant_id=? AND created_ms<=?", (tenant, row[0]))


def forget_tokens(connection: sqlite3.Connection, tenant: str) -> None:
    connection.execute("DELETE FROM client_tokens WHERE tenant_id=?", (tenant,))
