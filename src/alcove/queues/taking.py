"""One look into a queue: what is too old goes, what was received too often moves to the dead letters, the rest is taken
under receipts of its own. Of a FIFO queue only those groups are looked at of which nothing is in flight, unless it is a
receive that is tried again: that finds what it found. Runs inside ``Database.write``.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from sqlite3 import Connection

from alcove.queues.directory import Queue
from alcove.store import fifo
from alcove.store import queues as rows

# Dead letters by the thousand are moved by several transactions, with others between them.
ROUNDS = 100
# Messages in flight of one FIFO queue ("Amazon SQS quotas"); beyond it nothing is received.
FIFO_IN_FLIGHT = 20_000
# How long a receive can be tried again ("ReceiveMessage" in the SQS API reference).
ATTEMPT_MS = 5 * 60 * 1000


@dataclass(frozen=True, slots=True)
class Look:
    """``dead`` is the queue of the dead letters, where there is one; ``attempt`` is what a receive is called that may
    be tried again.
    """

    queue: Queue
    dead: Queue | None
    moment_ms: int
    limit: int
    visibility_s: int
    attempt: str = ""

    @property
    def until_ms(self) -> int:
        """When what is taken is visible again."""
        return self.moment_ms + self.visibility_s * 1000


@dataclass(slots=True)
class Found:
    """``expired`` are sizes, ``moved`` is the number of dead letters."""

    taken: list[rows.MessageRow] = field(default_factory=list)
    expired: Sequence[int] = ()
    moved: int = 0


def take(connection: Connection, look: Look) -> Found:
    queue, moment = look.queue, look.moment_ms
    found = Found(expired=rows.expire_messages(connection, queue.id, moment - queue.attributes.retention_s * 1000))
    if look.attempt and (again := _take_again(connection, look)):
        found.taken = again
        return found
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
    if look.attempt and found.taken:
        taken = [row.sequence for row in found.taken]
        fifo.begin_attempt(connection, queue.id, look.attempt, taken, moment)
    return found


def _take_again(connection: Connection, look: Look) -> list[rows.MessageRow]:
    """Return what a receive of this name has taken lately, hidden anew under the receipts that it has; nothing where
    that is visible again, or one of it was deleted or hidden in another way since.
    """
    taken, moment = rows.messages_of_attempt(connection, look.queue.id, look.attempt), look.moment_ms
    whole = all(row.attempt_size == len(taken) and row.visible_ms > moment for row in taken)
    if not taken or not whole or taken[0].attempt_ms <= moment - ATTEMPT_MS:
        return []
    fifo.hide(connection, [row.sequence for row in taken], look.until_ms)
    fifo.refresh_groups(connection, look.queue.id, (row.group_id for row in taken))
    return [replace(row, visible_ms=look.until_ms) for row in taken]


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
    receipt = secrets.token_hex(16)
    found.taken.append(rows.take_message(connection, row.sequence, receipt, look.moment_ms, look.until_ms))
