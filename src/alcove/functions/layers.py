"""The control plane of layers: packages that functions share, immutable, found by name and number.

A layer version can be used by its owner, and by those whom its policy names. What a function uses is noted with it,
so that a deleted layer version goes on serving the functions that have it.
"""

from __future__ import annotations

import re
import sqlite3
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

from alcove.errors import Conflict, InvalidRequest, NotFound
from alcove.functions.layering import USE, LayerName, find_usable, layer_arn, statements_of
from alcove.functions.limits import check_description
from alcove.functions.pages import PAGE_LIMIT, Page, marker_number, page_limit
from alcove.functions.records import check_policy_revision
from alcove.functions.service import FunctionService
from alcove.functions.statements import Statement, check_statement, policy
from alcove.host.clock import now_ms
from alcove.images.code import CodeUse
from alcove.sandbox.protocol import TenantId
from alcove.store import layers as rows
from alcove.store.database import Database

# Names are counted as long as their numbers are remembered: for ever.
NAME_LIMIT, VERSION_LIMIT = 10_000, 10_000
MAX_VERSION = 10**9
# PublishLayerVersion in the AWS Lambda API reference.
LICENSE_LIMIT, RUNTIME_LIMIT = 512, 15
ARCHITECTURES = frozenset({"x86_64", "arm64"})
_WORD = re.compile(r"[a-zA-Z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True)
class LayerVersion:
    """``layer_arn`` names the layer, ``arn`` this version of it."""

    row: rows.LayerVersionRow
    layer_arn: str

    @property
    def arn(self) -> str:
        return f"{self.layer_arn}:{self.row.version}"


@dataclass(frozen=True, slots=True)
class LayerFacts:
    """What a client says of a layer version beside its package."""

    description: str = ""
    license: str = ""
    runtimes: Sequence[str] = field(default=())
    architectures: Sequence[str] = field(default=())


class LayerService:
    """All methods are scoped by tenant; they raise the ``RequestError`` that fits."""

    def __init__(self, database: Database, functions: FunctionService) -> None:
        self._database = database
        self._functions = functions
        self._region = functions.settings.region

    async def publish(self, tenant: TenantId, name: LayerName, package: bytes, facts: LayerFacts) -> LayerVersion:
        """Make the layer's next version from a zip."""
        if name.account != tenant:
            raise NotFound("The resource you requested does not exist.")
        check_facts(facts)
        code, guard = self._functions.code.store, self._functions.guard
        await guard.require_room(tenant, code_bytes=len(package))
        with code.pinned(package):
            sha256, _ = await code.store_layer(package)

            def write(connection: sqlite3.Connection) -> rows.LayerVersionRow:
                layer = self._layer(connection, tenant, name.name)
                row = rows.LayerVersionRow(
                    *(layer, layer.next_version, now_ms(), facts.description, facts.license, facts.runtimes),
                    *(facts.architectures, sha256, len(package)),
                )
                rows.insert_version(connection, row)
                return row

            return self._version(await guard.write(tenant, write))

    async def get(self, tenant: TenantId, name: LayerName) -> LayerVersion:
        """Raises ``NotFound``, also for what another owner has not shared."""
        found = await self._database.read(lambda connection: find_usable(connection, tenant, name))
        if found is None:
            raise NotFound("The resource you requested does not exist.", hint="see: alcove layer list")
        return self._version(found)

    async def list(
        self,
        tenant: TenantId,
        marker: str = "",
        limit: int = PAGE_LIMIT,
        *,
        runtime: str = "",
        architecture: str = "",
    ) -> Page[LayerVersion]:
        """The newest version of each of the tenant's layers that says it fits, by name."""
        limit = page_limit(limit)
        fits = rows.Fits(runtime, architecture)
        found = await self._database.read(lambda c: rows.list_layers(c, tenant, marker, limit + 1, fits))
        items = [self._version(row) for row in found]
        return Page(items[:limit], items[limit - 1].row.layer.name if len(items) > limit else None)

    async def list_versions(
        self,
        tenant: TenantId,
        name: LayerName,
        marker: str = "",
        limit: int = PAGE_LIMIT,
        *,
        runtime: str = "",
        architecture: str = "",
    ) -> Page[LayerVersion]:
        """The newest first. A layer that does not exist, or is another's, has none, as on AWS."""
        limit, number = page_limit(limit), marker_number(marker)
        if name.account != tenant:
            return Page([])
        before, fits = number or MAX_VERSION, rows.Fits(runtime, architecture)
        found = await self._database.read(lambda c: rows.list_versions(c, tenant, name.name, before, limit + 1, fits))
        items = [self._version(row) for row in found]
        return Page(items[:limit], str(items[limit - 1].row.version) if len(items) > limit else None)

    async def delete(self, tenant: TenantId, name: LayerName) -> bool:
        """Return whether there was such a version of the tenant's."""

        def write(connection: sqlite3.Connection) -> set[str]:
            row = self._own(connection, tenant, name)
            if row is None:
                return set()
            rows.delete_version(connection, row.layer.id, row.version)
            return {row.package_sha256}

        return await self._collected(await self._database.write(write))

    async def delete_all(self, tenant: TenantId, name: LayerName) -> bool:
        """Return whether there was a version of the tenant's layer."""
        if name.account != tenant:
            return False
        return await self._collected(
            await self._database.write(lambda connection: rows.delete_versions(connection, tenant, name.name))
        )

    async def delete_every(self, tenant: TenantId) -> None:
        """Delete all layers of a tenant that is removed."""
        await self._collected(await self._database.write(lambda connection: rows.delete_every(connection, tenant)))

    async def _collected(self, packages: set[str]) -> bool:
        """Remove those of the packages that nothing uses; return whether there were any."""
        await self._functions.code.collect(*(CodeUse(sha256) for sha256 in packages))
        return bool(packages)

    # Who may use one

    async def allow(
        self, tenant: TenantId, name: LayerName, statement: Statement, *, revision_id: str | None = None
    ) -> tuple[LayerVersion, str]:
        """Add to a version's policy; return the version and its policy. Raises ``Conflict`` where the id is taken."""
        check_statement(statement)
        if statement.action != USE:
            raise InvalidRequest(f"'Action' must be {USE}.")

        def write(connection: sqlite3.Connection) -> tuple[LayerVersion, str]:
            found = self._found(connection, tenant, name)
            check_policy_revision(policy(statements_of(connection, found.row), found.arn), revision_id)
            row = rows.LayerPermissionRow(statement.id, statement.principal, statement.action)
            try:
                rows.insert_permission(connection, found.row.layer.id, found.row.version, row)
            except sqlite3.IntegrityError as error:
                raise Conflict(f"The statement id ({statement.id}) provided already exists.") from error
            return found, policy(statements_of(connection, found.row), found.arn)

        return await self._database.write(write)

    async def policy(self, tenant: TenantId, name: LayerName) -> str:
        """Return the policy as JSON text. Raises ``NotFound`` where there is none."""

        def query(connection: sqlite3.Connection) -> str:
            found = self._found(connection, tenant, name)
            statements = statements_of(connection, found.row)
            if not statements:
                raise NotFound("No policy is associated with the given resource.")
            return policy(statements, found.arn)

        return await self._database.read(query)

    async def disallow(
        self, tenant: TenantId, name: LayerName, statement_id: str, *, revision_id: str | None = None
    ) -> None:
        """Functions that use the version already keep it. Raises ``NotFound``."""

        def write(connection: sqlite3.Connection) -> None:
            found = self._found(connection, tenant, name)
            check_policy_revision(policy(statements_of(connection, found.row), found.arn), revision_id)
            if not rows.delete_permission(connection, found.row.layer.id, found.row.version, statement_id):
                raise NotFound(f"Statement {statement_id[:100]} is not found in resource policy.")

        await self._database.write(write)

    # Rows

    def _layer(self, connection: sqlite3.Connection, tenant: TenantId, name: str) -> rows.LayerRow:
        """Return the layer, made where it is new."""
        names, versions = rows.count_layers(connection, tenant)
        layer = rows.find_layer(connection, tenant, name)
        if versions >= VERSION_LIMIT or (layer is None and names >= NAME_LIMIT):
            raise Conflict(
                f"A tenant has at most {NAME_LIMIT} layers, deleted ones too, and {VERSION_LIMIT} versions of them."
            )
        if layer is None:
            layer = rows.LayerRow(uuid.uuid4().hex, tenant, name, 1)
            rows.insert_layer(connection, layer)
        return layer

    def _own(self, connection: sqlite3.Connection, tenant: TenantId, name: LayerName) -> rows.LayerVersionRow | None:
        if name.account != tenant:
            return None
        return rows.find_version(connection, tenant, name.name, name.version)

    def _found(self, connection: sqlite3.Connection, tenant: TenantId, name: LayerName) -> LayerVersion:
        row = self._own(connection, tenant, name)
        if row is None:
            raise NotFound("The resource you requested does not exist.", hint="see: alcove layer list")
        return self._version(row)

    def _version(self, row: rows.LayerVersionRow) -> LayerVersion:
        return LayerVersion(row, layer_arn(self._region, row.layer))


def check_facts(facts: LayerFacts) -> LayerFacts:
    """Raises ``InvalidRequest``."""
    check_description(facts.description)
    if len(facts.license) > LICENSE_LIMIT:
        raise InvalidRequest(f"'LicenseInfo' must have at most {LICENSE_LIMIT} characters.")
    if len(facts.runtimes) > RUNTIME_LIMIT or not all(map(_WORD.fullmatch, facts.runtimes)):
        raise InvalidRequest(f"'CompatibleRuntimes' must have at most {RUNTIME_LIMIT} names of runtimes.")
    if not set(facts.architectures) <= ARCHITECTURES or len(facts.architectures) > len(ARCHITECTURES):
        raise InvalidRequest(f"'CompatibleArchitectures' must be of {', '.join(sorted(ARCHITECTURES))}.")
    return facts
