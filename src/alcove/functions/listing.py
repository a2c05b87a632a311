"""A tenant's functions and versions, in pages or all of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from alcove.functions.model import LATEST, FunctionVersion
from alcove.functions.pages import PAGE_LIMIT, Page, marker_number, page_limit
from alcove.functions.records import Records, find_function
from alcove.sandbox.protocol import TenantId
from alcove.store import functions as rows
from alcove.store.database import Database
from alcove.store.isolation import versions_of


class Listing:
    """All methods are scoped by tenant. A page is at most ``PAGE_LIMIT`` long."""

    def __init__(self, database: Database, records: Records) -> None:
        self._database = database
        self._records = records

    async def functions(
        self, tenant: TenantId, marker: str = "", limit: int = PAGE_LIMIT, *, skip: int = 0, version: str = LATEST
    ) -> Page[FunctionVersion]:
        """This version of each function that has it, by name, from behind the marker and ``skip`` more on."""
        limit = page_limit(limit)

        def query(connection: sqlite3.Connection) -> list[FunctionVersion]:
            found = rows.list_functions(connection, tenant, marker, limit + 1, skip, version)
            return [self._records.from_row(*row) for row in found]

        items = await self._database.read(query)
        return Page(items[:limit], items[limit - 1].name if len(items) > limit else None)

    async def versions(
        self, tenant: TenantId, name: str, marker: str = "", limit: int = PAGE_LIMIT
    ) -> Page[FunctionVersion]:
        """``$LATEST``, then the published versions, oldest first. A marker is the number that comes next."""
        limit, start = page_limit(limit), marker_number(marker)

        def query(connection: sqlite3.Connection) -> list[FunctionVersion]:
            function = find_function(connection, tenant, name)
            found = rows.page_versions(connection, function.id, start, limit + 1)
            return [self._records.from_row(function, row) for row in found]

        items = await self._database.read(query)
        return Page(items[:limit], items[limit].version if len(items) > limit else None)

    async def all_versions(
        self, tenant: TenantId, marker: str = "", limit: int = PAGE_LIMIT, *, skip: int = 0
    ) -> Page[FunctionVersion]:
        """All versions of all functions, by name, then as ``versions``; from the marker and ``skip`` more on."""
        limit = page_limit(limit)
        name, _, number = marker.partition(":")
        start = marker_number(number)

        def query(connection: sqlite3.Connection) -> list[FunctionVersion]:
            found = rows.page_all_versions(connection, tenant, name, start, limit + 1, skip)
            return [self._records.from_row(*row) for row in found]

        items = await self._database.read(query)
        if len(items) <= limit:
            return Page(items)
        following = items[limit]
        number = "0" if following.version == LATEST else following.version
        return Page(items[:limit], f"{following.name}:{number}")

    async def every_version(self, tenant: TenantId) -> Sequence[FunctionVersion]:
        """All versions of all functions of the tenant."""

        def query(connection: sqlite3.Connection) -> list[FunctionVersion]:
            return [self._records.from_row(*row) for row in versions_of(connection, tenant_id=tenant)]

        return await self._database.read(query)
