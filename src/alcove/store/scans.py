"""Rows of the automatic checks. Each function runs inside ``Database.write`` or ``read``."""

from __future__ import annotations

from dataclasses import dataclass
from sqlite3 import Connection


@dataclass(frozen=True, slots=True)
class ScanRow:
    """``report`` is JSON, empty while the package is being checked."""

    package_sha256: str
    scanner: str
    attempts: int
    report: str
    changed_ms: int


# What is to be checked: the packages of versions and of the layers that these have.
_NEEDED = """
WITH needed (tenant_id, package_sha256, modified_ms) AS (
    SELECT f.tenant_id, v.package_sha256, v.modified_ms FROM versions v JOIN functions f ON f.id = v.function_id
    UNION ALL
    SELECT f.tenant_id, json_extract(layer.value, '$[1]'), v.modified_ms
    FROM versions v JOIN functions f ON f.id = v.function_id, json_each(v.layers) layer
)
"""


def find_scan(connection: Connection, package_sha256: str, scanner: str) -> ScanRow | None:
    """Return what these scanners know of the package."""
    row = connection.execute(
        "SELECT package_sha256, scanner, attempts, report, changed_ms FROM scans "
        "WHERE package_sha256 = ? AND scanner = ?",
        (package_sha256, scanner),
    ).fetchone()
    return None if row is None else ScanRow(*row)


def next_unscanned(connection: Connection, scanner: str, after_tenant: str) -> tuple[str, str] | None:
    """Return (tenant, package) of a version or layer that these scanners have not checked: tenants take turns, and of
    one tenant the oldest comes first.
    """
    row = connection.execute(
        f"{_NEEDED} SELECT n.tenant_id, n.package_sha256 FROM needed n "  # noqa: S608
        "LEFT JOIN scans s ON s.package_sha256 = n.package_sha256 AND s.scanner = ? "
        "WHERE s.report IS NULL OR s.report = '' ORDER BY n.tenant_id <= ?, n.tenant_id, n.modified_ms LIMIT 1",
        (scanner, after_tenant),
    ).fetchone()
    return None if row is None else (row[0], row[1])


def begin_scan(connection: Connection, package_sha256: str, scanner: str, now_ms: int) -> int:
    """Note that the package is being checked; return which attempt this is."""
    known = find_scan(connection, package_sha256, scanner)
    attempts = 1 if known is None else known.attempts + 1
    put_scan(connection, ScanRow(package_sha256, scanner, attempts, "", now_ms))
    return attempts


def put_scan(connection: Connection, row: ScanRow) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO scans (package_sha256, scanner, attempts, report, changed_ms) VALUES (?, ?, ?, ?, ?)",
        (row.package_sha256, row.scanner, row.attempts, row.report, row.changed_ms),
    )


def forget_scans(connection: Connection) -> None:
    """Drop what is known of packages that no version has."""
    connection.execute(
        f"{_NEEDED} DELETE FROM scans WHERE package_sha256 NOT IN (SELECT package_sha256 FROM needed)"  # noqa: S608
    )
