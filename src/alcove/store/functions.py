"""Rows of functions and versions. Each function runs inside ``Database.write`` or ``read``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from sqlite3 import Connection
from typing import Any

LATEST = "$LATEST"


@dataclass(frozen=True, slots=True)
class VersionRow:
    """One row of ``versions``; ``environment`` is a JSON object as text, ``layers`` an array."""

    function_id: str
    version: str
    revision_id: str
    modified_ms: int
    description: str
    runtime_name: str
    handler: str
    memory_mib: int
    timeout_s: int
    environment: str
    role: str
    isolation: str
    network: int
    package_sha256: str
    package_bytes: int
    image_digest: str
    dead_letter: str = ""
    layers: str = "[]"
    scratch_mib: int = 512
    log_format: str = "Text"
    log_level: str = ""
    system_log_level: str = ""
    asked: str = ""
    cause: str = ""
    reason: str = ""
    kernel: str = ""


@dataclass(frozen=True, slots=True)
class FunctionRow:
    id: str
    tenant_id: str
    name: str
    next_version: int
    tags: Mapping[str, str]
    created_ms: int


_VERSION_COLUMNS = ", ".join(f"v.{field.name}" for field in fields(VersionRow))
_FUNCTION_COLUMNS = "f.id, f.tenant_id, f.name, f.next_version, f.tags, f.created_ms"
_FUNCTION_WIDTH = len(fields(FunctionRow))


def insert_function(connection: Connection, row: FunctionRow) -> None:
    """Raises ``sqlite3.IntegrityError`` where the tenant has a function of that name."""
    connection.execute(
        "INSERT INTO functions (id, tenant_id, name, next_version, tags, created_ms) VALUES (?, ?, ?, ?, ?, ?)",
        (
            row.id,
            row.tenant_id,
            row.name,
            row.next_version,
            json.dumps(dict(row.tags)),
            row.created_ms,
        ),
    )


def find_function(connection: Connection, tenant_id: str, name: str) -> FunctionRow | None:
    row = connection.execute(
        f"SELECT {_FUNCTION_COLUMNS} FROM functions f WHERE f.tenant_id = ? AND f.name = ?",  # noqa: S608
        (tenant_id, name),
    ).fetchone()
    return None if row is None else function_row(row)


def set_tags(connection: Connection, function_id: str, tags: Mapping[str, str]) -> None:
    connection.execute("UPDATE functions SET tags = ? WHERE id = ?", (json.dumps(dict(tags)), function_id))


def set_next_version(connection: Connection, function_id: str, number: int) -> None:
    connection.execute("UPDATE functions SET next_version = ? WHERE id = ?", (number, function_id))


def delete_function(connection: Connection, function_id: str) -> None:
    """Remove the function and, by cascade, its versions."""
    connection.execute("DELETE FROM functions WHERE id = ?", (function_id,))


def delete_version(connection: Connection, function_id: str, version: str) -> None:
    connection.execute("DELETE FROM versions WHERE function_id = ? AND version = ?", (function_id, version))


def put_version(connection: Connection, row: VersionRow) -> None:
    """Insert; replace where it is ``$LATEST``. A published version can't be written twice."""
    if row.version == LATEST:
        delete_version(connection, row.function_id, LATEST)
    names = ", ".join(field.name for field in fields(VersionRow))
    marks = ", ".join("?" * len(fields(VersionRow)))
    connection.execute(f"INSERT INTO versions ({names}) VALUES ({marks})", astuple(row))  # noqa: S608


def find_version(connection: Connection, function_id: str, version: str) -> VersionRow | None:
    row = connection.execute(
        f"SELECT {_VERSION_COLUMNS} FROM versions v WHERE v.function_id = ? AND v.version = ?",  # noqa: S608
        (function_id, version),
    ).fetchone()
    return None if row is None else VersionRow(*row)


def list_versions(connection: Connection, function_id: str) -> list[VersionRow]:
    """``$LATEST`` first, then the published ones, oldest first."""
    rows = connection.execute(
        f"SELECT {_VERSION_COLUMNS} FROM versions v WHERE v.function_id = ? "  # noqa: S608
        "ORDER BY v.version <> '$LATEST', CAST(v.version AS INTEGER)",
        (function_id,),
    )
    return [VersionRow(*row) for row in rows]


_NUMBER = "CAST(v.version AS INTEGER)"  # 0 for $LATEST


