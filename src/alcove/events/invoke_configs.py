"""What tenants say of their functions' asynchronous invocations: how often, how long, and where outcomes go.

For each function and qualifier, as ``PutFunctionEventInvokeConfig`` and its siblings have it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from alcove.errors import InvalidRequest, NotFound
from alcove.events.target import Destinations
from alcove.functions.model import FunctionResolver, FunctionVersion
from alcove.functions.names import Reference
from alcove.host.clock import now_ms
from alcove.sandbox.protocol import TenantId
from alcove.store import invoke_configs as rows
from alcove.store.database import Database

RETRIES = range(0, 3)
MAX_AGE_S = range(60, 21_600 + 1)
PAGE_LIMIT = 50
KNOWN_LIMIT = 10_000
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class InvokeConfig:
    """A configuration, or a change to one: None leaves a field at its default, or as it is."""

    retries: int | None = None
    max_age_s: int | None = None
    on_success: str | None = None
    on_failure: str | None = None


@dataclass(frozen=True, slots=True)
class KnownConfig:
    """One that is set, and the function it is of."""

    function: FunctionVersion
    row: rows.InvokeConfigRow


class InvokeConfigs:
    """Methods that take a tenant raise the ``RequestError`` that fits."""

    def __init__(self, database: Database, functions: FunctionResolver, destinations: Destinations) -> None:
        self._database = database
        self._functions = functions
        self._destinations = destinations
        # What delivery asks for again and again.
        self._known: dict[tuple[str, str], rows.InvokeConfigRow | None] = {}

    def forget(self) -> None:
        """Something has changed in the store."""
        self._known = {}

    async def find(self, function_id: str, qualifier: str) -> rows.InvokeConfigRow | None:
        """Return what holds for deliveries, from memory where it is known."""
        key, known = (function_id, qualifier), self._known
        if key not in known:
            if len(known) >= KNOWN_LIMIT:
                known.clear()
            # Where something changes meanwhile, this dictionary is nobody's any more.
            known[key] = await self._read(function_id, qualifier)
        return known[key]

    async def check(self, tenant: TenantId, config: InvokeConfig) -> None:
        """Raises ``InvalidRequest`` or ``NotFound`` for numbers out of range and destinations that are not there."""
        _check_ranges(config)
        for target in (config.on_success, config.on_failure):
            if target:
                await self._destinations.check(tenant, target)

    async def put(
        self, tenant: TenantId, reference: Reference, config: InvokeConfig, *, merge: bool = False
    ) -> KnownConfig:
        """Set what is configured; ``merge`` keeps what is left out, and raises ``NotFound`` where nothing is set."""
        await self.check(tenant, config)
        function = await self._functions.resolve(tenant, reference.name, reference.version)

        def change(connection: sqlite3.Connection) -> rows.InvokeConfigRow:
            known = rows.find_invoke_config(connection, function.function_id, reference.version)
            if merge and known is None:
                raise _unset(function, reference)
            blank = rows.InvokeConfigRow(function.function_id, reference.version, None, None, "", "", 0)
            row = _changed(known if merge and known is not None else blank, config)
            rows.put_invoke_config(connection, row)
            return row

        return KnownConfig(function, await self._write(change))

    async def get(self, tenant: TenantId, reference: Reference) -> KnownConfig:
        function = await self._functions.resolve(tenant, reference.name, reference.version)
        row = await self._read(function.function_id, reference.version)
        if row is None:
            raise _unset(function, reference)
        return KnownConfig(function, row)

    async def delete(self, tenant: TenantId, reference: Reference) -> None:
        function = await self._functions.resolve(tenant, reference.name, reference.version)
        if not await self._write(lambda c: rows.delete_invoke_config(c, function.function_id, reference.version)):
            raise _unset(function, reference)

    async def _write(self, change: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await self._database.write(change)
        finally:
            self.forget()

    async def _read(self, function_id: str, qualifier: str) -> rows.InvokeConfigRow | None:
        return await self._database.read(lambda c: rows.find_invoke_config(c, function_id, qualifier))

    async def list(
        self, tenant: TenantId, name: str, after: str = "", limit: int = PAGE_LIMIT
    ) -> tuple[list[KnownConfig], str | None]:
        """Return those of one function by qualifier, and where to go on, None at the end."""
        function = await self._functions.resolve(tenant, name)
        limit = max(1, min(limit, PAGE_LIMIT))
        found = await self._database.read(lambda c: rows.list_invoke_configs(c, function.function_id, after, limit + 1))
        page = [KnownConfig(function, row) for row in found[:limit]]
        return page, found[limit - 1].qualifier if len(found) > limit else None


def _changed(row: rows.InvokeConfigRow, config: InvokeConfig) -> rows.InvokeConfigRow:
    return replace(
        row,
        retries=row.retries if config.retries is None else config.retries,
        max_age_s=row.max_age_s if config.max_age_s is None else config.max_age_s,
        on_success=row.on_success if config.on_success is None else config.on_success,
        on_failure=row.on_failure if config.on_failure is None else config.on_failure,
        modified_ms=now_ms(),
    )


def _check_ranges(config: InvokeConfig) -> None:
    for name, value, allowed in (
        ("MaximumRetryAttempts", config.retries, RETRIES),
        ("MaximumEventAgeInSeconds", config.max_age_s, MAX_AGE_S),
    ):
        if value is not None and value not in allowed:
            raise InvalidRequest(f"'{name}' must be {allowed[0]} to {allowed[-1]}.")


def _unset(function: FunctionVersion, reference: Reference) -> NotFound:
    return NotFound(f"The function {function.function_arn}:{reference.version} doesn't have an EventInvokeConfig")
