"""The control plane: functions and their versions, from creation to deletion.

Each change is checked, then written to the store, and only then acted on (instances drained,
snapshot taken), so a crash at any point leaves a state that the next start can carry on from.
Invocations ask ``resolve``, which answers from memory; every change drops what it changed from
there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import sqlite3
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from alcove.errors import AlcoveError, Conflict, InvalidRequest, NotFound
from alcove.functions import limits, names
from alcove.functions.model import LATEST, DispatcherProtocol, FunctionChange, FunctionVersion
from alcove.functions.preparing import Preparer
from alcove.functions.publishing import publish_latest
from alcove.functions.records import (
    Records,
    Settings,
    check_revision,
    find_function,
    to_row,
)
from alcove.functions.routing import Routing, check_unused, read_routing
from alcove.functions.usage import UsageGuard
from alcove.host.clock import now_ms
from alcove.images.code import BuiltCode, CodeStore
from alcove.sandbox.protocol import InitError, Runtime, TenantId
from alcove.store import functions as rows
from alcove.store import permissions
from alcove.store.database import Database
from alcove.tenants.quotas import Quotas

log = logging.getLogger(__name__)

PAGE_LIMIT = 50


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a list; ``marker`` asks for the next part, None where there is none."""

    items: list[FunctionVersion]
    marker: str | None = None


