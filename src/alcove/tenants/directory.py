"""Who is who: every tenant, key and quota, in memory, written to the store before it counts.

Signature checks are on the path of every request, so look-ups are dictionary look-ups. There is one
daemon for a state file, so memory is never behind the store.

A tenant that is being removed has no key and no quota any more: it is not found, and nothing new comes into being
for it. Its row stays until all that it had is gone, so that a crash in between is carried on from.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from alcove.errors import Conflict, InvalidRequest, NotFound
from alcove.host.clock import now_ms
from alcove.sandbox.protocol import TenantId
from alcove.store import tenants as rows
from alcove.store.database import Database
from alcove.store.functions import usage
from alcove.tenants.key_ring import KeyRing
from alcove.tenants.model import (
    DEFAULT_TENANT_NAME,
    AccessKey,
    Tenant,
    generate_access_key,
    generate_tenant_id,
)
from alcove.tenants.quota_book import QuotaBook
from alcove.tenants.quotas import Quotas, check_quota

# More than anybody needs to change keys without a gap.
KEY_LIMIT = 10


class TenantDirectory:
    """Open with ``await TenantDirectory.open(database)``; the default tenant and its key exist from
    then on. ``defaults`` are the quotas of a tenant that has none of its own.
    """

    def __init__(self, database: Database, defaults: Quotas | None = None) -> None:
        self._database = database
        self._keys = KeyRing()
        self._quotas = QuotaBook(defaults or Quotas())
        self._tenants: dict[TenantId, Tenant] = {}
        self._by_name: dict[str, Tenant] = {}
        self._removing: dict[TenantId, Tenant] = {}

    @classmethod
    async def open(cls, database: Database, defaults: Quotas | None = None) -> TenantDirectory:
        directory = cls(database, defaults)
        quotas = await database.read(rows.all_quotas)
        for row in await database.read(rows.all_tenants):
            tenant = Tenant(TenantId(row.id), row.name, row.created_ms)
            if row.removing:
                directory._removing[tenant.id] = tenant
            else:
                directory._remember(tenant, quotas.get(row.id, {}))
        found = await database.read(rows.all_access_keys)
        keys = [AccessKey(key.access_key, key.secret, TenantId(key.tenant_id), key.created_ms) for key in found]
        directory._keys.add(key for key in keys if key.tenant_id in directory._tenants)
        if DEFAULT_TENANT_NAME not in directory._by_name:
            await directory.create(DEFAULT_TENANT_NAME)
        return directory

    @property
    def default(self) -> Tenant:
        return self._by_name[DEFAULT_TENANT_NAME]

    def secret_of(self, access_key: str) -> str | None:
        """What ``wire.sigv4.verify`` and ``wire.bcev1.verify`` ask."""
        return self._keys.secret_of(access_key)

    def owner_of(self, access_key: str) -> Tenant:
        """The tenant of a key that ``secret_of`` knew. Raises ``NotFound``."""
        return self._tenants[self._keys.owner_of(access_key)]

    def find(self, name_or_id: str) -> Tenant:
        """Return the tenant of that id or name. Raises ``NotFound``."""
        tenant = self._tenants.get(TenantId(name_or_id)) or self._by_name.get(name_or_id)
        if tenant is None:
            raise NotFound(f"no tenant {name_or_id[:80]!r}", hint="`alcove tenant list` shows them")
        return tenant

    def all(self) -> list[Tenant]:
        return list(self._tenants.values())

    def keys_of(self, tenant_id: TenantId) -> list[AccessKey]:
        """The tenant's keys, oldest first."""
        return self._keys.of(tenant_id)

    # Quotas

    def quotas(self, tenant_id: TenantId) -> Quotas:
        """What the tenant may have; ``NOTHING`` where there is no such tenant, or no more."""
        return self._quotas.of(tenant_id)

    def own_quotas(self, tenant_id: TenantId) -> Mapping[str, int | None]:
        """Those that the operator set for this tenant."""
        return self._quotas.own(tenant_id)

    async def set_quotas(self, tenant_id: TenantId, changes: Mapping[str, object]) -> Quotas:
        """Change some; None goes back to the default. What a tenant has above a quota it keeps."""
        checked = {name: check_quota(name, value) for name, value in changes.items()}
        tenant = self.find(tenant_id)
        own = {**self._quotas.own(tenant.id), **checked}
        await self._database.write(lambda connection: rows.put_quotas(connection, tenant.id, own))
        self.find(tenant.id)
        self._quotas.put(tenant.id, own)
        return self.quotas(tenant.id)

    # Changes

    async def create(self, name: str, quotas: Mapping[str, object] | None = None) -> Tenant:
        """Create a tenant with a first key. Raises ``Conflict`` where the name is taken."""
        # An id and a name must not be taken for one another.
        if not name or len(name) > 64 or not name.isprintable() or name != name.strip() or name.isdigit():
            raise InvalidRequest("a tenant's name has 1 to 64 printable characters, not all of them digits")
        own = {key: check_quota(key, value) for key, value in (quotas or {}).items()}
        tenant = Tenant(generate_tenant_id(), name, now_ms())
        key = generate_access_key(tenant.id)

        def change(connection: sqlite3.Connection) -> None:
            rows.insert_tenant(connection, rows.TenantRow(tenant.id, tenant.name, tenant.created_ms))
            rows.insert_access_key(connection, _row(key))
            if own:
                rows.put_quotas(connection, tenant.id, own)

        try:
            await self._database.write(change)
        except sqlite3.IntegrityError as error:
            raise Conflict(f"a tenant named {name!r} exists, or is being removed") from error
        self._remember(tenant, own)
        self._keys.add([key])
        return tenant

    async def create_key(self, tenant_id: TenantId, *, keep: bool = True) -> AccessKey:
        """Generate another key for the tenant; without ``keep`` all its others are revoked, at the same moment."""
        tenant = self.find(tenant_id)
        if keep and len(self.keys_of(tenant.id)) >= KEY_LIMIT:
            raise Conflict(f"a tenant has at most {KEY_LIMIT} keys", hint="revoke one that is not used")
        key = generate_access_key(tenant.id)

        def change(connection: sqlite3.Connection) -> None:
            if not keep:
                rows.delete_access_keys(connection, tenant.id)
            rows.insert_access_key(connection, _row(key))

        await self._database.write(change)
        self.find(tenant.id)  # it may be gone meanwhile
        if not keep:
            self._keys.drop_all(tenant.id)
        self._keys.add([key])
        return key

    async def delete_key(self, access_key: str) -> None:
        """Revoke a key: requests signed with it are refused from now on."""
        if access_key not in self._keys:
            raise NotFound("no such access key")
        await self._database.write(lambda connection: rows.delete_access_key(connection, access_key))
        self._keys.drop(access_key)

    # Removal, in two steps; ``alcove.removal`` does what is between

    async def begin_removal(self, name_or_id: str, *, force: bool = False) -> TenantId:
        """Shut the tenant out, for good. Raises ``Conflict`` where it has functions, unless ``force``."""
        for tenant in self._removing.values():
            if name_or_id in (tenant.id, tenant.name):
                return tenant.id
        tenant = self.find(name_or_id)
        if tenant is self.default:
            raise Conflict("the default tenant can't be removed")

        def change(connection: sqlite3.Connection) -> int:
            functions, _ = usage(connection, tenant.id)
            if not functions or force:
                rows.delete_access_keys(connection, tenant.id)
                rows.mark_removing(connection, tenant.id)
            return functions

        functions = await self._database.write(change)
        if functions and not force:
            raise Conflict(
                f"the tenant {tenant.name!r} has {functions} functions",
                hint="--force deletes them, and everything else that it has",
            )
        self._shut_out(tenant)
        return tenant.id

    def removing(self) -> list[Tenant]:
        """Tenants whose removal has begun and has not ended."""
        return list(self._removing.values())

    async def end_removal(self, tenant_id: TenantId) -> None:
        """Forget the tenant. Raises ``Conflict`` while it has anything."""

        def change(connection: sqlite3.Connection) -> None:
            # One that was made while the removal began.
            rows.delete_access_keys(connection, tenant_id)
            rows.delete_tenant(connection, tenant_id)

        try:
            await self._database.write(change)
        except sqlite3.IntegrityError as error:
            raise Conflict("the tenant still has something", hint="remove it again") from error
        self._removing.pop(tenant_id, None)

    def _shut_out(self, tenant: Tenant) -> None:
        self._removing[tenant.id] = tenant
        self._keys.drop_all(tenant.id)
        self._tenants.pop(tenant.id, None)
        self._by_name.pop(tenant.name, None)
        self._quotas.drop(tenant.id)

    def _remember(self, tenant: Tenant, own: dict[str, int | None]) -> None:
        self._tenants[tenant.id] = tenant
        self._by_name[tenant.name] = tenant
        self._quotas.put(tenant.id, own)


def _row(key: AccessKey) -> rows.AccessKeyRow:
    return rows.AccessKeyRow(key.access_key, key.secret, key.tenant_id, key.created_ms)
