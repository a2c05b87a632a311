"""Rows of ``instances.db``: pods and their events."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

# Of one pod; the oldest go.
EVENTS_LIMIT = 100


@dataclass(frozen=True, slots=True)
class PodRow:
    """``manifest``, ``memory`` and ``status`` are JSON. ``deleted_ms`` 0: it is wanted."""

    uid: str
    tenant_id: str
    name: str
    manifest: str
    isolation: str
    created_ms: int
    deleted_ms: int = 0
    grace_s: int = 30
    memory: str = "{}"
    status: str = "{}"
    group_id: str = ""

    @property
    def instance_id(self) -> str:
        """As the generated column says it."""
        return f"p-{self.uid.replace('-', '')[:16]}"


@dataclass(frozen=True, slots=True)
class PodEventRow:
    type: str
    reason: str
    message: str
    count: int
    first_ms: int
    last_ms: int


COLUMNS = "uid, tenant_id, name, manifest, isolation, created_ms, deleted_ms, grace_s, memory, status, group_id"
_PHASE = "coalesce(json_extract(status, '$.phase'), 'Pending')"
_EVENT_COLUMNS = "type, reason, message, count, first_ms, last_ms"


def insert_pod(connection: sqlite3.Connection, row: PodRow) -> None:
    connection.execute(
        f"INSERT INTO pods ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
        (
            *(row.uid, row.tenant_id, row.name, row.manifest, row.isolation),
            *(row.created_ms, row.deleted_ms, row.grace_s, row.memory, row.status, row.group_id),
        ),
    )


def find_pod(connection: sqlite3.Connection, tenant: str, name: str) -> PodRow | None:
    query = f"SELECT {COLUMNS} FROM pods WHERE tenant_id=? AND name=?"  # noqa: S608
    found = connection.execute(query, (tenant, name)).fetchone()
    return None if found is None else PodRow(*found)


def pods_of(connection: sqlite3.Connection, uids: Collection[str]) -> Sequence[PodRow]:
    """Return those of the pods that are there."""
    query = f"SELECT {COLUMNS} FROM pods WHERE uid IN (SELECT value FROM json_each(?))"  # noqa: S608
    return [PodRow(*row) for row in connection.execute(query, (json.dumps(list(uids)),))]


def list_pods(connection: sqlite3.Connection, tenant: str, after: str, limit: int) -> Sequence[PodRow]:
    """Return the tenant's pods with names after ``after``, by name."""
    query = f"SELECT {COLUMNS} FROM pods WHERE tenant_id=? AND name>? ORDER BY name LIMIT ?"  # noqa: S608
    return [PodRow(*row) for row in connection.execute(query, (tenant, after, limit))]


def every_pod(connection: sqlite3.Connection) -> Sequence[PodRow]:
    query = f"SELECT {COLUMNS} FROM pods ORDER BY created_ms"  # noqa: S608
    return [PodRow(*row) for row in connection.execute(query)]


def live_pods(connection: sqlite3.Connection, limit: int) -> Sequence[PodRow]:
    """Return the oldest pods that have not ended, at most so many."""
    query = f"SELECT {COLUMNS} FROM pods WHERE {_PHASE} NOT IN ('Succeeded', 'Failed') ORDER BY created_ms, uid LIMIT ?"  # noqa: S608
    return [PodRow(*row) for row in connection.execute(query, (limit,))]


def count_phases(connection: sqlite3.Connection) -> dict[str, int]:
    query = f"SELECT {_PHASE}, count(*) FROM pods GROUP BY 1"  # noqa: S608
    return dict(connection.execute(query).fetchall())


def count_pods(connection: sqlite3.Connection, tenant: str) -> int:
    (count,) = connection.execute("SELECT count(*) FROM pods WHERE tenant_id=?", (tenant,)).fetchone()
    return int(count)


def mark_deleted(connection: sqlite3.Connection, uid: str, moment_ms: int, grace_s: int) -> None:
    """A second time may shorten what is left to end in, not lengthen it."""
    connection.execute(
        "UPDATE pods SET deleted_ms=CASE deleted_ms WHEN 0 THEN ? ELSE deleted_ms END, grace_s=min(grace_s, ?) "
        "WHERE uid=?",
        (moment_ms, grace_s, uid),
    )


def mark_all_deleted(connection: sqlite3.Connection, graces_s: Mapping[str, int], moment_ms: int) -> None:
    """As ``mark_deleted``, of pods by their uids."""
    for uid, grace_s in graces_s.items():
        mark_deleted(connection, uid, moment_ms, grace_s)


def set_memory(connection: sqlite3.Connection, uid: str, memory: str) -> None:
    connection.execute("UPDATE pods SET memory=? WHERE uid=?", (memory, uid))


def set_status(connection: sqlite3.Connection, uid: str, status: str, memory: str) -> None:
    connection.execute("UPDATE pods SET status=?, memory=? WHERE uid=?", (status, memory, uid))


def delete_pod(connection: sqlite3.Connection, uid: str) -> None:
    connection.execute("DELETE FROM pods WHERE uid=?", (uid,))


def add_event(connection: sqlite3.Connection, uid: str, type: str, reason: str, message: str, moment_ms: int) -> None:
    """Write an event; one that is as the last of its reason counts up instead. Of a pod that is gone: nothing."""
    last = connection.execute(
        "SELECT id FROM pod_events WHERE uid=? AND reason=? AND message=? ORDER BY id DESC LIMIT 1",
        (uid, reason, message),
    ).fetchone()
    if last is not None:
        connection.execute("UPDATE pod_events SET count=count+1, last_ms=? WHERE id=?", (moment_ms, last[0]))
        return
    connection.execute(
        "INSERT INTO pod_events (uid, type, reason, message, count, first_ms, last_ms) "
        "SELECT uid, ?, ?, ?, 1, ?, ? FROM pods WHERE uid=?",
        (type, reason, message, moment_ms, moment_ms, uid),
    )
    connection.execute(
        "DELETE FROM pod_events WHERE uid=? AND id NOT IN "
        "(SELECT id FROM pod_events WHERE uid=? ORDER BY id DESC LIMIT ?)",
        (uid, uid, EVENTS_LIMIT),
    )


def list_events(connection: sqlite3.Connection, uid: str) -> Sequence[PodEventRow]:
    query = f"SELECT {_EVENT_COLUMNS} FROM pod_events WHERE uid=? ORDER BY id"  # noqa: S608
    return [PodEventRow(*row) for row in connection.execute(query, (uid,))]
