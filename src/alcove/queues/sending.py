"""How messages come into a queue. ``accept`` runs inside ``Database.write``.

In a FIFO queue a deduplication id is accepted once within five minutes, also after its message is gone; who sends it
again is told what the first one was told.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from sqlite3 import Connection

from alcove.errors import InvalidRequest, TooLarge
from alcove.queues.directory import Queue
from alcove.queues.faults import MissingParameter
from alcove.queues.message import Draft
from alcove.store import fifo
from alcove.store import queues as rows

# How long an id that a sender gave is known.
REMEMBER_S = 2 * 86_400
# "Exactly-once processing in Amazon SQS": the deduplication interval.
DEDUPLICATION_MS = 5 * 60_000


@dataclass(frozen=True, slots=True)
class Accepted:
    """``size``: what it takes in the queue, 0 where it was accepted before."""

    message_id: str
    sequence: int
    size: int


def check(queue: Queue, drafts: Sequence[Draft], max_bytes: int) -> None:
    """Raises ``TooLarge``, ``InvalidRequest``."""
    for draft in drafts:
        check_kind(queue, draft)
        if draft.size > max_bytes:
            raise TooLarge(f"One or more parameters are invalid: a message has at most {max_bytes} bytes.")
        if draft.delay_s is not None and not 0 <= draft.delay_s <= 900:
            raise InvalidRequest("Value for parameter DelaySeconds is invalid: it must be 0 to 900.")


def check_kind(queue: Queue, draft: Draft) -> None:
    """Raises ``InvalidRequest`` where the draft is not one for this kind of queue."""
    if not queue.attributes.fifo:
        for name, value in (
            ("MessageGroupId", draft.group_id),
            ("MessageDeduplicationId", draft.deduplication_id),
        ):
            if value:
                raise _not_here(name, value)
        return
    if not draft.group_id:
        raise MissingParameter("The request must contain the parameter MessageGroupId.")
    if not draft.deduplication_id and not queue.attributes.content_based:
        raise InvalidRequest(
            "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided "
            "explicitly"
        )
    if draft.delay_s is not None:
        raise _not_here("DelaySeconds", str(draft.delay_s))


def _not_here(name: str, value: str) -> InvalidRequest:
    return InvalidRequest(
        f"Value {value[:128]} for parameter {name} is invalid. "
        "Reason: The request include parameter that is not valid for this queue type."
    )


def accept(connection: Connection, queue: Queue, drafts: Sequence[Draft], moment_ms: int) -> list[Accepted]:
    return [_accept(connection, queue, draft, moment_ms) for draft in drafts]


def _accept(connection: Connection, queue: Queue, draft: Draft, moment_ms: int) -> Accepted:
    horizon_ms = moment_ms - REMEMBER_S * 1000
    if draft.message_id and not rows.remember(connection, draft.message_id, moment_ms, horizon_ms):
        return Accepted(draft.message_id, 0, 0)
    row = _row(queue, draft, moment_ms)
    if not queue.attributes.fifo:
        return Accepted(row.message_id, rows.insert_message(connection, row), row.size)
    after_ms = moment_ms - DEDUPLICATION_MS
    name = f"{row.group_id}\0{row.deduplication_id}" if queue.attributes.by_group else row.deduplication_id
    known = fifo.find_duplicate(connection, queue.id, name, after_ms)
    if known is not None:
        return Accepted(*known, 0)
    sequence = rows.insert_message(connection, row)
    fifo.remember(connection, queue.id, name, row.message_id, sequence, moment_ms, after_ms)
    return Accepted(row.message_id, sequence, row.size)


def _row(queue: Queue, draft: Draft, moment_ms: int) -> rows.MessageRow:
    delay_s = queue.attributes.delay_s if draft.delay_s is None else draft.delay_s
    by_content = hashlib.sha256(draft.body.encode()).hexdigest() if queue.attributes.fifo else ""
    return rows.MessageRow(
        sequence=0,
        queue_id=queue.id,
        message_id=draft.message_id or str(uuid.uuid4()),
        body=draft.body,
        attributes=json.dumps(draft.attributes),
        size=draft.size,
        sent_ms=moment_ms,
        visible_ms=moment_ms + delay_s * 1000,
        group_id=draft.group_id,
        deduplication_id=draft.deduplication_id or by_content,
    )
