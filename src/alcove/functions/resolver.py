"""What names lead to, in memory: each invocation asks, and every change drops what it changed from there."""

from __future__ import annotations

from collections.abc import Callable

from alcove.functions.model import LATEST, FunctionVersion
from alcove.functions.records import Records
from alcove.functions.routing import Routing, read_routing
from alcove.sandbox.protocol import TenantId
from alcove.store.database import Database

# Functions whose versions are kept in memory, some 4 KiB each.
RESOLVED_LIMIT = 32_768


class Resolver:
    """``changed`` are told whenever a function has changed in any way; ``generation`` counts the changes."""

    def __init__(self, database: Database, records: Records, chance: Callable[[], float]) -> None:
        self.generation = 0
        self.changed: list[Callable[[TenantId, str], None]] = []
        self._database = database
        self._records = records
        self._chance = chance
        self._resolved: dict[tuple[str, str], dict[str, Routing]] = {}

    async def resolve(self, tenant: TenantId, name: str, version: str = LATEST) -> FunctionVersion:
        """Return what one invocation of this name and version, or alias, runs; from memory where possible."""
        known = self._resolved.get((tenant, name))
        routing = None if known is None else known.get(version)
        return (routing or await self._route(tenant, name, version)).pick(self._chance)

    async def get(self, tenant: TenantId, name: str, version: str = LATEST) -> FunctionVersion:
        """Return this version; for an alias, the one that most of it is said of: its first."""
        return (await self._route(tenant, name, version)).first

    async def _route(self, tenant: TenantId, name: str, version: str) -> Routing:
        generation = self.generation
        found = await self._database.read(
            lambda connection: read_routing(connection, self._records, tenant, name, version)
        )
        if generation == self.generation:
            self._resolved.setdefault((tenant, name), {})[version] = found
            if len(self._resolved) > RESOLVED_LIMIT:
                del self._resolved[next(iter(self._resolved))]
        return found

    def drop(self, tenant: TenantId, name: str) -> None:
        """Forget what invocations of the function run: it has changed."""
        self.generation += 1
        self._resolved.pop((tenant, name), None)
        for listener in self.changed:
            listener(tenant, name)