class FunctionService:
    """All methods are scoped by tenant; they raise the ``RequestError`` that fits."""

    def __init__(
        self,
        database: Database,
        code: CodeStore,
        dispatcher: DispatcherProtocol,
        settings: Settings | None = None,
        *,
        chance: Callable[[], float] = random.random,
        quotas: Callable[[TenantId], Quotas] = lambda tenant: Quotas(),
        preparer: Preparer | None = None,
    ) -> None:
        self.preparer = preparer or Preparer({})
        self.settings = settings or Settings()
        self._chance = chance
        self._guard = UsageGuard(database, quotas)
        # Told the id of each function that is deleted.
        self.on_deleted: Callable[[str], None] = lambda function_id: None
        self.records = Records(self.settings, code)
        self._database = database
        self.code = code
        self._dispatcher = dispatcher
        self._resolved: dict[tuple[str, str, str], Routing] = {}
        self.generation = 0
        # Told whenever a function has changed in any way: ``drop``.
        self.changed: list[Callable[[TenantId, str], None]] = []

    async def recover(self) -> None:
        """At start: remove unfinished builds, and code that no version refers to."""
        self.code.recover()
        await self._collect()

    async def resolve(self, tenant: TenantId, name: str, version: str = LATEST) -> FunctionVersion:
        """Return what one invocation of this name and version, or alias, runs; from memory where possible."""
        known = self._resolved.get((tenant, name, version)) or await self._route(tenant, name, version)
        return known.pick(self._chance)

    async def get(self, tenant: TenantId, name: str, version: str = LATEST) -> FunctionVersion:
        """Return this version; for an alias, the one that most of it is said of: its first."""
        return (await self._route(tenant, name, version)).first

    async def _route(self, tenant: TenantId, name: str, version: str) -> Routing:
        generation = self.generation
        found = await self._database.read(
            lambda connection: read_routing(connection, self.records, tenant, name, version)
        )
        if generation == self.generation:
            self._resolved[tenant, name, version] = found
        return found

    async def list(self, tenant: TenantId, marker: str = "", limit: int = PAGE_LIMIT) -> Page:
        """``$LATEST`` of each function, by name."""
        limit = page_limit(limit)

        def query(connection: sqlite3.Connection) -> list[FunctionVersion]:
            found = rows.list_functions(connection, tenant, marker, limit + 1)
            return [self.records.find(connection, function, LATEST) for function in found]

        items = await self._database.read(query)
        return Page(items[:limit], items[limit - 1].name if len(items) > limit else None)

    async def list_versions(self, tenant: TenantId, name: str, marker: str = "", limit: int = PAGE_LIMIT) -> Page:
        """``$LATEST``, then the published versions, oldest first."""
        limit = page_limit(limit)
        if marker and not (marker.isascii() and marker.isdigit()):
            raise InvalidRequest("The marker is not one that was given out.")
        start = int(marker[:9] or 0)

        def query(connection: sqlite3.Connection) -> list[FunctionVersion]:
            function = find_function(connection, tenant, name)
            found = rows.list_versions(connection, function.id)
            return [self.records.from_row(function, row) for row in found]

        items = await self._database.read(query)
        more = len(items) > start + limit
        return Page(items[start : start + limit], str(start + limit) if more else None)

    async def every_version(self, tenant: TenantId) -> AsyncIterator[FunctionVersion]:
        """All versions of all functions of the tenant, a page at a time."""
        functions = ""
        while True:
            page = await self.list(tenant, functions)
            for function in page.items:
                versions = ""
                while True:
                    part = await self.list_versions(tenant, function.name, versions)
                    for version in part.items:
                        yield version
                    if part.marker is None:
                        break
                    versions = part.marker
            if page.marker is None:
                return
            functions = page.marker

    async def usage(self, tenant: TenantId) -> tuple[int, int]:
        """The tenant's number of functions, and the bytes of its packages."""
        return await self._database.read(lambda connection: rows.usage(connection, tenant))

    async def create(
        self,
        tenant: TenantId,
        name: str,
        package: bytes,
        config: FunctionChange,
        *,
        tags: Mapping[str, str] | None = None,
        publish: bool = False,
        dry_run: bool = False,
    ) -> FunctionVersion:
        """Create a function from a zip. Raises ``Conflict`` where the name is taken."""
        names.check_name(name)
        tags = limits.check_tags(tags or {})
        function = rows.FunctionRow(uuid.uuid4().hex, tenant, name, 1, tags, now_ms())
        draft = self.records.new(function, config)
        # Before the package is built, and again when it is written: building may take long.
        if await self._database.read(lambda c: rows.find_function(c, tenant, name)):
            raise Conflict(f"Function already exist: {name}")
        await self._guard.require_room(tenant, functions=1, code_bytes=len(package))
        with self.code.pinned(package):
            built = await self._build(package, draft)
            created = self.records.with_code(draft, built)
            if dry_run:
                return created

            def change(connection: sqlite3.Connection) -> None:
                rows.insert_function(connection, function)
                rows.put_version(connection, to_row(created))

            try:
                await self._guard.write(tenant, change)
            except sqlite3.IntegrityError as error:
                raise Conflict(f"Function already exist: {name}") from error
        self.drop(tenant, name)
        self.preparer.expect(created)
        return await self.publish(tenant, name) if publish else created

    async def update_code(
        self,
        tenant: TenantId,
        name: str,
        package: bytes,
        *,
        publish: bool = False,
        dry_run: bool = False,
        revision_id: str | None = None,
    ) -> FunctionVersion:
        with self.code.pinned(package):
            current = await self.get(tenant, name)
            await self._guard.require_room(tenant, code_bytes=len(package) - current.package_bytes)
            built = await self._build(package, current)
            if dry_run:
                return self.records.with_code(current, built)
            updated = await self._update(
                tenant, name, lambda latest: self.records.with_code(latest, built), revision_id
            )
        return await self.publish(tenant, name) if publish else updated

    async def update_configuration(
        self,
        tenant: TenantId,
        name: str,
        change: FunctionChange,
        *,
        revision_id: str | None = None,
    ) -> FunctionVersion:
        """Change ``$LATEST``; where the runtime changes, its code is built for the new one."""
        current = await self.get(tenant, name)
        wanted = self.records.apply(current, change)
        if wanted.runtime is current.runtime:
            return await self._update(tenant, name, lambda v: self.records.apply(v, change), revision_id)
        package = await asyncio.to_thread(self.code.package_path(current.package_sha256).read_bytes)
        with self.code.pinned(package):
            built = await self._build(package, wanted)

            def rebuilt(latest: FunctionVersion) -> FunctionVersion:
                if latest.package_sha256 != built.package_sha256:
                    raise Conflict("The code was changed at the same time.", hint="try again")
                return self.records.with_code(self.records.apply(latest, change), built)

            return await self._update(tenant, name, rebuilt, revision_id)

    async def publish(
        self,
        tenant: TenantId,
        name: str,
        *,
        description: str | None = None,
        code_sha256: str | None = None,
        revision_id: str | None = None,
    ) -> FunctionVersion:
        """Make ``$LATEST`` an immutable version, and have its snapshot taken.

        Nothing new is made where nothing changed since the last version: that one is returned, as
        on AWS, with a snapshot where it had lost its own. A snapshot that fails is logged; the version
        then starts without one.
        """
        published = await self._guard.write(
            tenant,
            lambda connection: publish_latest(
                connection, self.records, tenant, name, description, code_sha256, revision_id
            ),
        )
        try:
            await self._dispatcher.snapshot(published)
        except (AlcoveError, InitError) as error:
            log.warning("no snapshot of %s: %s", published.arn, error)
        return published

    async def delete(self, tenant: TenantId, name: str, version: str | None = None) -> None:
        """Delete the function, or one published version; its instances are drained."""
        await self._delete(tenant, name, version)
        await self._collect()

    async def delete_every(self, tenant: TenantId) -> None:
        """Delete all functions of the tenant, one by one, so that a crash leaves less to do."""
        while found := (await self.list(tenant)).items:
            for function in found:
                with contextlib.suppress(NotFound):
                    await self._delete(tenant, function.name)
        await self._collect()

    async def _delete(self, tenant: TenantId, name: str, version: str | None = None) -> None:
        if version == LATEST:
            raise InvalidRequest("$LATEST version cannot be deleted without deleting the function.")

        def change(connection: sqlite3.Connection) -> Sequence[FunctionVersion]:
            function = find_function(connection, tenant, name)
            if version is not None:
                found = [self.records.find(connection, function, version)]
                check_unused(connection, function, version)
                rows.delete_version(connection, function.id, version)
                permissions.delete_permissions(connection, function.id, version)
                return found
            found = [self.records.from_row(function, row) for row in rows.list_versions(connection, function.id)]
            rows.delete_function(connection, function.id)
            return found

        deleted = await self._database.write(change)
        self.drop(tenant, name)
        await self._dispatcher.forget(deleted[0].function_arn, version)
        await self._dispatcher.remove(deleted)
        if version is None:
            self.on_deleted(deleted[0].function_id)

    async def set_tags(self, tenant: TenantId, name: str, change: Callable[[dict[str, str]], None]) -> None:
        """Let ``change`` edit the function's tags."""

        def write(connection: sqlite3.Connection) -> None:
            function = find_function(connection, tenant, name)
            tags = dict(function.tags)
            change(tags)
            limits.check_shared(tags, self.records.find(connection, function, LATEST).runtime)
            rows.set_tags(connection, function.id, limits.check_tags(tags))

        await self._database.write(write)
        self.drop(tenant, name)

    async def _update(
        self,
        tenant: TenantId,
        name: str,
        edit: Callable[[FunctionVersion], FunctionVersion],
        revision_id: str | None,
    ) -> FunctionVersion:
        def change(connection: sqlite3.Connection) -> FunctionVersion:
            function = find_function(connection, tenant, name)
            latest = self.records.find(connection, function, LATEST)
            check_revision(latest, revision_id)
            updated = replace(edit(latest), revision_id=str(uuid.uuid4()), modified_ms=now_ms(), version=LATEST)
            rows.put_version(connection, to_row(updated))
            return updated

        updated = await self._guard.write(tenant, change)
        self.drop(tenant, name)
        self.preparer.expect(updated)
        await self._dispatcher.forget(updated.function_arn, LATEST)
        return updated

    async def _build(self, package: bytes, function: FunctionVersion) -> BuiltCode:
        return await self.code.build(package, python=function.runtime is Runtime.PYTHON)

    async def _collect(self) -> None:
        await self.code.collect(await self._database.read(rows.code_in_use))

    def drop(self, tenant: TenantId, name: str) -> None:
        """Forget what invocations of the function run: it has changed."""
        self.generation += 1
        for key in [key for key in self._resolved if key[:2] == (tenant, name)]:
            del self._resolved[key]
        for listener in self.changed:
            listener(tenant, name)


def page_limit(limit: int) -> int:
    if limit < 1:
        raise InvalidRequest("MaxItems must be at least 1.")
    return min(limit, PAGE_LIMIT)
