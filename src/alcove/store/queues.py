"""Rows of queues and messages. Each function runs inside ``Database.write`` or ``read``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from sqlite3 import Connection

from alcove.store import fifo


@dataclass(frozen=True, slots=True)
class QueueRow:
    """Field order is column order."""

    id: int
    tenant_id: str
    name: str
    attributes: str
    created_ms: int
    modified_ms: int
    tags: str = "{}"


@dataclass(frozen=True, slots=True)
class MessageRow:
    """Field order is column order. ``attributes`` is a JSON object as text."""

    sequence: int
    queue_id: int
    message_id: str
    body: str
    attributes: str
    size: int
    sent_ms: int
    visible_ms: int
    received: int = 0
    first_ms: int = 0
    receipt: str = ""
    dead_letter_of: str = ""
    group_id: str = ""
    deduplication_id: str = ""
    attempt: str = ""
    attempt_ms: int = 0
    attempt_size: int = 0


@dataclass(frozen=True, slots=True)
class Counts:
    visible: int
    in_flight: int
    delayed: int


def all_queues(connection: Connection) -> list[QueueRow]:
    return [QueueRow(*row) for row in connection.execute("SELECT * FROM queues")]


def insert_queue(connection: Connection, row: QueueRow) -> QueueRow:
    """Return the row with its id. Raises ``sqlite3.IntegrityError`` where the tenant has a queue of that name."""
    found = connection.execute(
        "INSERT INTO queues (tenant_id, name, attributes, created_ms, modified_ms, tags) VALUES (?, ?, ?, ?, ?, ?)",
        (row.tenant_id, row.name, row.attributes, row.created_ms, row.modified_ms, row.tags),
    )
    assert found.lastrowid is not None
    return replace(row, id=found.lastrowid)


def set_attributes(connection: Connection, queue_id: int, attributes: str, moment_ms: int) -> None:
    connection.execute(
        "UPDATE queues SET attributes = ?, modified_ms = ? WHERE id = ?", (attributes, moment_ms, queue_id)
    )


def set_tags(connection: Connection, queue_id: int, tags: str) -> None:
    connection.execute("UPDATE queues SET tags = ? WHERE id = ?", (tags, queue_id))


def delete_queue(connection: Connection, queue_id: int) -> None:
    """Remove the queue and, by cascade, its messages."""
    connection.execute("DELETE FROM queues WHERE id = ?", (queue_id,))


def insert_message(connection: Connection, row: MessageRow) -> int:
    """Return its sequence. Raises ``sqlite3.IntegrityError`` where there is no such queue."""
    values = (row.queue_id, row.message_id, row.body, row.attributes, row.size, row.sent_ms, row.visible_ms)
    found = connection.execute(
        "INSERT INTO messages (queue_id, message_id, body, attributes, size, sent_ms, visible_ms, group_id, "
        "deduplication_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (*values, row.group_id, row.deduplication_id),
    )
    fifo.refresh_group(connection, row.queue_id, row.group_id)
    assert found.lastrowid is not None
    return found.lastrowid


def remember(connection: Connection, message_id: str, moment_ms: int, forget_before_ms: int) -> bool:
    """Note a given id; tell whether it is new."""
    connection.execute("DELETE FROM given WHERE accepted_ms < ?", (forget_before_ms,))
    return connection.execute("INSERT OR IGNORE INTO given VALUES (?, ?)", (message_id, moment_ms)).rowcount > 0


def visible_messages(connection: Connection, queue_id: int, moment_ms: int, limit: int) -> list[MessageRow]:
    rows = connection.execute(
        "SELECT * FROM messages WHERE queue_id = ? AND visible_ms <= ? ORDER BY visible_ms, sequence LIMIT ?",
        (queue_id, moment_ms, limit),
    )
    return [MessageRow(*row) for row in rows]


def ready_messages(connection: Connection, queue_id: int, moment_ms: int, limit: int) -> list[MessageRow]:
    """As ``visible_messages``, of a FIFO queue."""
    return [
        MessageRow(*connection.execute("SELECT * FROM messages WHERE sequence = ?", (sequence,)).fetchone())
        for sequence in fifo.ready_messages(connection, queue_id, moment_ms, limit)
    ]


def messages_of_attempt(connection: Connection, queue_id: int, attempt: str) -> list[MessageRow]:
    """Return what was received under this id and has not been changed since."""
    rows = connection.execute(
        "SELECT * FROM messages WHERE queue_id = ? AND attempt = ? AND attempt <> '' ORDER BY sequence",
        (queue_id, attempt),
    )
    return [MessageRow(*row) for row in rows]


def next_visible_ms(connection: Connection, queue_id: int, after_ms: int) -> int | None:
    row = connection.execute(
        "SELECT MIN(visible_ms) FROM messages WHERE queue_id = ? AND visible_ms > ?", (queue_id, after_ms)
    ).fetchone()
    return None if row[0] is None else int(row[0])


def take_message(connection: Connection, sequence: int, receipt: str, moment_ms: int, visible_ms: int) -> MessageRow:
    """Note that a message is received; return it as it is now."""
    row = connection.execute(
        "UPDATE messages SET received = received + 1, receipt = ?, visible_ms = ?, attempt = '', "
        "first_ms = CASE first_ms WHEN 0 THEN ? ELSE first_ms END WHERE sequence = ? RETURNING *",
        (receipt, visible_ms, moment_ms, sequence),
    ).fetchone()
    return MessageRow(*row)


def move_message(connection: Connection, row: MessageRow, queue_id: int, source_arn: str, moment_ms: int) -> None:
    """Put a message into a dead-letter queue."""
    connection.execute(
        "UPDATE messages SET queue_id = ?, dead_letter_of = ?, visible_ms = ?, received = 0, first_ms = 0, "
        "receipt = '', attempt = '' WHERE sequence = ?",
        (queue_id, source_arn, moment_ms, row.sequence),
    )
    fifo.refresh_group(connection, queue_id, row.group_id)


def delete_message(connection: Connection, queue_id: int, sequence: int, receipt: str) -> int | None:
    """Remove a message by its receipt; return its size, None where there is none."""
    row = connection.execute(
        "DELETE FROM messages WHERE sequence = ? AND queue_id = ? AND receipt = ? AND receipt <> '' "
        "RETURNING size, group_id",
        (sequence, queue_id, receipt),
    ).fetchone()
    if row is None:
        return None
    fifo.refresh_group(connection, queue_id, row[1])
    return int(row[0])


def set_visible(
    connection: Connection, queue_id: int, sequence: int, receipt: str, visible_ms: int, moment_ms: int, uncount: int
) -> bool:
    """Change when a message in flight is visible again; ``uncount`` receives less. Tell whether it was in flight."""
    found = connection.execute(
        "UPDATE messages SET visible_ms = ?, received = MAX(received - ?, 0), attempt = '' "
        "WHERE sequence = ? AND queue_id = ? AND receipt = ? AND receipt <> '' AND visible_ms > ? "
        "RETURNING group_id",
        (visible_ms, uncount, sequence, queue_id, receipt, moment_ms),
    ).fetchone()
    if found is None:
        return False
    fifo.refresh_group(connection, queue_id, found[0])
    return True


def expire_messages(connection: Connection, queue_id: int, sent_before_ms: int) -> Sequence[int]:
    """Remove what is too old; return the sizes."""
    rows = connection.execute(
        "DELETE FROM messages WHERE queue_id = ? AND sent_ms < ? RETURNING size, group_id", (queue_id, sent_before_ms)
    ).fetchall()
    fifo.refresh_groups(connection, queue_id, (row[1] for row in rows))
    return [int(row[0]) for row in rows]


def count_messages(connection: Connection, queue_id: int, moment_ms: int) -> Counts:
    row = connection.execute(
        "SELECT COALESCE(SUM(visible_ms <= :now), 0), COALESCE(SUM(visible_ms > :now AND receipt <> ''), 0), "
        "COALESCE(SUM(visible_ms > :now AND receipt = ''), 0) FROM messages WHERE queue_id = :queue",
        {"now": moment_ms, "queue": queue_id},
    ).fetchone()
    return Counts(int(row[0]), int(row[1]), int(row[2]))


def sizes_by_tenant(connection: Connection) -> dict[str, tuple[int, int]]:
    """Return each tenant's number of messages and their bytes."""
    rows = connection.execute(
        "SELECT q.tenant_id, COUNT(*), SUM(m.size) FROM messages m JOIN queues q ON q.id = m.queue_id GROUP BY 1"
    )
    return {row[0]: (int(row[1]), int(row[2])) for row in rows}
