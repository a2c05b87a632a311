"""Messages: sent, received, hidden, deleted, given up. Each change is on the disk before its caller is told; what comes
at once is written together.

A message that is received is hidden for the visibility time-out, under a receipt of its own; it is gone when it is
deleted by that receipt, and comes again otherwise: at least once. Who polls is woken by what arrives, and by the clock
for what becomes visible again.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from alcove.errors import AlcoveError
from alcove.host.clock import now_ms
from alcove.queues.directory import Queue, QueueDirectory
from alcove.queues.faults import NoSuchQueue, QueueFull
from alcove.queues.message import Draft, make_handle, read_handle, sequence_number
from alcove.queues.pace import Pace
from alcove.queues.room import Room
from alcove.queues.sending import Accepted, accept, check
from alcove.queues.taking import Look, take
from alcove.sandbox.protocol import TenantId
from alcove.store import fifo
from alcove.store import queues as rows
from alcove.store.database import Database
from alcove.store.group import GroupWriter

log = logging.getLogger(__name__)

# Requests of one tenant that wait for messages.
POLLS_LIMIT = 512
RECEIVE_LIMIT = 10
EXPIRE_EVERY_S = 60.0


class QueueService:
    """``open`` to ``close``. Queues are in ``directory``; methods raise the ``RequestError`` that fits."""

    def __init__(self, database: Database, directory: QueueDirectory, held: dict[str, tuple[int, int]]) -> None:
        self._database = database
        self._writer = GroupWriter(database)
        self.directory = directory
        self.room = Room(held)
        self._pace = Pace()
        self._polls: Counter[str] = Counter()
        self._arrivals: dict[int, asyncio.Event] = {}
        self._closing = False
        self._janitor: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, path: Path, region: str) -> QueueService:
        database = await Database.open(path, schema="queues")
        directory = await QueueDirectory.open(database, region)
        return cls(database, directory, await database.read(rows.sizes_by_tenant))

    def start(self) -> None:
        self._janitor = asyncio.create_task(self._expire())

    def wake(self) -> None:
        """Answer everybody who polls, now and from now on: the end is near."""
        self._closing = True
        for queue_id in list(self._arrivals):
            self._arrived(queue_id)

    async def close(self) -> None:
        self.wake()
        if self._janitor is not None:
            self._janitor.cancel()
            await asyncio.gather(self._janitor, return_exceptions=True)
        await self._writer.close()
        await self._database.close()

    # Messages

    async def send(self, queue: Queue, drafts: Sequence[Draft], *, max_bytes: int | None = None) -> list[str]:
        """Accept messages, all or none; return their ids. ``max_bytes``: the most of one, where it is not the queue's.

        Raises ``TooLarge``, ``QueueFull``, ``NoSuchQueue``.
        """
        accepted = await self.accept(queue, drafts, max_bytes=max_bytes)
        return [one.message_id for one in accepted]

    async def accept(self, queue: Queue, drafts: Sequence[Draft], *, max_bytes: int | None = None) -> list[Accepted]:
        """As ``send``; return what is known of each message."""
        check(queue, drafts, queue.attributes.max_bytes if max_bytes is None else max_bytes)
        if queue.attributes.fifo:
            self._pace.take(queue.tenant, len(drafts))
        sizes = [draft.size for draft in drafts]
        self.room.check(queue.tenant, sizes)
        moment = now_ms()
        # Before the write, so that what comes at once keeps to the limit together.
        self.room.add(queue.tenant, sizes)
        accepted: list[Accepted] = []
        try:
            accepted = await self._writer.write(lambda connection: accept(connection, queue, drafts, moment))
        except sqlite3.IntegrityError:
            raise NoSuchQueue from None
        finally:
            self.room.remove(queue.tenant, sizes)
            self.room.add(queue.tenant, [one.size for one in accepted if one.size])
        self._arrived(queue.id)
        return accepted

    async def receive(
        self, queue: Queue, limit: int = 1, *, wait_s: float = 0, visibility_s: int | None = None, attempt: str = ""
    ) -> list[rows.MessageRow]:
        """Take at most ``limit`` messages, waiting for the first for at most ``wait_s``. ``attempt``: of a FIFO queue,
        a name under which this can be done again with the same result, as long as none of it has changed.
        """
        visibility_s = queue.attributes.visibility_s if visibility_s is None else visibility_s
        if wait_s and self._polls[queue.tenant] >= POLLS_LIMIT:
            raise QueueFull("Too many requests of this tenant wait for messages.", hint="try again later")
        self._polls[queue.tenant] += 1
        try:
            return await self._poll(queue, limit, asyncio.get_running_loop().time() + wait_s, visibility_s, attempt)
        finally:
            self._polls[queue.tenant] -= 1

    async def delete(self, queue: Queue, handles: Iterable[str]) -> None:
        """Remove messages by their last receipts; what is gone already is no fault. Raises ``BadReceipt``."""
        receipts = [read_handle(handle) for handle in handles]

        def change(connection: sqlite3.Connection) -> list[int]:
            found = [rows.delete_message(connection, queue.id, *receipt) for receipt in receipts]
            return [size for size in found if size is not None]

        self.room.remove(queue.tenant, await self._writer.write(change))
        if queue.attributes.fifo:
            # The rest of a group can be received.
            self._arrived(queue.id)

    async def set_visibility(self, queue: Queue, changes: Sequence[tuple[str, float, bool]]) -> list[bool]:
        """Hide messages for so many seconds from now: (handle, seconds, whether its receive counts); tell which were
        in flight. Raises ``BadReceipt``.
        """
        moment = now_ms()
        wanted = [(read_handle(handle), moment + int(delay_s * 1000), counts) for handle, delay_s, counts in changes]

        def change(connection: sqlite3.Connection) -> list[bool]:
            return [
                rows.set_visible(connection, queue.id, *receipt, visible_ms, moment, 0 if counts else 1)
                for receipt, visible_ms, counts in wanted
            ]

        found = await self._writer.write(change)
        self._arrived(queue.id)
        return found

    async def purge(self, queue: Queue) -> None:
        sizes = await self._writer.write(lambda c: rows.expire_messages(c, queue.id, now_ms() + 1))
        self.room.remove(queue.tenant, sizes)

    async def delete_queue(self, queue: Queue) -> None:
        def change(connection: sqlite3.Connection) -> Sequence[int]:
            sizes = rows.expire_messages(connection, queue.id, now_ms() + 1)
            rows.delete_queue(connection, queue.id)
            return sizes

        self.room.remove(queue.tenant, await self._writer.write(change))
        self.directory.forget(queue)
        self._arrived(queue.id)

    async def delete_every(self, tenant: TenantId) -> None:
        """Delete all queues of the tenant, with their messages."""
        while queues := self.directory.page(tenant):
            for queue in queues:
                await self.delete_queue(queue)

    async def counts(self, queue: Queue) -> rows.Counts:
        moment = now_ms()
        return await self._database.read(lambda c: rows.count_messages(c, queue.id, moment))

    # Inside

    async def _poll(
        self, queue: Queue, limit: int, deadline: float, visibility_s: int, attempt: str
    ) -> list[rows.MessageRow]:
        clock = asyncio.get_running_loop().time
        while True:
            # Before the look, so that nothing arrives between look and wait.
            arrival = self._arrivals.setdefault(queue.id, asyncio.Event())
            queue = self.directory.find(queue.tenant, queue.name)
            found, next_ms = await self._take(queue, limit, visibility_s, attempt)
            left_s = deadline - clock()
            if found or left_s <= 0 or self._closing:
                return found
            if next_ms is not None:
                left_s = min(left_s, max(0.001, (next_ms - now_ms()) / 1000))
            try:
                async with asyncio.timeout(left_s):
                    await arrival.wait()
            except TimeoutError:
                pass

    async def _take(
        self, queue: Queue, limit: int, visibility_s: int, attempt: str
    ) -> tuple[list[rows.MessageRow], int | None]:
        """Return what was taken, and when to look again where nothing was."""
        attempt = attempt if queue.attributes.fifo else ""
        look = Look(queue, self._dead_letters(queue), now_ms(), limit, visibility_s, attempt)
        found = await self._writer.write(lambda connection: take(connection, look))
        self.room.remove(queue.tenant, found.expired)
        if found.moved and look.dead is not None:
            self._arrived(look.dead.id)
        if found.taken or found.moved:
            return found.taken, look.moment_ms
        next_ms = fifo.next_ready_ms if queue.attributes.fifo else rows.next_visible_ms
        return [], await self._database.read(lambda c: next_ms(c, queue.id, look.moment_ms))

    def _dead_letters(self, queue: Queue) -> Queue | None:
        redrive = queue.attributes.redrive
        if redrive is None:
            return None
        try:
            return self.directory.by_arn(queue.tenant, redrive.target)
        except NoSuchQueue:
            return None

    def _arrived(self, queue_id: int) -> None:
        arrival = self._arrivals.pop(queue_id, None)
        if arrival is not None:
            arrival.set()

    async def _expire(self) -> None:
        """Remove what is too old also where nobody receives."""
        while True:
            await asyncio.sleep(EXPIRE_EVERY_S)
            for queue in self.directory.all():
                await self._expire_in(queue)

    async def _expire_in(self, queue: Queue) -> None:
        before_ms = now_ms() - queue.attributes.retention_s * 1000
        try:
            sizes = await self._writer.write(lambda c: rows.expire_messages(c, queue.id, before_ms))
        except AlcoveError as error:
            log.warning("messages of %s that are too old cannot be removed: %s", queue.arn, error)
        else:
            self.room.remove(queue.tenant, sizes)


def fifo_attributes(message: rows.MessageRow) -> dict[str, str]:
    """Return what only a message in a FIFO queue has, as SQS names it."""
    if not message.group_id:
        return {}
    return {
        "MessageGroupId": message.group_id,
        "MessageDeduplicationId": message.deduplication_id,
        "SequenceNumber": sequence_number(message.sequence),
    }


def handle_of(message: rows.MessageRow) -> str:
    return make_handle(message.sequence, message.receipt)
