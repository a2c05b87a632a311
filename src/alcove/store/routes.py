"""Rows of hosts and routes. Each function runs inside ``Database.write`` or ``read``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from sqlite3 import Connection


@dataclass(frozen=True, slots=True)
class HostRow:
    name: str
    tenant_id: str
    created_ms: int


@dataclass(frozen=True, slots=True)
class RouteRow:
    """Field order is column order; ``name`` is the host that is held, which ``host`` is or lies under."""

    host: str
    path: str
    name: str
    function: str
    qualifier: str
    auth: str
    mode: str
    created_ms: int
    cors: str = ""


_MARKS = ", ".join("?" * len(fields(RouteRow)))


def insert_host(connection: Connection, row: HostRow) -> None:
    connection.execute("INSERT INTO hosts VALUES (?, ?, ?)", astuple(row))


def holders(connection: Connection, name: str, parents: Sequence[str]) -> list[HostRow]:
    """Return who holds the name, one of its parents, or a name under it."""
    marks = ", ".join("?" * (len(parents) + 1))
    rows = connection.execute(
        f"SELECT * FROM hosts WHERE name IN ({marks}) OR substr(name, -length(?)) = ? ORDER BY length(name)",  # noqa: S608
        (name, *parents, f".{name}", f".{name}"),
    )
    return [HostRow(*row) for row in rows]


def list_hosts(connection: Connection, tenant_id: str) -> list[HostRow]:
    rows = connection.execute("SELECT * FROM hosts WHERE tenant_id = ? ORDER BY name", (tenant_id,))
    return [HostRow(*row) for row in rows]


def delete_host(connection: Connection, tenant_id: str, name: str) -> bool:
    """Give a host up, and with it its routes."""
    found = connection.execute("DELETE FROM hosts WHERE name = ? AND tenant_id = ?", (name, tenant_id))
    return found.rowcount > 0


def put_route(connection: Connection, row: RouteRow) -> None:
    connection.execute(f"INSERT OR REPLACE INTO routes VALUES ({_MARKS})", astuple(row))  # noqa: S608


def list_routes(connection: Connection, tenant_id: str, after: tuple[str, str], limit: int) -> list[RouteRow]:
    """At most ``limit`` of the tenant's routes after that (host, path), in this order."""
    rows = connection.execute(
        "SELECT r.* FROM routes r JOIN hosts h ON h.name = r.name "
        "WHERE h.tenant_id = ? AND (r.host, r.path) > (?, ?) ORDER BY r.host, r.path LIMIT ?",
        (tenant_id, *after, limit),
    )
    return [RouteRow(*row) for row in rows]


def count_routes(connection: Connection, tenant_id: str) -> int:
    row = connection.execute(
        "SELECT COUNT(*) FROM routes r JOIN hosts h ON h.name = r.name WHERE h.tenant_id = ?", (tenant_id,)
    ).fetchone()
    return int(row[0])


def all_routes(connection: Connection) -> list[tuple[RouteRow, str]]:
    """Return every route and its tenant."""
    rows = connection.execute("SELECT r.*, h.tenant_id FROM routes r JOIN hosts h ON h.name = r.name")
    return [(RouteRow(*row[:-1]), row[-1]) for row in rows]


def delete_route(connection: Connection, tenant_id: str, host: str, path: str) -> bool:
    found = connection.execute(
        "DELETE FROM routes WHERE host = ? AND path = ? AND name IN (SELECT name FROM hosts WHERE tenant_id = ?)",
        (host, path, tenant_id),
    )
    return found.rowcount > 0
