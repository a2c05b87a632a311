"""The control plane of aliases: names for versions, which may share their calls between two.

An alias belongs to its function and goes with it; a version that an alias leads to is not deleted.
"""

from __future__ import annotations

import math
import re
import sqlite3
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from alcove.errors import Conflict, InvalidRequest, NotFound
from alcove.functions.limits import check_description
from alcove.functions.model import LATEST
from alcove.functions.moves import Moved, reconsider
from alcove.functions.pages import PAGE_LIMIT, Page, page_limit
from alcove.functions.records import check_revision, find_function
from alcove.functions.routing import is_version
from alcove.functions.service import FunctionService
from alcove.host.clock import now_ms
from alcove.sandbox.protocol import TenantId
from alcove.store import aliases as rows
from alcove.store import functions as functions_rows
from alcove.store import invoke_configs, permissions
from alcove.store.database import Database

# CreateAlias in the AWS Lambda API reference: letters, digits, hyphens, underscores, and not digits alone.
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
ALIAS_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class Alias:
    """``arn`` names it in full; ``weights`` has the second version's share, or nothing."""

    row: rows.AliasRow
    function_name: str
    arn: str

    @property
    def weights(self) -> dict[str, float]:
        return {self.row.second_version: self.row.second_share} if self.row.second_version else {}


@dataclass(frozen=True, slots=True)
class AliasChange:
    """None leaves a field as it is; ``weights`` maps a second version to its share of the calls, or is empty."""

    version: str | None = None
    description: str | None = None
    weights: Mapping[str, float] | None = None


class AliasService:
    """All methods are scoped by tenant; they raise the ``RequestError`` that fits."""

    def __init__(self, database: Database, functions: FunctionService, *, limit: int = ALIAS_LIMIT) -> None:
        # What hangs on an alias went with it.
        self.on_deleted: Callable[[], None] = lambda: None
        self._database = database
        self._functions = functions
        self._limit = limit

    async def create(self, tenant: TenantId, function: str, name: str, change: AliasChange) -> Alias:
        """Raises ``Conflict`` where the name is taken."""
        check_alias_name(name)
        if not change.version:
            raise InvalidRequest("'FunctionVersion' is required.")

        def write(connection: sqlite3.Connection) -> Alias:
            owner = find_function(connection, tenant, function)
            if rows.find_alias(connection, owner.id, name) is not None:
                raise Conflict(f"Alias already exists: {self._arn(owner, name)}")
            if rows.count_aliases(connection, owner.id) >= self._limit:
                raise Conflict(f"A function has at most {self._limit} aliases.", hint="delete one that is not needed")
            moment = now_ms()
            return self._put(
                connection, owner, rows.AliasRow(owner.id, name, "", "", 0.0, "", "", moment, moment), change
            )

        return await self._written(tenant, function, write)

    async def update(
        self, tenant: TenantId, function: str, name: str, change: AliasChange, *, revision_id: str | None = None
    ) -> Alias:
        """Raises ``RevisionMismatch`` where a revision is given and the alias has another one."""

        def write(connection: sqlite3.Connection) -> Alias:
            owner = find_function(connection, tenant, function)
            row = self._find(connection, owner, name)
            check_revision(row, revision_id)
            return self._put(connection, owner, row, change)

        return await self._written(tenant, function, write)

    async def get(self, tenant: TenantId, function: str, name: str) -> Alias:
        def query(connection: sqlite3.Connection) -> Alias:
            owner = find_function(connection, tenant, function)
            return self._alias(owner, self._find(connection, owner, name))

        return await self._database.read(query)

    async def list(
        self,
        tenant: TenantId,
        function: str,
        *,
        version: str = "",
        marker: str = "",
        limit: int = PAGE_LIMIT,
        skip: int = 0,
    ) -> Page[Alias]:
        """Return aliases by name, from behind the marker and ``skip`` more on; with a ``version``, those that lead to
        it.
        """
        limit = page_limit(limit)

        def query(connection: sqlite3.Connection) -> list[Alias]:
            owner = find_function(connection, tenant, function)
            found = rows.list_aliases(connection, owner.id, version, marker, limit + 1, skip)
            return [self._alias(owner, row) for row in found]

        items = await self._database.read(query)
        return Page(items[:limit], items[limit - 1].row.name if len(items) > limit else None)

    async def delete(self, tenant: TenantId, function: str, name: str) -> bool:
        """Return whether there was one; ``NotFound`` says that there is no such function."""

        def write(connection: sqlite3.Connection) -> tuple[bool, list[Moved]]:
            owner = find_function(connection, tenant, function)
            permissions.delete_permissions(connection, owner.id, name)
            invoke_configs.delete_invoke_config(connection, owner.id, name)
            deleted = rows.delete_alias(connection, owner.id, name)
            return deleted, reconsider(connection, self._functions.records, function_id=owner.id)

        deleted, moved = await self._database.write(write)
        self.on_deleted()
        self._functions.drop(tenant, function)
        await self._functions.moves.move(moved)
        return deleted

    async def _written(self, tenant: TenantId, function: str, write: Callable[[sqlite3.Connection], Alias]) -> Alias:
        def decided(connection: sqlite3.Connection) -> tuple[Alias, list[Moved]]:
            alias = write(connection)
            # The names of its aliases can say that a version is for development.
            return alias, reconsider(connection, self._functions.records, function_id=alias.row.function_id)

        alias, moved = await self._database.write(decided)
        self._functions.drop(tenant, function)
        await self._functions.moves.move(moved)
        return alias

    def _put(
        self, connection: sqlite3.Connection, owner: functions_rows.FunctionRow, row: rows.AliasRow, change: AliasChange
    ) -> Alias:
        changed = replace(apply(row, change), revision_id=str(uuid.uuid4()), modified_ms=now_ms())
        for version in (changed.version, changed.second_version):
            if version:
                self._functions.records.find(connection, owner, version)
        rows.put_alias(connection, changed)
        return self._alias(owner, changed)

    def _alias(self, owner: functions_rows.FunctionRow, row: rows.AliasRow) -> Alias:
        return Alias(row, owner.name, self._arn(owner, row.name))

    def _arn(self, owner: functions_rows.FunctionRow, name: str) -> str:
        return f"{self._functions.records.arn(owner)}:{name}"

    def _find(self, connection: sqlite3.Connection, owner: functions_rows.FunctionRow, name: str) -> rows.AliasRow:
        row = rows.find_alias(connection, owner.id, name)
        if row is None:
            raise NotFound(f"Cannot find alias arn: {self._arn(owner, name[:128])}", hint="see: alcove alias list")
        return row