def page_versions(connection: Connection, function_id: str, start: int, limit: int) -> list[VersionRow]:
    """At most ``limit`` versions with numbers from ``start`` on, 0 for ``$LATEST``."""
    rows = connection.execute(
        f"SELECT {_VERSION_COLUMNS} FROM versions v WHERE v.function_id = ? AND {_NUMBER} >= ? "  # noqa: S608
        f"ORDER BY {_NUMBER} LIMIT ?",
        (function_id, start, limit),
    )
    return [VersionRow(*row) for row in rows]


def page_all_versions(
    connection: Connection, tenant_id: str, name: str, start: int, limit: int, skip: int = 0
) -> list[tuple[FunctionRow, VersionRow]]:
    """All versions of all functions of the tenant, by name and number, from version ``start`` of ``name`` on, less the
    first ``skip`` of them.
    """
    rows = connection.execute(
        f"SELECT {_FUNCTION_COLUMNS}, {_VERSION_COLUMNS} FROM functions f "  # noqa: S608
        "JOIN versions v ON v.function_id = f.id WHERE f.tenant_id = :tenant AND f.name >= :name "
        f"AND (f.name > :name OR {_NUMBER} >= :start) ORDER BY f.name, {_NUMBER} LIMIT :limit OFFSET :skip",
        {"tenant": tenant_id, "name": name, "start": start, "limit": limit, "skip": skip},
    )
    return [split_row(row) for row in rows]


def list_functions(
    connection: Connection, tenant_id: str, after: str, limit: int, skip: int = 0, version: str = LATEST
) -> list[tuple[FunctionRow, VersionRow]]:
    """At most ``limit`` functions of the tenant with names greater than ``after``, less the first ``skip`` of them, by
    name, with this version; those that have it.
    """
    found = connection.execute(
        f"SELECT {_FUNCTION_COLUMNS}, {_VERSION_COLUMNS} FROM functions f "  # noqa: S608
        "JOIN versions v ON v.function_id = f.id AND v.version = ? "
        "WHERE f.tenant_id = ? AND f.name > ? ORDER BY f.name LIMIT ? OFFSET ?",
        (version, tenant_id, after, limit, skip),
    )
    return [split_row(row) for row in found]


def kernel_in_use(connection: Connection, digest: str) -> bool:
    return connection.execute("SELECT 1 FROM versions WHERE kernel = ? LIMIT 1", (digest,)).fetchone() is not None


def list_kinds(connection: Connection) -> list[tuple[FunctionRow, VersionRow]]:
    """One version for each tier, runtime and kernel that is in use."""
    found = connection.execute(
        f"SELECT {_FUNCTION_COLUMNS}, {_VERSION_COLUMNS} FROM functions f "  # noqa: S608
        "JOIN versions v ON v.function_id = f.id GROUP BY v.isolation, v.runtime_name, v.kernel"
    )
    return [split_row(row) for row in found]


def function_ids(connection: Connection) -> set[str]:
    """Return the ids of all functions of all tenants."""
    return {str(row[0]) for row in connection.execute("SELECT id FROM functions")}


def usage(connection: Connection, tenant_id: str) -> tuple[int, int]:
    """Return the tenant's number of functions and the bytes of the packages of all its versions and layers."""
    row = connection.execute("SELECT functions, code_bytes FROM usage WHERE tenant_id = ?", (tenant_id,)).fetchone()
    return (0, 0) if row is None else (int(row[0]), int(row[1]))


def function_columns() -> str:
    return _FUNCTION_COLUMNS


def version_columns() -> str:
    return _VERSION_COLUMNS


def function_row(row: Sequence[Any]) -> FunctionRow:
    return FunctionRow(row[0], row[1], row[2], row[3], json.loads(row[4]), row[5])


def split_row(row: Sequence[Any]) -> tuple[FunctionRow, VersionRow]:
    """Of a row with the columns of a function, then of a version."""
    values = tuple(row)
    return function_row(values[:_FUNCTION_WIDTH]), VersionRow(*values[_FUNCTION_WIDTH:])


def owner_of(connection: Connection, function_id: str) -> str | None:
    """Return the tenant of the function of that id, if there is one."""
    row = connection.execute("SELECT tenant_id FROM functions WHERE id = ?", (function_id,)).fetchone()
    return None if row is None else str(row[0])
