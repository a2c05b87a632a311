"""Provisioned concurrency, kept up: as many instances of a version as were asked for, initialised before a call comes.

What is wanted is in the store, by version or alias; what there is, in the scheduler. The two are compared after each
change, and now and then: an alias may point to another version, a machine may have died. Nothing is lost by a restart:
the wanted is read again and made again.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from alcove.errors import AlcoveError, NotFound
from alcove.functions.admission import Admission
from alcove.functions.line import Line
from alcove.functions.model import FunctionVersion
from alcove.functions.scheduler import Scheduler
from alcove.functions.service import FunctionService
from alcove.sandbox.protocol import TenantId
from alcove.store import concurrency as rows
from alcove.store.database import Database

log = logging.getLogger(__name__)

LOOK_EVERY_S = 2.0
_Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Allocation:
    """What there is of a configuration. ``status`` is IN_PROGRESS, READY or FAILED, as AWS has it."""

    requested: int
    allocated: int
    available: int
    status: str
    reason: str
    modified_ms: int


@dataclass(slots=True)
class _Kept:
    """A configuration, and the version that it is kept for."""

    row: rows.ProvisionedRow
    function: FunctionVersion
    line: Line


class Provisioner:
    """``start`` to ``close``; ``look`` after a change."""

    def __init__(
        self, database: Database, functions: FunctionService, admission: Admission, scheduler: Scheduler
    ) -> None:
        self._database = database
        self._functions = functions
        self._admission = admission
        self._scheduler = scheduler
        self._kept: dict[_Key, _Kept] = {}
        self._turn = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self.look()
        self._task = asyncio.create_task(self._watch())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def look(self) -> None:
        """Make what is kept what is wanted. Starts go on after this returns."""
        async with self._turn:
            wanted = {(row.function_id, row.qualifier): row for row in await self._database.read(rows.all_provisioned)}
            versions: dict[_Key, FunctionVersion] = {}
            for key, row in list(wanted.items()):
                version = await self._resolve(row)
                if version is None:
                    del wanted[key]
                    await self._drop(key)
                else:
                    versions[key] = version
            for key in [key for key, kept in self._kept.items() if self._changed(kept, wanted.get(key), versions)]:
                self._let_go(self._kept.pop(key))
            most = self.most
            for key, row in sorted(wanted.items(), key=lambda item: item[1].modified_ms):
                most -= self._keep(key, row, versions[key], most)

    async def _drop(self, key: _Key) -> None:
        """The alias is no more: what was provisioned for it goes with it."""
        await self._database.write(lambda connection: rows.delete_provisioned(connection, *key))

    def _changed(self, kept: _Kept, row: rows.ProvisionedRow | None, versions: dict[_Key, FunctionVersion]) -> bool:
        return row is None or versions[row.function_id, row.qualifier].revision != kept.function.revision

    def _let_go(self, kept: _Kept) -> None:
        one = kept.function
        self._scheduler.provide(one, 0)
        self._admission.provision(one.tenant, one.function_id, one.version, 0)

    def _keep(self, key: _Key, row: rows.ProvisionedRow, function: FunctionVersion, most: int) -> int:
        """Keep it, with at most so many instances; return how many these are."""
        count = min(most, -(-row.calls // function.instance_concurrency))
        self._admission.provision(function.tenant, function.function_id, function.version, row.calls)
        self._kept[key] = _Kept(row, function, self._scheduler.provide(function, count))
        return count

    @property
    def most(self) -> int:
        """How many sandboxes may be kept for all tenants together: others must have room too."""
        return self._scheduler.bounds.max_sandboxes // 2

    async def _resolve(self, row: rows.ProvisionedRow) -> FunctionVersion | None:
        try:
            return await self._functions.get(TenantId(row.tenant_id), row.name, row.qualifier)
        except NotFound:
            return None

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            if self._kept:
                try:
                    await self.look()
                except AlcoveError as error:
                    log.warning("provisioned concurrency cannot be looked at: %s", error)

    # What there is

    def kept_for(self, function: FunctionVersion) -> list[str]:
        """Return the qualifiers whose configuration is kept for this version."""
        kept = self._kept.items()
        return [qualifier for (_, qualifier), one in kept if one.function.arn == function.arn]

    def allocations(self, function_id: str) -> dict[str, Allocation]:
        """Return what there is of each of the function's configurations, by qualifier."""
        found = ((key, kept) for key, kept in self._kept.items() if key[0] == function_id)
        return {qualifier: self._allocation(kept) for (_, qualifier), kept in found}

    def _allocation(self, kept: _Kept) -> Allocation:
        requested, line = kept.row.calls, kept.line
        places = sum(one.capacity for one in line.instances)
        taken = sum(one.active for one in line.instances)
        allocated = min(requested, places)
        reason = self._failure(line, requested, allocated)
        status = "READY" if allocated == requested else "FAILED" if reason else "IN_PROGRESS"
        available = max(0, min(requested, places - taken))
        return Allocation(requested, allocated, available, status, reason, kept.row.modified_ms)

    def _failure(self, line: Line, requested: int, allocated: int) -> str:
        if allocated == requested:
            return ""
        if line.provisioned * line.function.instance_concurrency < requested:
            return f"There is room for {self.most} provisioned sandboxes here, for all functions together."
        return line.failure if not line.starting else ""
