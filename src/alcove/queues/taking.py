"""One look into a queue: what is too old goes, what was received too often moves to the dead letters, the rest is taken
under receipts of its own. Of a FIFO queue only those groups are looked at of which nothing is in flight. Runs inside
``Database.write``.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from sqlite3 import Connection

from alcove.queues.directory import Queue
from alcove.store import fifo
from alcove.store import queues as rows

# Dead letters by the thousand are moved by several transactions, with others between them.
ROUNDS = 100
# Messages in flight of one FIFO queue ("Amazon SQS quotas"); beyond it nothing is received.
FIFO_IN_FLIGHT = 20_000


@dataclass(frozen=True, slots=True)
class Look:
    """``dead`` is the queue of the dead letters, where there is one."""

    queue: Queue
    dead: Queue | None
    moment_ms: int
    limit: int
    visibility_s: int


@dataclass(slots=True)
class Found:
    """``expired`` are sizes, ``moved`` is the number of dead letters."""

    taken: list[rows.MessageRow] = field(default_factory=list)
    expired: Sequence[int] = ()
    moved: int = 0


def take(connection: Connection, look: Look) -> Found:
    queue, moment = look.queue, look.moment_ms
    found = Found(expired=rows.expire_messages(connection, queue.id, moment - queue.attributes.retention_s * 1000))
    for _ in range(ROUNDS):
        if len(found.taken) >= look.limit:
            break
        visible = _visible(connection, look, look.limit - len(found.taken))
        for row in visible:
            _take_one(connection, look, row, found)
        fifo.refresh_groups(connection, queue.id, (row.group_id for row in visible))
        # Where nothing is hidden the same would be found again.
        if not visible or look.visibility_s == 0:
            break
    return found


def _visible(connection: Connection, look: Look, limit: int) -> list[rows.MessageRow]:
    queue, moment = look.queue, look.moment_ms
    if not queue.attributes.fifo:
        return rows.visible_messages(connection, queue.id, moment, limit)
    if fifo.in_flight(connection, queue.id, moment, FIFO_IN_FLIGHT) >= FIFO_IN_FLIGHT:
        return []
    return rows.ready_messages(connection, queue.id, moment, limit)


def _take_one(connection: Connection, look: Look, row: rows.MessageRow, found: Found) -> None:
    redrive = look.queue.attributes.redrive
    if look.dead is not None and redrive is not None and row.received >= redrive.max_receives:
        rows.move_message(connection, row, look.dead.id, look.queue.arn, look.moment_ms)
        found.moved += 1
        return
    visible_ms = look.moment_ms + look.visibility_s * 1000
    receipt = secrets.token_hex(16)
    found.taken.append(rows.take_message(connection, row.sequence, receipt, look.moment_ms, visible_ms))
