"""Which queues there are: in memory, written to the store before it counts."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, replace

from alcove.errors import Conflict, InvalidRequest
from alcove.host.clock import now_ms
from alcove.queues import attributes as attributes_module
from alcove.queues.attributes import Attributes, check_tags
from alcove.queues.faults import BadAttributeValue, NoSuchQueue, QueueExists
from alcove.sandbox.protocol import TenantId
from alcove.store import queues as rows
from alcove.store.database import Database

NAME = re.compile(r"[A-Za-z0-9_-]+")
NAME_LIMIT = 80
FIFO_SUFFIX = ".fifo"
QUEUE_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue as it is now."""

    id: int
    tenant: TenantId
    name: str
    arn: str
    attributes: Attributes
    created_ms: int
    modified_ms: int
    tags: Mapping[str, str]


class QueueDirectory:
    """Open with ``await QueueDirectory.open(database, region)``. Methods raise the ``RequestError`` that fits."""

    def __init__(self, database: Database, region: str) -> None:
        self._database = database
        self._region = region
        self._known: dict[TenantId, dict[str, Queue]] = {}

    @classmethod
    async def open(cls, database: Database, region: str) -> QueueDirectory:
        directory = cls(database, region)
        for row in await database.read(rows.all_queues):
            directory._remember(row)
        return directory

    def find(self, tenant: TenantId, name: str) -> Queue:
        """Raises ``NoSuchQueue``."""
        queue = self._known.get(tenant, {}).get(name)
        if queue is None:
            raise NoSuchQueue
        return queue

    def by_arn(self, tenant: TenantId, arn: str) -> Queue:
        """Return the tenant's queue of this ARN. Raises ``NoSuchQueue``."""
        parts = arn.split(":")
        if len(parts) != 6 or parts[:3] != ["arn", "aws", "sqs"] or parts[4] != tenant:
            raise NoSuchQueue
        return self.find(tenant, parts[5])

    def page(self, tenant: TenantId, prefix: str = "", after: str = "", limit: int = 1000) -> list[Queue]:
        """Return at most ``limit`` queues by name, those after ``after``."""
        known = self._known.get(tenant, {})
        names = sorted(name for name in known if name.startswith(prefix) and name > after)
        return [known[name] for name in names[:limit]]

    def all(self) -> list[Queue]:
        return [queue for known in self._known.values() for queue in known.values()]

    async def create(
        self, tenant: TenantId, name: str, given: Mapping[str, str], tags: Mapping[str, str] | None = None
    ) -> Queue:
        """Return the queue, made now or known with the same attributes. Raises ``QueueExists``."""
        attributes = attributes_module.parse(given)
        _check_name(name, fifo=attributes.fifo)
        self._check_redrive(tenant, name, attributes)
        known = self._known.get(tenant, {})
        if name in known:
            return _same(known[name], attributes)
        if len(known) >= QUEUE_LIMIT:
            raise Conflict(f"A tenant has at most {QUEUE_LIMIT} queues.", hint="delete one that is not needed")
        moment = now_ms()
        labels = json.dumps(check_tags(tags or {}))
        row = rows.QueueRow(0, tenant, name, json.dumps(dict(given)), moment, moment, labels)
        try:
            return self._remember(await self._database.write(lambda connection: rows.insert_queue(connection, row)))
        except sqlite3.IntegrityError:
            return _same(self.find(tenant, name), attributes)

    async def set_attributes(self, queue: Queue, change: Mapping[str, str]) -> Queue:
        attributes = queue.attributes.changed(change)
        if attributes.fifo != queue.attributes.fifo:
            raise BadAttributeValue("A queue stays FIFO, or standard.", hint="make another queue")
        self._check_redrive(queue.tenant, queue.name, attributes)
        moment, text = now_ms(), json.dumps(dict(attributes.given))
        await self._database.write(lambda connection: rows.set_attributes(connection, queue.id, text, moment))
        return self._replace(replace(queue, attributes=attributes, modified_ms=moment))

    async def set_tags(self, queue: Queue, tags: Mapping[str, str]) -> Queue:
        text = json.dumps(check_tags(tags))
        await self._database.write(lambda connection: rows.set_tags(connection, queue.id, text))
        return self._replace(replace(queue, tags=dict(tags)))

    def forget(self, queue: Queue) -> None:
        known = self._known.get(queue.tenant, {})
        if queue.name in known and known[queue.name].id == queue.id:
            del known[queue.name]

    def _replace(self, changed: Queue) -> Queue:
        known = self._known.get(changed.tenant, {})
        if changed.name in known and known[changed.name].id == changed.id:
            known[changed.name] = changed
        return changed

    def _remember(self, row: rows.QueueRow) -> Queue:
        tenant = TenantId(row.tenant_id)
        arn = f"arn:aws:sqs:{self._region}:{tenant}:{row.name}"
        attributes = attributes_module.parse(json.loads(row.attributes))
        tags = json.loads(row.tags)
        queue = Queue(row.id, tenant, row.name, arn, attributes, row.created_ms, row.modified_ms, tags)
        self._known.setdefault(tenant, {})[row.name] = queue
        return queue

    def _check_redrive(self, tenant: TenantId, name: str, attributes: Attributes) -> None:
        if attributes.redrive is None:
            return
        try:
            target = self.by_arn(tenant, attributes.redrive.target)
        except NoSuchQueue:
            raise BadAttributeValue("The dead-letter queue does not exist.", hint="make it first") from None
        if target.name == name:
            raise BadAttributeValue("A queue cannot be its own dead-letter queue.")
        if target.attributes.fifo != attributes.fifo:
            raise BadAttributeValue("The dead-letter queue of a FIFO queue is a FIFO queue, that of another is not.")


def _check_name(name: str, *, fifo: bool) -> None:
    """Raises ``InvalidRequest``."""
    if fifo and not name.endswith(FIFO_SUFFIX):
        raise InvalidRequest(f"The name of a FIFO queue must end with {FIFO_SUFFIX}.")
    if not NAME.fullmatch(name.removesuffix(FIFO_SUFFIX) if fifo else name) or len(name) > NAME_LIMIT:
        raise InvalidRequest(
            "A queue's name has 1 to 80 letters, digits, hyphens or underscores.",
            hint=f"names of queues that are made with FifoQueue end with {FIFO_SUFFIX}",
        )


def _same(known: Queue, attributes: Attributes) -> Queue:
    if any(known.attributes.given.get(name) != value for name, value in attributes.given.items()):
        raise QueueExists(f"A queue {known.name} already exists, with a different value for an attribute.")
    return known
