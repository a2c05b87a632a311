"""Where versions run, and the floors of tenants. Each function runs inside ``Database.write`` or ``read``."""

from __future__ import annotations

from collections.abc import Iterator
from sqlite3 import Connection

from alcove.store.functions import FunctionRow, VersionRow, function_columns, split_row, version_columns


def versions_of(
    connection: Connection, *, function_id: str = "", tenant_id: str = "", package_sha256: str = ""
) -> Iterator[tuple[FunctionRow, VersionRow]]:
    """Every version, or those of one function or tenant, or with a package as their code or a layer."""
    by_package = "instr(v.package_sha256 || v.layers, ?)"
    wanted = {"f.id = ?": function_id, "f.tenant_id = ?": tenant_id, by_package: package_sha256}
    given = {condition: value for condition, value in wanted.items() if value}
    found = connection.execute(
        f"SELECT {function_columns()}, {version_columns()} FROM versions v JOIN functions f ON f.id = v.function_id "  # noqa: S608
        f"WHERE {' AND '.join(given) or '1'}",
        tuple(given.values()),
    )
    yield from map(split_row, found.fetchall())


def set_isolation(
    connection: Connection, function_id: str, version: str, isolation: str, cause: str, reason: str
) -> None:
    connection.execute(
        "UPDATE versions SET isolation = ?, cause = ?, reason = ? WHERE function_id = ? AND version = ?",
        (isolation, cause, reason, function_id, version),
    )


def tenant_floor(connection: Connection, tenant_id: str) -> str | None:
    row = connection.execute("SELECT floor FROM isolation_floors WHERE tenant_id = ?", (tenant_id,)).fetchone()
    return None if row is None else str(row[0])


def set_tenant_floor(connection: Connection, tenant_id: str, floor: str) -> None:
    connection.execute(
        "INSERT INTO isolation_floors VALUES (?, ?) ON CONFLICT (tenant_id) DO UPDATE SET floor = excluded.floor",
        (tenant_id, floor),
    )


def tenant_name(connection: Connection, tenant_id: str) -> str:
    row = connection.execute("SELECT name FROM tenants WHERE id = ?", (tenant_id,)).fetchone()
    return "" if row is None else str(row[0])
