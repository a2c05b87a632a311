"""Versions put before the isolation rules again: where a tier has changed, its instances are drained."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterable

from alcove.functions.isolation import raise_floor
from alcove.functions.model import DispatcherProtocol, FunctionVersion
from alcove.functions.records import Records
from alcove.policy.decide import Decision
from alcove.sandbox.protocol import Isolation, TenantId
from alcove.store import isolation as rows
from alcove.store.database import Database

log = logging.getLogger(__name__)

# A version as it was and as it is, where its tier has changed.
Moved = tuple[FunctionVersion, FunctionVersion]


class Moves:
    """``drop`` forgets what is in memory of a tenant's function."""

    def __init__(
        self,
        database: Database,
        records: Records,
        dispatcher: DispatcherProtocol,
        drop: Callable[[TenantId, str], None],
    ) -> None:
        self._database = database
        self._records = records
        self._dispatcher = dispatcher
        self._drop = drop

    @property
    def policy_document(self) -> dict[str, object]:
        return self._records.settings.policy.document()

    async def reconsider(self, **which: str) -> None:
        """Decide anew on all versions, or those of a ``tenant_id`` or a ``package_sha256``."""
        await self.move(await self._database.write(lambda c: reconsider(c, self._records, **which)))

    async def explain(self, version: FunctionVersion) -> list[Decision]:
        """Return every demand on the version's isolation, the strongest first."""
        return await self._database.read(lambda c: list(self._records.settings.policy.explain(c, version)))

    async def raise_floor(self, tenant: TenantId, floor: Isolation, *, operator: bool) -> None:
        """Set the weakest tier for all that is the tenant's; only the operator may lower it."""
        await self._database.write(lambda c: raise_floor(c, tenant, floor, operator=operator))
        await self.reconsider(tenant_id=tenant)

    async def floor(self, tenant: TenantId) -> str:
        return await self._database.read(lambda c: rows.tenant_floor(c, tenant)) or Isolation.PROCESS

    async def move(self, moved: Iterable[Moved]) -> None:
        for before, after in moved:
            log.info("%s runs in %s now: %s", after.arn, after.isolation, after.reason)
            self._drop(after.tenant, after.name)
            await self._dispatcher.forget(after.function_arn, after.version)
            await self._dispatcher.drop_snapshots([before])


def reconsider(connection: sqlite3.Connection, records: Records, **which: str) -> list[Moved]:
    """Decide anew on the versions that ``which`` names; runs inside ``Database.write``."""
    moved = []
    for function, row in rows.versions_of(connection, **which):
        before = records.from_row(function, row)
        after = records.settings.policy.reconsider(connection, before)
        if after != before:
            rows.set_isolation(
                connection, after.function_id, after.version, after.isolation.value, after.cause, after.reason
            )
        if after.isolation is not before.isolation:
            moved.append((before, after))
    return moved
