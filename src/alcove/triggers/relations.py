"""Relations of Baidu CFC: made, listed, changed, removed; each kind of source does the rest (``relation.Source``).

A relation is written before its source is told, and its source forgets it before it is removed. Every relation is
attached anew at a start, so a crash in between leaves nothing halfway. Relations are found by their function alone: the
transaction that removes a function removes its relations, and the sources forget them right after.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from alcove.errors import AlcoveError, Conflict, InvalidRequest, NotFound, TooLarge
from alcove.functions.model import LATEST, FunctionResolver
from alcove.host.clock import now_ms
from alcove.sandbox.protocol import TenantId
from alcove.store import relations as rows
from alcove.store.database import Database
from alcove.triggers.relation import DATA_LIMIT, Address, Relation, Source, new_endpoint, new_secret

log = logging.getLogger(__name__)

RELATION_LIMIT = 1000


class RelationService:
    """All methods but ``start`` are scoped by tenant; they raise the ``RequestError`` that fits.

    ``sources`` are known by their name, or, before a slash, by its first part: ``bos`` is the source of
    ``bos/my-bucket``.
    """

    def __init__(self, database: Database, functions: FunctionResolver, sources: Mapping[str, Source]) -> None:
        self._database = database
        self._functions = functions
        self._sources = dict(sources)
        # Row and source change together: one change at a time.
        self._changing = asyncio.Lock()
        # What the sources hold, by tenant and function.
        self._attached: dict[tuple[str, str], dict[str, Relation]] = {}

    async def start(self) -> None:
        for row in await self._database.read(rows.all_relations):
            relation = Relation(row)
            try:
                await self._attach(relation)
            except AlcoveError as error:
                log.warning("relation %s of tenant %s is not attached: %s", row.id, row.tenant_id, error)

    def source(self, name: str) -> Source:
        """Raises ``InvalidRequest`` for a source that does not exist."""
        found = self._sources.get(name) or self._sources.get(name.partition("/")[0])
        if found is None:
            known = ", ".join(sorted(self._sources))
            raise InvalidRequest(f"Source {name[:80]!r} does not exist.", hint=f"choose one of: {known}")
        return found

    async def create(
        self, tenant: TenantId, function: str, qualifier: str, source_name: str, data: Mapping[str, Any]
    ) -> Relation:
        source = self.source(source_name)
        row = rows.RelationRow(
            id=uuid.uuid4().hex,
            tenant_id=tenant,
            function=function,
            qualifier="" if qualifier == LATEST else qualifier,
            source=source_name,
            data=_data(source, data),
            endpoint="" if source.address is Address.NONE else new_endpoint(),
            secret=new_secret() if source.signed else "",
            created_ms=now_ms(),
        )
        await self._functions.resolve(tenant, function, qualifier or LATEST)

        def change(connection: sqlite3.Connection) -> rows.RelationRow:
            if rows.count_relations(connection, tenant) >= RELATION_LIMIT:
                raise Conflict(f"A tenant has at most {RELATION_LIMIT} relations.", hint="remove one")
            others = rows.list_relations(connection, tenant, function)
            shared = [one.endpoint for one in others if one.source == source_name]
            alone = source.address is not Address.FUNCTION or not shared
            written = row if alone else replace(row, endpoint=shared[0])
            _require(rows.insert_relation(connection, written), written)
            return written

        async with self._changing:
            relation = Relation(await self._database.write(change))
            try:
                await self._attach(relation)
            except AlcoveError:
                await self._database.write(lambda connection: rows.delete_relation(connection, tenant, row.id))
                raise
        return relation

    async def list(self, tenant: TenantId, function: str, qualifier: str | None) -> list[Relation]:
        """Return the function's relations; those of one qualifier where one is given."""
        found = await self._database.read(lambda connection: rows.list_relations(connection, tenant, function))
        wanted = "" if qualifier == LATEST else qualifier
        return [Relation(row) for row in found if qualifier is None or row.qualifier == wanted]

    async def update(
        self,
        tenant: TenantId,
        relation_id: str,
        function: str,
        qualifier: str,
        source_name: str,
        data: Mapping[str, Any],
    ) -> Relation:
        """Change function and settings; the source stays. Where the new settings are refused the old ones hold."""
        async with self._changing:
            known = await self._find(tenant, relation_id)
            return await self._change(known, function, qualifier, source_name, data)

    async def _change(
        self, known: Relation, function: str, qualifier: str, source_name: str, data: Mapping[str, Any]
    ) -> Relation:
        if source_name and source_name != known.row.source:
            raise InvalidRequest("A relation's source cannot be changed.", hint="make another relation")
        source = self.source(known.row.source)
        await self._functions.resolve(known.tenant, function, qualifier or LATEST)
        changed = Relation(
            replace(
                known.row,
                function=function,
                qualifier="" if qualifier == LATEST else qualifier,
                data=_data(source, data),
            )
        )
        await self._detach(known)
        try:
            await self._attach(changed)
            await self._database.write(
                lambda connection: _require(rows.replace_relation(connection, changed.row), changed.row)
            )
        except AlcoveError:
            await self._detach(changed)
            await self._attach(known)
            raise
        return changed

    async def delete(self, tenant: TenantId, relation_id: str) -> None:
        async with self._changing:
            known = await self._find(tenant, relation_id)
            await self._detach(known)
            await self._database.write(lambda connection: rows.delete_relation(connection, tenant, relation_id))

    async def function_gone(self, tenant: TenantId, function: str) -> None:
        """Let the sources forget what went with the function; what has been made for a new one of its name stays."""
        async with self._changing:
            held = list(self._attached.get((tenant, function), {}).values())
            if not held:
                return
            found = await self._database.read(lambda connection: rows.list_relations(connection, tenant, function))
            left = {row.id for row in found}
            for relation in held:
                if relation.id not in left:
                    await self._detach(relation)

    async def delete_every(self, tenant: TenantId) -> None:
        """Delete all relations of the tenant."""
        for row in await self._database.read(rows.all_relations):
            if row.tenant_id == tenant:
                await self.delete(tenant, row.id)

    async def _attach(self, relation: Relation) -> None:
        await self.source(relation.row.source).attach(relation)
        self._attached.setdefault((relation.tenant, relation.row.function), {})[relation.id] = relation

    async def _detach(self, relation: Relation) -> None:
        await self.source(relation.row.source).detach(relation)
        key = (relation.tenant, relation.row.function)
        held = self._attached.get(key, {})
        held.pop(relation.id, None)
        if not held:
            self._attached.pop(key, None)

    async def _find(self, tenant: TenantId, relation_id: str) -> Relation:
        row = await self._database.read(lambda connection: rows.find_relation(connection, tenant, relation_id))
        if row is None:
            raise NotFound(f"There is no relation {relation_id[:80]!r}.")
        return Relation(row)


def _require(written: bool, row: rows.RelationRow) -> None:
    """Raises ``NotFound`` where the function went meanwhile."""
    if not written:
        raise NotFound(f"Function not found: {row.function}")


def _data(source: Source, data: Mapping[str, Any]) -> str:
    encoded = json.dumps(source.check(data))
    if len(encoded) > DATA_LIMIT:
        raise TooLarge(f"Data has at most {DATA_LIMIT} bytes.")
    return encoded
