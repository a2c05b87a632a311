"""The control plane: functions and their versions, from creation to deletion.

Each change is checked, then written to the store, and only then acted on (instances drained,
snapshot taken), so a crash at any point leaves a state that the next start can carry on from.
Invocations ask ``resolve``, which answers from memory (``resolver``); every change drops what it changed from there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import sqlite3
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

from alcove.errors import AlcoveError, Conflict, InvalidRequest, NotFound
from alcove.functions import limits, names
from alcove.functions.code_keeper import CodeKeeper, code_of
from alcove.functions.layering import use_layers
from alcove.functions.listing import Listing
from alcove.functions.model import LATEST, DispatcherProtocol, FunctionChange, FunctionVersion
from alcove.functions.moves import Moves
from alcove.functions.preparing import Preparer
from alcove.functions.publishing import publish_latest
from alcove.functions.records import (
    Records,
    Settings,
    check_revision,
    find_function,
    to_row,
)
from alcove.functions.resolver import Resolver
from alcove.functions.routing import check_unused
from alcove.functions.tagging import Edit, retag
from alcove.functions.usage import UsageGuard
from alcove.host.clock import now_ms
from alcove.images.code import CodeStore, CodeUse
from alcove.sandbox.protocol import InitError, TenantId
from alcove.store import functions as rows
from alcove.store import permissions
from alcove.store.database import Database
from alcove.tenants.quotas import Quotas

log = logging.getLogger(__name__)


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
        self.guard = UsageGuard(database, quotas)
        # Told the id of each function that is deleted.
        self.on_deleted: Callable[[str], None] = lambda function_id: None
        # Told tenant and name of a function that is gone, with what went with it in the store, before it is drained.
        self.on_gone: Callable[[TenantId, str], Awaitable[None]] = nobody_asks
        self.records = Records(self.settings, code)
        self._database = database
        self.code = CodeKeeper(database, code)
        self._dispatcher = dispatcher
        self.listing = Listing(database, self.records)
        self.resolver = Resolver(database, self.records, chance)
        self.code_changed: Callable[[], None] = lambda: None
        self.moves = Moves(database, self.records, dispatcher, self.drop)

    async def recover(self) -> None:
        """At start: remove unfinished builds and code that no version refers to; decide anew where versions run."""
        await self.code.recover()
        await self.moves.reconsider()

    async def prepare(self) -> None:
        """At start, when the tiers have recovered: begin what existing functions lack to start fast."""
        self.preparer.expect_again(await self._database.read(self._kinds))

    def _kinds(self, connection: sqlite3.Connection) -> list[FunctionVersion]:
        return [self.records.from_row(*row) for row in rows.list_kinds(connection)]

    async def resolve(self, tenant: TenantId, name: str, version: str = LATEST) -> FunctionVersion:
        """Return what one invocation of this name and version, or alias, runs; from memory where possible."""
        return await self.resolver.resolve(tenant, name, version)

    async def get(self, tenant: TenantId, name: str, version: str = LATEST) -> FunctionVersion:
        """Return this version; for an alias, the one that most of it is said of: its first."""
        return await self.resolver.get(tenant, name, version)

    def drop(self, tenant: TenantId, name: str) -> None:
        """Forget what invocations of the function run: it has changed."""
        self.resolver.drop(tenant, name)

    async def usage(self, tenant: TenantId) -> tuple[int, int]:
        """The tenant's number of functions, and the bytes of its packages and layers."""

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
        draft = await self._layered(self.records.new(function, config), config)
        # Before the package is built, and again when it is written: building may take long.
        await self._database.read(lambda c: self._check_new(c, draft))
        await self.guard.require_room(tenant, functions=1, code_bytes=len(package))
        async with self.code.built(package, draft, keep=not dry_run) as built:
            created = self.records.with_code(draft, built)
            if dry_run:
                return created

            def change(connection: sqlite3.Connection) -> FunctionVersion:
                rows.insert_function(connection, function)
                judged = self.settings.policy.judge(connection, created, new_wish=True)
                rows.put_version(connection, to_row(judged))
                return judged

            try:
                created = await self.guard.write(tenant, change)
            except sqlite3.IntegrityError as error:
                raise Conflict(f"Function already exist: {name}") from error
        self.drop(tenant, name)
        self.preparer.expect(created)
        self.code_changed()
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
        current = await self.get(tenant, name)
        await self.guard.require_room(tenant, code_bytes=len(package) - current.package_bytes)
        async with self.code.built(package, current, keep=not dry_run) as built:
            if dry_run:
                return self.records.with_code(current, built)

            def replaced(latest: FunctionVersion) -> FunctionVersion:
                check_built_for(latest, current)
                return self.records.with_code(latest, built)

            updated = await self._update(tenant, name, replaced, revision_id)
        return await self.publish(tenant, name) if publish else updated

    async def update_configuration(
        self,
        tenant: TenantId,
        name: str,
        change: FunctionChange,
        *,
        revision_id: str | None = None,
    ) -> FunctionVersion:
        """Change ``$LATEST``; where its runtime or layers change, its code is built anew."""
        current = await self.get(tenant, name)
        wanted = await self._layered(self.records.apply(current, change), change)
        if (wanted.runtime, wanted.layers) == (current.runtime, current.layers):
            return await self._update(tenant, name, lambda v: self.records.apply(v, change), revision_id)
        package = await asyncio.to_thread(self.code.store.package_path(current.package_sha256).read_bytes)
        async with self.code.built(package, wanted) as built:

            def rebuilt(latest: FunctionVersion) -> FunctionVersion:
                if latest.package_sha256 != built.package_sha256:
                    raise Conflict("The code was changed at the same time.", hint="try again")
                check_built_for(latest, current)
                changed = replace(self.records.apply(latest, change), layers=wanted.layers)
                return self.records.with_code(changed, built)

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
        then starts without one. Where what the function needs is still being made (it is Pending), the snapshot is
        taken after that, and nobody waits for it.
        """
        published = await self.guard.write(
            tenant,
            lambda connection: publish_latest(
                connection, self.records, tenant, name, description, code_sha256, revision_id
            ),
        )
        if not self.preparer.after(published, lambda: self._snapshot(published)):
            await self._snapshot(published)
        return published

    async def _snapshot(self, published: FunctionVersion) -> None:
        """Have a snapshot taken of a version, if it is still there."""
        try:
            found = await self.get(published.tenant, published.name, published.version)
            await self._dispatcher.snapshot(found)
        except (AlcoveError, InitError) as error:
            log.warning("no snapshot of %s: %s", published.arn, error)

    async def delete(self, tenant: TenantId, name: str, version: str | None = None) -> None:
        """Delete the function, or one published version; its instances are drained."""
        await self.code.collect(*await self._delete(tenant, name, version))

    async def delete_every(self, tenant: TenantId) -> None:
        """Delete all functions of the tenant, one by one, so that a crash leaves less to do."""
        while found := (await self.listing.functions(tenant)).items:
            for function in found:
                with contextlib.suppress(NotFound):
                    await self.code.collect(*await self._delete(tenant, function.name))

    async def _delete(self, tenant: TenantId, name: str, version: str | None = None) -> Sequence[CodeUse]:
        """Return the code of what was deleted."""
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
        if version is None:
            await self.on_gone(tenant, name)
        await self._dispatcher.forget(deleted[0].function_arn, version)
        await self._dispatcher.remove(deleted)
        if version is None:
            self.on_deleted(deleted[0].function_id)
        return [code_of(one) for one in deleted]

    async def set_tags(self, tenant: TenantId, name: str, change: Edit) -> None:
        """Let ``change`` edit the function's tags."""
        done = await self._database.write(lambda connection: retag(connection, self.records, tenant, name, change))
        self.drop(tenant, name)
        await self.moves.move(done.moved)
        if done.rebuilt is not None:
            self.preparer.expect(await self.get(tenant, name))
            await self._dispatcher.forget(done.rebuilt.function_arn, LATEST)

    def _check_new(self, connection: sqlite3.Connection, draft: FunctionVersion) -> None:
        if rows.find_function(connection, draft.tenant, draft.name):
            raise Conflict(f"Function already exist: {draft.name}")
        self.settings.policy.judge(connection, draft, new_wish=True)

    async def _update(
        self,
        tenant: TenantId,
        name: str,
        edit: Callable[[FunctionVersion], FunctionVersion],
        revision_id: str | None,
    ) -> FunctionVersion:
        def change(connection: sqlite3.Connection) -> tuple[FunctionVersion, FunctionVersion]:
            function = find_function(connection, tenant, name)
            latest = self.records.find(connection, function, LATEST)
            check_revision(latest, revision_id)
            updated = replace(edit(latest), revision_id=str(uuid.uuid4()), modified_ms=now_ms(), version=LATEST)
            updated = self.settings.policy.judge(connection, updated, new_wish=updated.asked != latest.asked)
            rows.put_version(connection, to_row(updated))
            return latest, updated

        before, updated = await self.guard.write(tenant, change)
        if before.code != updated.code:
            self.code.replaced(before)
            self.code_changed()
        self.drop(tenant, name)
        self.preparer.expect(updated)
        await self._dispatcher.forget(updated.function_arn, LATEST)
        await self.code.collect()
        return updated

    async def _layered(self, version: FunctionVersion, change: FunctionChange) -> FunctionVersion:
        """Return the version with the layers that the change names. Raises ``InvalidRequest``."""
        arns = change.layers
        if arns is None:
            return version
        region, tenant, kept = self.settings.region, version.tenant, version.layers
        found = await self._database.read(lambda connection: use_layers(connection, region, tenant, arns, kept))
        return replace(version, layers=found)


async def nobody_asks(tenant: TenantId, name: str) -> None:
    """Nothing outside the store goes with a function."""


def check_built_for(latest: FunctionVersion, built_for: FunctionVersion) -> None:
    """Raises ``Conflict`` where code was built for another runtime or other layers than ``latest`` has."""
    if (latest.runtime, latest.layers) != (built_for.runtime, built_for.layers):
        raise Conflict("The configuration was changed at the same time.", hint="try again")
