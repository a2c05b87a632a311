"""Rows of what pods used. Each function runs inside ``Database.write`` or ``read``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, replace
from sqlite3 import Connection

from alcove.host.months import month_of, split

# Of one tenant in one month; what has another name is summed under none.
NAMES_LIMIT = 10_000
# Intervals of one tenant whose pods are gone; the oldest go.
INTERVALS_LIMIT = 10_000


@dataclass(frozen=True, slots=True)
class Payer:
    """Whose sandbox it is, and its size."""

    uid: str
    tenant_id: str
    name: str
    milli_cpus: int
    memory_mib: int
    disk_mib: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What is known of a sandbox; 0 is nothing. A container runs at ``running_ms``; or none does and the last ended at
    ``ended_ms``, which is ``final`` until another starts. Bytes are what the interface counted since it was made.
    """

    begin_ms: int = 0
    running_ms: int = 0
    ended_ms: int = 0
    final: bool = False
    received_bytes: int = 0
    sent_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Interval:
    """Field order is column order."""

    sandbox: str
    uid: str
    tenant_id: str
    name: str
    milli_cpus: int
    memory_mib: int
    disk_mib: int
    begin_ms: int
    ended_ms: int
    until_ms: int
    received_bytes: int
    sent_bytes: int

    def after(self, proof: Proof) -> Interval:
        """Return the interval as the proof makes it. One that is told again changes nothing."""
        ended = max(self.ended_ms, proof.ended_ms)
        until = max(self.until_ms, proof.running_ms, ended)
        return replace(
            self,
            ended_ms=ended,
            # That something ran on until it was known to have ended was only assumed.
            until_ms=max(self.begin_ms, ended) if proof.final else until,
            received_bytes=max(self.received_bytes, proof.received_bytes),
            sent_bytes=max(self.sent_bytes, proof.sent_bytes),
        )


@dataclass(frozen=True, slots=True)
class PodUsageRow:
    """Field order is column order."""

    month: str
    tenant_id: str
    name: str
    run_ms: int = 0
    milli_cpu_ms: int = 0
    mib_ms: int = 0
    disk_mib_ms: int = 0
    received_bytes: int = 0
    sent_bytes: int = 0


_SUMS = ("run_ms", "milli_cpu_ms", "mib_ms", "disk_mib_ms", "received_bytes", "sent_bytes")


def prove(connection: Connection, sandbox: str, payer: Payer, proof: Proof, now_ms: int) -> Interval | None:
    """Have the sums say what the proof says, once. None: no container has started there yet."""
    known = find_interval(connection, sandbox)
    if known is None and not proof.begin_ms:
        return None
    before = known or _opened(sandbox, payer, proof.begin_ms)
    after = before.after(proof)
    if after != known:
        _write(connection, after)
        _add_time(connection, after, before.until_ms)
        received, sent = after.received_bytes - before.received_bytes, after.sent_bytes - before.sent_bytes
        if received or sent:
            month = month_of(now_ms)[0]
            _add(connection, PodUsageRow(month, after.tenant_id, after.name, received_bytes=received, sent_bytes=sent))
    return after


def _opened(sandbox: str, payer: Payer, begin_ms: int) -> Interval:
    size = (payer.milli_cpus, payer.memory_mib, payer.disk_mib)
    return Interval(sandbox, payer.uid, payer.tenant_id, payer.name, *size, begin_ms, 0, begin_ms, 0, 0)


def _add_time(connection: Connection, one: Interval, since_ms: int) -> None:
    begin, end = sorted((since_ms, one.until_ms))
    for month, length in split(begin, end):
        spent = length if one.until_ms == end else -length
        used = (spent, spent * one.milli_cpus, spent * one.memory_mib, spent * one.disk_mib)
        _add(connection, PodUsageRow(month, one.tenant_id, one.name, *used))


def _add(connection: Connection, row: PodUsageRow) -> None:
    name = row.name if _has_room(connection, row) else ""
    grown = ", ".join(f"{column} = {column} + excluded.{column}" for column in _SUMS)
    connection.execute(
        f"INSERT INTO pod_usage VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) "  # noqa: S608
        f"ON CONFLICT (month, tenant_id, name) DO UPDATE SET {grown}",
        (row.month, row.tenant_id, name, *(getattr(row, column) for column in _SUMS)),
    )


