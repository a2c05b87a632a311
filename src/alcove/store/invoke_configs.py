"""Rows of what becomes of asynchronous invocations. Each function runs inside ``Database.write`` or ``read``."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from sqlite3 import Connection


@dataclass(frozen=True, slots=True)
class InvokeConfigRow:
    """Field order is column order."""

    function_id: str
    qualifier: str
    retries: int | None
    max_age_s: int | None
    on_success: str
    on_failure: str
    modified_ms: int


def put_invoke_config(connection: Connection, row: InvokeConfigRow) -> None:
    connection.execute("INSERT OR REPLACE INTO invoke_configs VALUES (?, ?, ?, ?, ?, ?, ?)", astuple(row))


def find_invoke_config(connection: Connection, function_id: str, qualifier: str) -> InvokeConfigRow | None:
    row = connection.execute(
        "SELECT * FROM invoke_configs WHERE function_id = ? AND qualifier = ?", (function_id, qualifier)
    ).fetchone()
    return None if row is None else InvokeConfigRow(*row)


def delete_invoke_config(connection: Connection, function_id: str, qualifier: str) -> bool:
    """Tell whether there was one."""
    found = connection.execute(
        "DELETE FROM invoke_configs WHERE function_id = ? AND qualifier = ?", (function_id, qualifier)
    )
    return found.rowcount > 0


def list_invoke_configs(connection: Connection, function_id: str, after: str, limit: int) -> list[InvokeConfigRow]:
    """Return at most ``limit``, by qualifier, those after ``after``."""
    rows = connection.execute(
        "SELECT * FROM invoke_configs WHERE function_id = ? AND qualifier > ? ORDER BY qualifier LIMIT ?",
        (function_id, after, limit),
    )
    return [InvokeConfigRow(*row) for row in rows]
