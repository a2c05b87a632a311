"""Rows of FIFO queues: groups of messages, and what was accepted lately. Each function runs inside ``Database.write``
or ``read``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from sqlite3 import Connection


def refresh_group(connection: Connection, queue_id: int, group_id: str) -> None:
    """Note when the group's next message can be received, after its messages have changed."""
    if not group_id:
        return
    first = connection.execute(
        "SELECT sequence, visible_ms FROM messages WHERE queue_id = ? AND group_id = ? AND group_id <> '' "
        "ORDER BY sequence LIMIT 1",
        (queue_id, group_id),
    ).fetchone()
    if first is None:
        connection.execute("DELETE FROM message_groups WHERE queue_id = ? AND group_id = ?", (queue_id, group_id))
        return
    taken = connection.execute(
        "SELECT MAX(visible_ms) FROM messages WHERE queue_id = ? AND group_id = ? AND group_id <> '' AND receipt <> ''",
        (queue_id, group_id),
    ).fetchone()
    ready_ms = max(first[1], taken[0] or 0)
    connection.execute(
        "INSERT OR REPLACE INTO message_groups VALUES (?, ?, ?, ?)", (queue_id, group_id, ready_ms, first[0])
    )


def refresh_groups(connection: Connection, queue_id: int, group_ids: Iterable[str]) -> None:
    for group_id in set(group_ids):
        refresh_group(connection, queue_id, group_id)


def ready_messages(connection: Connection, queue_id: int, moment_ms: int, limit: int) -> list[int]:
    """Return the sequences of messages that can be received, those of a group in order."""
    groups = connection.execute(
        "SELECT group_id FROM message_groups WHERE queue_id = ? AND ready_ms <= ? ORDER BY ready_ms, first LIMIT ?",
        (queue_id, moment_ms, limit),
    ).fetchall()
    found: list[int] = []
    for (group_id,) in groups:
        rows = connection.execute(
            "SELECT sequence, visible_ms FROM messages WHERE queue_id = ? AND group_id = ? AND group_id <> '' "
            "ORDER BY sequence LIMIT ?",
            (queue_id, group_id, limit - len(found)),
        )
        for sequence, visible_ms in rows:
            if visible_ms > moment_ms:
                break
            found.append(sequence)
    return found


def in_flight(connection: Connection, queue_id: int, moment_ms: int, most: int) -> int:
    """Return how many messages are in flight, ``most`` where they are more."""
    row = connection.execute(
        "SELECT COUNT(*) FROM (SELECT 1 FROM messages WHERE queue_id = ? AND group_id <> '' AND receipt <> '' "
        "AND visible_ms > ? LIMIT ?)",
        (queue_id, moment_ms, most),
    ).fetchone()
    return int(row[0])


def next_ready_ms(connection: Connection, queue_id: int, after_ms: int) -> int | None:
    row = connection.execute(
        "SELECT MIN(ready_ms) FROM message_groups WHERE queue_id = ? AND ready_ms > ?", (queue_id, after_ms)
    ).fetchone()
    return None if row[0] is None else int(row[0])


def find_duplicate(connection: Connection, queue_id: int, name: str, after_ms: int) -> tuple[str, int] | None:
    """Return message id and sequence of what was accepted under this name lately."""
    row = connection.execute(
        "SELECT message_id, sequence FROM deduplicated WHERE queue_id = ? AND name = ? AND accepted_ms > ?",
        (queue_id, name, after_ms),
    ).fetchone()
    return None if row is None else (str(row[0]), int(row[1]))


def remember(
    connection: Connection, queue_id: int, name: str, message_id: str, sequence: int, moment_ms: int, after_ms: int
) -> None:
    """Note what was accepted; what was before ``after_ms`` is forgotten."""
    connection.execute("DELETE FROM deduplicated WHERE accepted_ms <= ?", (after_ms,))
    connection.execute(
        "INSERT OR REPLACE INTO deduplicated VALUES (?, ?, ?, ?, ?)", (queue_id, name, message_id, sequence, moment_ms)
    )


def begin_attempt(
    connection: Connection, queue_id: int, attempt: str, sequences: Sequence[int], moment_ms: int
) -> None:
    """Note that these messages were received together under this id, and no others any more."""
    connection.execute(
        "UPDATE messages SET attempt = '' WHERE queue_id = ? AND attempt = ? AND attempt <> ''", (queue_id, attempt)
    )
    connection.executemany(
        "UPDATE messages SET attempt = ?, attempt_ms = ?, attempt_size = ? WHERE sequence = ?",
        [(attempt, moment_ms, len(sequences), sequence) for sequence in sequences],
    )


def hide(connection: Connection, sequences: Sequence[int], visible_ms: int) -> None:
    """Have messages in flight stay there until then."""
    connection.executemany(
        "UPDATE messages SET visible_ms = ? WHERE sequence = ?", [(visible_ms, sequence) for sequence in sequences]
    )
