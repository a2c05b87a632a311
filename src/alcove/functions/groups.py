"""Groups of functions, which CFC calls services: names for people to sort functions by, nothing more.

A function is in the group that its tag ``alcove:service`` names, or in ``default``, which every tenant has.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace

from alcove.errors import Conflict, InvalidRequest, NotFound, QuotaExceeded, TooLarge
from alcove.host.clock import now_ms
from alcove.sandbox.protocol import TenantId
from alcove.store import groups as rows
from alcove.store.database import Database

GROUP_TAG = "alcove:service"
DEFAULT_GROUP = "default"
GROUP_LIMIT = 100
DESCRIPTION_LIMIT = 256
CONFIGURATION_LIMIT = 4096
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,50}")


@dataclass(frozen=True, slots=True)
class Group:
    row: rows.GroupRow
    functions: int

    @property
    def name(self) -> str:
        return self.row.name


class GroupService:
    """Methods raise the ``RequestError`` that fits."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, tenant: TenantId, name: str, description: str, configuration: str) -> Group:
        _check(name, description, configuration)
        moment = now_ms()
        row = rows.GroupRow(tenant, name, description, configuration, moment, moment)

        def write(connection: sqlite3.Connection) -> None:
            if name == DEFAULT_GROUP or rows.find_group(connection, tenant, name) is not None:
                raise Conflict(f"The service {name} exists already.")
            if len(rows.list_groups(connection, tenant)) >= GROUP_LIMIT:
                raise QuotaExceeded(f"A tenant has at most {GROUP_LIMIT} services.", code="groups")
            rows.put_group(connection, row)

        await self._database.write(write)
        return Group(row, 0)

    async def get(self, tenant: TenantId, name: str) -> Group:
        return await self._database.read(lambda connection: _find(connection, tenant, name))

    async def list(self, tenant: TenantId) -> Sequence[Group]:
        """By name, ``default`` among them."""

        def read(connection: sqlite3.Connection) -> list[Group]:
            names = {DEFAULT_GROUP, *(row.name for row in rows.list_groups(connection, tenant))}
            return [_find(connection, tenant, name) for name in sorted(names)]

        return await self._database.read(read)

    async def update(
        self, tenant: TenantId, name: str, description: str | None = None, configuration: str | None = None
    ) -> Group:
        """Change what is not None."""
        _check(name, description or "", configuration or "")

        def write(connection: sqlite3.Connection) -> Group:
            found = _find(connection, tenant, name)
            row = replace(
                found.row,
                description=found.row.description if description is None else description,
                configuration=found.row.configuration if configuration is None else configuration,
                modified_ms=now_ms(),
            )
            rows.put_group(connection, row)
            return replace(found, row=row)

        return await self._database.write(write)

    async def delete(self, tenant: TenantId, name: str) -> None:
        def write(connection: sqlite3.Connection) -> None:
            found = _find(connection, tenant, name)
            if name == DEFAULT_GROUP:
                raise Conflict("The service default is always there.")
            if found.functions:
                raise Conflict(
                    f"The service {name} has {found.functions} functions.", hint="delete them, or change their tag"
                )
            rows.delete_group(connection, tenant, name)

        await self._database.write(write)

    async def delete_every(self, tenant: TenantId) -> None:
        await self._database.write(lambda connection: rows.delete_groups(connection, tenant))


def _find(connection: sqlite3.Connection, tenant: TenantId, name: str) -> Group:
    row = rows.find_group(connection, tenant, name)
    if row is None and name != DEFAULT_GROUP:
        raise NotFound(f"There is no service {name[:50]!r}.")
    counts = rows.count_by_tag(connection, tenant, GROUP_TAG)
    functions = counts.get(name, 0) + (counts.get("", 0) if name == DEFAULT_GROUP else 0)
    return Group(row or rows.GroupRow(tenant, name, "", "", 0, 0), functions)


def _check(name: str, description: str, configuration: str) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidRequest(f"Service name {name[:60]!r} must have 1 to 50 letters, digits, hyphens or underscores.")
    if len(description) > DESCRIPTION_LIMIT:
        raise InvalidRequest(f"'ServiceDesc' must have at most {DESCRIPTION_LIMIT} characters.")
    if len(configuration) > CONFIGURATION_LIMIT:
        raise TooLarge(f"'ServiceConf' must have at most {CONFIGURATION_LIMIT} characters.")