def check_alias_name(name: str) -> str:
    """Return a name that no version can have. Raises ``InvalidRequest``."""
    if not _NAME.fullmatch(name) or is_version(name):
        raise InvalidRequest(
            f"Alias name {name[:80]!r} must have 1 to 128 letters, digits, hyphens or underscores, not digits alone."
        )
    return name


def apply(row: rows.AliasRow, change: AliasChange) -> rows.AliasRow:
    """Return the alias with the change made and checked, except that its versions exist. Raises ``InvalidRequest``."""
    if change.version is not None:
        row = replace(row, version=change.version)
    if change.description is not None:
        row = replace(row, description=check_description(change.description))
    if change.weights is not None:
        second, share = check_weights(change.weights)
        row = replace(row, second_version=second, second_share=share)
    for version in (row.version, row.second_version):
        if version and not is_version(version):
            raise InvalidRequest(f"An alias leads to versions, not to {version[:80]!r}.")
    if row.second_version and LATEST in (row.version, row.second_version):
        raise InvalidRequest("$LATEST is not supported for an alias pointing to more than 1 version")
    if row.second_version == row.version:
        raise InvalidRequest(f"Version {row.version} is both the alias's version and its additional version.")
    return row


def check_weights(weights: Mapping[str, float]) -> tuple[str, float]:
    """Return the second version and its share, ("", 0) for none. Raises ``InvalidRequest``."""
    if not weights:
        return "", 0.0
    if len(weights) > 1:
        raise InvalidRequest("Number of items in AdditionalVersionWeights cannot be greater than 1.")
    ((version, share),) = weights.items()
    if not version or not math.isfinite(share) or not 0.0 <= share <= 1.0:
        raise InvalidRequest(f"The weight of version {version[:80]!r} must be 0.0 to 1.0.")
    return version, float(share)
