"""Rows of flows and their executions. Each function runs inside ``Database.write`` or ``read``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from sqlite3 import Connection

RUNNING = "Running"


@dataclass(frozen=True, slots=True)
class FlowRow:
    """Field order is column order."""

    tenant_id: str
    name: str
    definition: str
    description: str
    created_ms: int
    modified_ms: int


@dataclass(frozen=True, slots=True)
class ExecutionRow:
    """Field order is column order, but for ``id``. ``bytes``: of its texts and its history."""

    tenant_id: str
    flow: str
    name: str
    definition: str
    input: str
    status: str
    output: str
    started_ms: int
    stopped_ms: int
    events: int
    bytes: int
    id: int = 0


@dataclass(frozen=True, slots=True)
class CheckpointRow:
    """Field order is column order, after the execution."""

    branch: str
    state: str  # "" where the branch is done: its data is what it gives
    visit: int
    entered: int
    data: str
    attempts: str
    due_ms: int


@dataclass(frozen=True, slots=True)
class EventRow:
    """Field order is column order, after the execution and the number."""

    state: str
    type: str
    detail: str
    time_ms: int


_EXECUTION = "tenant_id, flow, name, definition, input, status, output, started_ms, stopped_ms, events, bytes"


# Flows


def put_flow(connection: Connection, row: FlowRow) -> None:
    connection.execute("INSERT OR REPLACE INTO flows VALUES (?, ?, ?, ?, ?, ?)", astuple(row))


def find_flow(connection: Connection, tenant_id: str, name: str) -> FlowRow | None:
    row = connection.execute("SELECT * FROM flows WHERE tenant_id = ? AND name = ?", (tenant_id, name)).fetchone()
    return None if row is None else FlowRow(*row)


def list_flows(connection: Connection, tenant_id: str, after: str = "", limit: int = -1) -> list[FlowRow]:
    """By name."""
    rows = connection.execute(
        "SELECT * FROM flows WHERE tenant_id = ? AND name > ? ORDER BY name LIMIT ?", (tenant_id, after, limit)
    )
    return [FlowRow(*row) for row in rows]


def count_flows(connection: Connection, tenant_id: str) -> int:
    return int(connection.execute("SELECT COUNT(*) FROM flows WHERE tenant_id = ?", (tenant_id,)).fetchone()[0])


def delete_flow(connection: Connection, tenant_id: str, name: str) -> None:
    """Remove a flow with all of its executions."""
    connection.execute("DELETE FROM executions WHERE tenant_id = ? AND flow = ?", (tenant_id, name))
    connection.execute("DELETE FROM flows WHERE tenant_id = ? AND name = ?", (tenant_id, name))


def delete_tenant(connection: Connection, tenant_id: str) -> None:
    connection.execute("DELETE FROM executions WHERE tenant_id = ?", (tenant_id,))
    connection.execute("DELETE FROM flows WHERE tenant_id = ?", (tenant_id,))


# Executions


def insert_execution(connection: Connection, row: ExecutionRow) -> int:
    """Return its id."""
    done = connection.execute(
        f"INSERT INTO executions ({_EXECUTION}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
        astuple(row)[:-1],
    )
    return int(done.lastrowid or 0)


def find_execution(connection: Connection, tenant_id: str, flow: str, name: str) -> ExecutionRow | None:
    row = connection.execute(
        f"SELECT {_EXECUTION}, id FROM executions WHERE tenant_id = ? AND flow = ? AND name = ?",  # noqa: S608
        (tenant_id, flow, name),
    ).fetchone()
    return None if row is None else ExecutionRow(*row)


def list_executions(connection: Connection, tenant_id: str, flow: str, before: int, limit: int) -> list[ExecutionRow]:
    """Those with ids lower than ``before``, the newest first."""
    rows = connection.execute(
        f"SELECT {_EXECUTION}, id FROM executions WHERE tenant_id = ? AND flow = ? AND id < ? "  # noqa: S608
        "ORDER BY id DESC LIMIT ?",
        (tenant_id, flow, before, limit),
    )
    return [ExecutionRow(*row) for row in rows]


def count_executions(connection: Connection, tenant_id: str, flow: str) -> int:
    row = connection.execute(
        "SELECT COUNT(*) FROM executions WHERE tenant_id = ? AND flow = ?", (tenant_id, flow)
    ).fetchone()
    return int(row[0])


def count_running(connection: Connection, tenant_id: str, flow: str) -> int:
    row = connection.execute(
        "SELECT COUNT(*) FROM executions WHERE tenant_id = ? AND flow = ? AND status = 'Running'", (tenant_id, flow)
    ).fetchone()
    return int(row[0])


def running_executions(connection: Connection) -> list[ExecutionRow]:
    rows = connection.execute(f"SELECT {_EXECUTION}, id FROM executions WHERE status = 'Running' ORDER BY id")  # noqa: S608
    return [ExecutionRow(*row) for row in rows]


def end_execution(connection: Connection, execution_id: int, status: str, output: str, moment_ms: int) -> bool:
    """Return whether it ran still."""
    done = connection.execute(
        "UPDATE executions SET status = ?, output = ?, stopped_ms = ?, bytes = bytes + ? "
        "WHERE id = ? AND status = 'Running'",
        (status, output, moment_ms, len(output), execution_id),
    )
    connection.execute("DELETE FROM checkpoints WHERE execution_id = ?", (execution_id,))
    return done.rowcount > 0


def prune_executions(connection: Connection, ended_before_ms: int, limit: int) -> int:
    """Remove executions that ended before then, the oldest first, at most ``limit``; return how many."""
    done = connection.execute(
        "DELETE FROM executions WHERE id IN (SELECT id FROM executions WHERE status != 'Running' AND stopped_ms < ? "
        "ORDER BY stopped_ms LIMIT ?)",
        (ended_before_ms, limit),
    )
    return done.rowcount


def shrink_executions(connection: Connection, tenant_id: str, keep: int, keep_bytes: int) -> int:
    """Remove what ended longest ago of a tenant, until what is kept is within both bounds; return how many."""
    done = connection.execute(
        "DELETE FROM executions WHERE id IN (SELECT id FROM (SELECT id, "
        "ROW_NUMBER() OVER (ORDER BY stopped_ms DESC, id DESC) AS place, "
        "SUM(bytes) OVER (ORDER BY stopped_ms DESC, id DESC) AS total "
        "FROM executions WHERE tenant_id = ? AND status != 'Running') WHERE place > ? OR total > ?)",
        (tenant_id, keep, keep_bytes),
    )
    return done.rowcount


# How far they are


def put_checkpoint(connection: Connection, execution_id: int, row: CheckpointRow) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO checkpoints VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (execution_id, *astuple(row))
    )


def list_checkpoints(connection: Connection, execution_id: int) -> list[CheckpointRow]:
    rows = connection.execute(
        "SELECT branch, state, visit, entered, data, attempts, due_ms FROM checkpoints WHERE execution_id = ?",
        (execution_id,),
    )
    return [CheckpointRow(*row) for row in rows]


def delete_checkpoints(connection: Connection, execution_id: int, branches: Sequence[str]) -> None:
    connection.executemany(
        "DELETE FROM checkpoints WHERE execution_id = ? AND branch = ?", [(execution_id, one) for one in branches]
    )


def add_events(connection: Connection, execution_id: int, events: Sequence[EventRow]) -> bool:
    """Append to the history of an execution that runs; return whether it does."""
    size = sum(len(one.detail) + len(one.state) for one in events)
    row = connection.execute(
        "UPDATE executions SET events = events + ?, bytes = bytes + ? WHERE id = ? AND status = 'Running' "
        "RETURNING events",
        (len(events), size, execution_id),
    ).fetchone()
    if row is None:
        return False
    first = int(row[0]) - len(events) + 1
    connection.executemany(
        "INSERT INTO execution_events VALUES (?, ?, ?, ?, ?, ?)",
        [(execution_id, first + offset, *astuple(one)) for offset, one in enumerate(events)],
    )
    return True


def list_events(connection: Connection, execution_id: int, after: int, limit: int) -> list[tuple[int, EventRow]]:
    rows = connection.execute(
        "SELECT number, state, type, detail, time_ms FROM execution_events WHERE execution_id = ? AND number > ? "
        "ORDER BY number LIMIT ?",
        (execution_id, after, limit),
    )
    return [(row[0], EventRow(*row[1:])) for row in rows]
