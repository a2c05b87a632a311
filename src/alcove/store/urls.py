"""Rows of function URLs. Each function runs inside ``Database.write`` or ``read``."""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields
from sqlite3 import Connection


@dataclass(frozen=True, slots=True)
class UrlRow:
    """Field order is column order."""

    id: str
    function_id: str
    qualifier: str
    auth: str
    mode: str
    cors: str
    created_ms: int
    modified_ms: int


_MARKS = ", ".join("?" * len(fields(UrlRow)))


def put_url(connection: Connection, row: UrlRow) -> None:
    """Insert. Raises ``sqlite3.IntegrityError`` where the function has a URL for that qualifier."""
    connection.execute(f"INSERT INTO function_urls VALUES ({_MARKS})", astuple(row))  # noqa: S608


def replace_url(connection: Connection, row: UrlRow) -> None:
    delete_url(connection, row.id)
    put_url(connection, row)


def find_url(connection: Connection, function_id: str, qualifier: str) -> UrlRow | None:
    row = connection.execute(
        "SELECT * FROM function_urls WHERE function_id = ? AND qualifier = ?", (function_id, qualifier)
    ).fetchone()
    return None if row is None else UrlRow(*row)


def find_target(connection: Connection, url_id: str) -> tuple[UrlRow, str, str] | None:
    """Return the URL of that id with its function's tenant and name."""
    row = connection.execute(
        "SELECT u.*, f.tenant_id, f.name FROM function_urls u JOIN functions f ON f.id = u.function_id WHERE u.id = ?",
        (url_id,),
    ).fetchone()
    return None if row is None else (UrlRow(*row[:-2]), row[-2], row[-1])


def list_urls(connection: Connection, function_id: str, after: str, limit: int) -> list[UrlRow]:
    """At most ``limit`` URLs of the function with qualifiers greater than ``after``."""
    rows = connection.execute(
        "SELECT * FROM function_urls WHERE function_id = ? AND qualifier >= ? ORDER BY qualifier LIMIT ?",
        (function_id, after, limit),
    )
    return [UrlRow(*row) for row in rows]


def delete_url(connection: Connection, url_id: str) -> None:
    connection.execute("DELETE FROM function_urls WHERE id = ?", (url_id,))
