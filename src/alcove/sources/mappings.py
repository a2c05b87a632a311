"""The control plane of event source mappings: each change is written, then acted on by the mapping's poller.

A change stops the poller, lets it drain, and starts another by what is written: so they come in order, and a daemon
that starts goes on from the rows. A mapping that is deleted is marked first, until nothing of it is left at its source.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from alcove.errors import AlcoveError, Conflict, InvalidRequest, NotFound
from alcove.events.target import Destinations
from alcove.functions.model import LATEST, FunctionVersion
from alcove.functions.names import Reference
from alcove.host.clock import now_ms
from alcove.queues.faults import NoSuchQueue
from alcove.queues.service import QueueService
from alcove.sandbox.protocol import TenantId
from alcove.sources.poller import DRAIN_S, Parts, Poller, Work
from alcove.sources.source import EventSource
from alcove.sources.spec import SourceKind, SourceSpec
from alcove.store import mappings as rows
from alcove.store.database import Database

log = logging.getLogger(__name__)

MAPPING_LIMIT = 100
PAGE_LIMIT = 100
MakeSource = Callable[[str, TenantId, SourceSpec], EventSource]


@dataclass(frozen=True, slots=True)
class Mapping:
    """A mapping as it is now."""

    row: rows.MappingRow
    spec: SourceSpec
    state: str
    result: str


class MappingService:
    """All methods are scoped by tenant; they raise the ``RequestError`` that fits. ``start`` to ``close``."""

    def __init__(
        self, database: Database, parts: Parts, queues: QueueService, destinations: Destinations, make: MakeSource
    ) -> None:
        self._database = database
        self._parts = parts
        self._queues = queues
        self._destinations = destinations
        self._make = make
        self._pollers: dict[str, Poller] = {}
        self._opening: dict[str, str] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._changes: set[asyncio.Task[None]] = set()
        self._closing = False

    async def start(self) -> None:
        for row in await self._database.read(rows.all_mappings):
            self._change(row.uuid, "Deleting" if row.deleting else "Enabling" if row.enabled else "Disabled")

    async def close(self) -> None:
        self._closing = True
        for task in list(self._changes):
            task.cancel()
        await asyncio.gather(*self._changes, return_exceptions=True)
        await asyncio.gather(*(poller.stop(DRAIN_S) for poller in self._pollers.values()))

    async def create(
        self, tenant: TenantId, reference: Reference, spec: SourceSpec, *, enabled: bool = True
    ) -> Mapping:
        function = await self._check(tenant, reference, spec)
        moment = now_ms()
        row = rows.MappingRow(
            uuid=str(uuid.uuid4()),
            tenant_id=tenant,
            function=function.name,
            qualifier=reference.qualifier or "",
            source=spec.identity,
            spec=spec.to_json(),
            enabled=int(enabled),
            deleting=0,
            created_ms=moment,
            modified_ms=moment,
        )

        def write(connection: sqlite3.Connection) -> None:
            if rows.count_mappings(connection, tenant) >= MAPPING_LIMIT:
                raise Conflict(f"A tenant has at most {MAPPING_LIMIT} event source mappings.")
            rows.put_mapping(connection, row)

        await self._write(write)
        self._change(row.uuid, "Creating" if enabled else "Disabled")
        return self._describe(row)

    async def get(self, tenant: TenantId, uuid: str) -> Mapping:
        return self._describe(await self._database.read(lambda connection: _find(connection, tenant, uuid)))

    async def list(
        self, tenant: TenantId, after: str = "", limit: int = PAGE_LIMIT, *, function: str = "", source: str = ""
    ) -> tuple[list[Mapping], str | None]:
        """Return mappings by id, and where to go on, None at the end."""
        limit = max(1, min(limit, PAGE_LIMIT))
        found = await self._database.read(
            lambda c: rows.list_mappings(c, tenant, after, limit + 1, function=function, source=source)
        )
        return [self._describe(row) for row in found[:limit]], found[limit - 1].uuid if len(found) > limit else None

    async def update(
        self,
        tenant: TenantId,
        uuid: str,
        change: Callable[[SourceSpec], SourceSpec],
        *,
        reference: Reference | None = None,
        enabled: bool | None = None,
    ) -> Mapping:
        """Change what ``change`` does to the spec, the function, whether it is enabled."""
        known = (await self.get(tenant, uuid)).row
        wanted = reference or Reference(known.function, known.qualifier or None)
        await self._check(tenant, wanted, change(SourceSpec.from_json(known.spec)))

        def write(connection: sqlite3.Connection) -> rows.MappingRow:
            row = _find(connection, tenant, uuid)
            if row.deleting:
                raise Conflict("The mapping is being deleted.")
            changed = replace(
                row,
                function=wanted.name,
                qualifier=wanted.qualifier or "",
                spec=change(SourceSpec.from_json(row.spec)).to_json(),
                enabled=row.enabled if enabled is None else int(enabled),
                modified_ms=now_ms(),
            )
            rows.put_mapping(connection, changed)
            return changed

        row = await self._write(write)
        self._change(uuid, _opening(known, row))
        return self._describe(row)

    async def delete(self, tenant: TenantId, uuid: str) -> Mapping:
        def write(connection: sqlite3.Connection) -> rows.MappingRow:
            row = replace(_find(connection, tenant, uuid), enabled=0, deleting=1, modified_ms=now_ms())
            rows.put_mapping(connection, row)
            return row

        row = await self._write(write)
        self._change(uuid, "Deleting")
        return self._describe(row)

    async def delete_every(self, tenant: TenantId) -> None:
        """Delete all mappings of the tenant; return when none polls any more."""
        own = [row for row in await self._database.read(rows.all_mappings) if row.tenant_id == tenant]
        for row in own:
            await self.delete(tenant, row.uuid)
        await asyncio.gather(*self._changes, return_exceptions=True)

    def health(self) -> Sequence[str]:
        """Say of each mapping that reads its source whether its last batch was a ``problem``, or ``ok``."""
        return ["problem" if one.result.startswith("PROBLEM") else "ok" for one in self._pollers.values()]

    # Inside

    async def _check(self, tenant: TenantId, reference: Reference, spec: SourceSpec) -> FunctionVersion:
        spec.check()
        function = await self._parts.functions.resolve(tenant, reference.name, reference.qualifier or LATEST)
        if spec.on_failure:
            await self._destinations.check(tenant, spec.on_failure)
        if spec.kind is SourceKind.QUEUE:
            try:
                queue = self._queues.directory.by_arn(tenant, spec.name)
            except NoSuchQueue:
                raise InvalidRequest("The queue in EventSourceArn does not exist.", hint="make it first") from None
            if queue.attributes.visibility_s < function.timeout_s:
                raise InvalidRequest(
                    f"Queue visibility timeout: {queue.attributes.visibility_s} seconds is less than "
                    f"Function timeout: {function.timeout_s} seconds"
                )
        return function

    async def _write(self, write: Callable[[sqlite3.Connection], object]) -> rows.MappingRow:
        try:
            found = await self._database.write(write)
        except sqlite3.IntegrityError as error:
            raise Conflict("An event source mapping with this source and function exists already.") from error
        return found  # type: ignore[return-value]

    def _change(self, uuid: str, opening: str) -> None:
        """Have the mapping's poller be what is written."""
        self._opening[uuid] = opening
        task = asyncio.create_task(self._apply(uuid, opening))
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)

    async def _apply(self, uuid: str, opening: str) -> None:
        async with self._locks.setdefault(uuid, asyncio.Lock()):
            poller = self._pollers.get(uuid)
            if poller is not None:
                await poller.stop()
                del self._pollers[uuid]
            row = await self._database.read(lambda connection: rows.find_mapping(connection, uuid))
            if row is not None and row.deleting:
                await self._remove(row)
            elif row is not None and row.enabled and not self._closing:
                self._poll(row, opening)
        if uuid not in self._pollers:
            self._opening.pop(uuid, None)

    def _poll(self, row: rows.MappingRow, opening: str) -> None:
        spec = SourceSpec.from_json(row.spec)
        work = Work(row.uuid, TenantId(row.tenant_id), row.function, row.qualifier, spec)
        poller = Poller(work, self._make(row.uuid, work.tenant, spec), self._parts, opening=opening)
        self._pollers[row.uuid] = poller
        self._opening.pop(row.uuid, None)
        poller.start()

    async def _remove(self, row: rows.MappingRow) -> None:
        source = self._make(row.uuid, TenantId(row.tenant_id), SourceSpec.from_json(row.spec))
        try:
            await source.forget()
        except AlcoveError as error:
            # A source that is gone for good must not keep the mapping for ever.
            log.warning("mapping %s is deleted, its place at the source stays: %s", row.uuid, error)
        await self._database.write(lambda connection: rows.delete_mapping(connection, row.uuid))
        self._locks.pop(row.uuid, None)

    def _describe(self, row: rows.MappingRow) -> Mapping:
        poller = self._pollers.get(row.uuid)
        state = self._opening.get(row.uuid) or (poller.state if poller is not None else "Disabled")
        result = poller.result if poller is not None else "No records processed"
        return Mapping(row, SourceSpec.from_json(row.spec), "Deleting" if row.deleting else state, result)


def _opening(before: rows.MappingRow, after: rows.MappingRow) -> str:
    if before.enabled != after.enabled:
        return "Enabling" if after.enabled else "Disabling"
    return "Updating"


def _find(connection: sqlite3.Connection, tenant: TenantId, uuid: str) -> rows.MappingRow:
    row = rows.find_mapping(connection, uuid)
    if row is None or row.tenant_id != tenant:
        raise NotFound("The resource you requested does not exist.")
    return row
