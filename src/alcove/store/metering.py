"""Rows of what was used. Each function runs inside ``Database.write`` or ``read``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from sqlite3 import Connection


@dataclass(frozen=True, slots=True)
class UsageRow:
    """Field order is column order."""

    month: str
    tenant_id: str
    function: str
    calls: int
    errors: int
    billed_ms: int
    mib_ms: int
    streamed_bytes: int


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """Which rows; an empty text stands for all."""

    month: str = ""
    tenant_id: str = ""
    function: str = ""

    def conditions(self) -> tuple[str, tuple[str, ...]]:
        given = {"month": self.month, "tenant_id": self.tenant_id, "function": self.function}
        named = {column: value for column, value in given.items() if value}
        return " AND ".join(["1", *(f"{column} = ?" for column in named)]), tuple(named.values())


_SUMS = "SUM(calls), SUM(errors), SUM(billed_ms), SUM(mib_ms), SUM(streamed_bytes)"


def folded_segment(connection: Connection) -> int:
    """Return the newest segment that is in the sums."""
    return int(connection.execute("SELECT segment FROM folded").fetchone()[0])


def fold_segment(connection: Connection, segment: int, rows: Iterable[UsageRow]) -> None:
    """Add what a segment says to the sums, once: one that is in them already changes nothing."""
    if segment <= folded_segment(connection):
        return
    connection.executemany(
        "INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (month, tenant_id, function) DO UPDATE SET "
        "calls = calls + excluded.calls, errors = errors + excluded.errors, "
        "billed_ms = billed_ms + excluded.billed_ms, mib_ms = mib_ms + excluded.mib_ms, "
        "streamed_bytes = streamed_bytes + excluded.streamed_bytes",
        [
            (
                *(row.month, row.tenant_id, row.function, row.calls, row.errors),
                *(row.billed_ms, row.mib_ms, row.streamed_bytes),
            )
            for row in rows
        ],
    )
    connection.execute("UPDATE folded SET segment = ?", (segment,))


def list_usage(connection: Connection, query: UsageQuery, after: tuple[str, str, str], limit: int) -> list[UsageRow]:
    """At most ``limit`` rows whose (month, tenant, function) is greater than ``after``, in that order."""
    where, values = query.conditions()
    found = connection.execute(
        f"SELECT * FROM usage WHERE {where} AND (month, tenant_id, function) > (?, ?, ?) "  # noqa: S608
        "ORDER BY month, tenant_id, function LIMIT ?",
        (*values, *after, limit),
    )
    return [UsageRow(*row) for row in found]


def sum_usage(connection: Connection, query: UsageQuery) -> list[UsageRow]:
    """Return one row for each month and tenant, whose function is empty."""
    where, values = query.conditions()
    found = connection.execute(
        f"SELECT month, tenant_id, '', {_SUMS} FROM usage WHERE {where} "  # noqa: S608
        "GROUP BY month, tenant_id ORDER BY month, tenant_id",
        values,
    )
    return [UsageRow(*row) for row in found]


def delete_usage_before(connection: Connection, month: str) -> None:
    connection.execute("DELETE FROM usage WHERE month < ?", (month,))