def _has_room(connection: Connection, row: PodUsageRow) -> bool:
    key = (row.month, row.tenant_id)
    query = "SELECT 1 FROM pod_usage WHERE month = ? AND tenant_id = ? AND name = ?"
    if connection.execute(query, (*key, row.name)).fetchone() is not None:
        return True
    (count,) = connection.execute(
        "SELECT count(*) FROM pod_usage WHERE month = ? AND tenant_id = ? AND name != ''", key
    ).fetchone()
    return int(count) < NAMES_LIMIT


def _write(connection: Connection, one: Interval) -> None:
    marks = ", ".join("?" * len(values := astuple(one)))
    connection.execute(f"INSERT OR REPLACE INTO pod_intervals VALUES ({marks})", values)  # noqa: S608


def find_interval(connection: Connection, sandbox: str) -> Interval | None:
    found = connection.execute("SELECT * FROM pod_intervals WHERE sandbox = ?", (sandbox,)).fetchone()
    return None if found is None else Interval(*found)


def list_intervals(connection: Connection, tenant: str, name: str, limit: int) -> Sequence[Interval]:
    """Return the newest intervals of a tenant's pods (``name``: of one), the newest first."""
    named = ("AND name = ?", (name,)) if name else ("", ())
    found = connection.execute(
        f"SELECT * FROM pod_intervals WHERE tenant_id = ? {named[0]} "  # noqa: S608
        "ORDER BY until_ms DESC, sandbox LIMIT ?",
        (tenant, *named[1], limit),
    )
    return [Interval(*row) for row in found]


def list_pod_usage(
    connection: Connection, month: str, tenant: str, name: str, after: tuple[str, str, str], limit: int
) -> list[PodUsageRow]:
    """At most ``limit`` rows whose (month, tenant, name) is greater than ``after``, in that order. An empty text
    stands for all.
    """
    where, values = _conditions(month, tenant, name)
    found = connection.execute(
        f"SELECT * FROM pod_usage WHERE {where} AND (month, tenant_id, name) > (?, ?, ?) "  # noqa: S608
        "ORDER BY month, tenant_id, name LIMIT ?",
        (*values, *after, limit),
    )
    return [PodUsageRow(*row) for row in found]


def sum_pod_usage(connection: Connection, month: str, tenant: str) -> list[PodUsageRow]:
    """Return one row for each month and tenant, whose name is empty."""
    where, values = _conditions(month, tenant, "")
    sums = ", ".join(f"SUM({column})" for column in _SUMS)
    found = connection.execute(
        f"SELECT month, tenant_id, '', {sums} FROM pod_usage WHERE {where} "  # noqa: S608
        "GROUP BY month, tenant_id ORDER BY month, tenant_id",
        values,
    )
    return [PodUsageRow(*row) for row in found]


def _conditions(month: str, tenant: str, name: str) -> tuple[str, tuple[str, ...]]:
    named = {column: value for column, value in {"month": month, "tenant_id": tenant, "name": name}.items() if value}
    return " AND ".join(["1", *(f"{column} = ?" for column in named)]), tuple(named.values())


def trim_pod_usage(connection: Connection, month: str, before_ms: int) -> None:
    """Remove sums before ``month`` and what is left of pods that are gone: before ``before_ms``, or too many."""
    connection.execute("DELETE FROM pod_usage WHERE month < ?", (month,))
    gone = "uid NOT IN (SELECT uid FROM pods)"
    connection.execute(f"DELETE FROM pod_intervals WHERE until_ms < ? AND {gone}", (before_ms,))  # noqa: S608
    tenants: Iterable[tuple[str]] = connection.execute(
        "SELECT tenant_id FROM pod_intervals GROUP BY tenant_id HAVING count(*) > ?", (INTERVALS_LIMIT,)
    ).fetchall()
    for (tenant,) in tenants:
        connection.execute(
            f"DELETE FROM pod_intervals WHERE tenant_id = ? AND {gone} AND sandbox NOT IN (SELECT sandbox FROM "  # noqa: S608
            "pod_intervals WHERE tenant_id = ? ORDER BY until_ms DESC, sandbox LIMIT ?)",
            (tenant, tenant, INTERVALS_LIMIT),
        )
