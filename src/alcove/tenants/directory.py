"""Who is who: every tenant and key, in memory, written to the store before it counts.

Signature checks are on the path of every request, so look-ups are dictionary look-ups. There is one
daemon for a state file, so memory is never behind the store.
"""

from __future__ import annotations

import sqlite3

from alcove.errors import Conflict, InvalidRequest, NotFound
from alcove.host.clock import now_ms
from alcove.sandbox.protocol import TenantId
from alcove.store import tenants as rows
from alcove.store.database import Database
from alcove.tenants.model import (
    DEFAULT_TENANT_NAME,
    AccessKey,
    Tenant,
    generate_access_key,
    generate_tenant_id,
)


class TenantDirectory:
    """Open with ``await TenantDirectory.open(database)``; the default tenant and its key exist from
    then on.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._tenants: dict[TenantId, Tenant] = {}
        self._by_name: dict[str, Tenant] = {}
        self._keys: dict[str, AccessKey] = {}

    @classmethod
    async def open(cls, database: Database) -> TenantDirectory:
        directory = cls(database)
        for tenant in await database.read(rows.all_tenants):
            directory._remember(Tenant(TenantId(tenant.id), tenant.name, tenant.created_ms))
        for key in await database.read(rows.all_access_keys):
            directory._keys[key.access_key] = AccessKey(key.access_key, key.secret, TenantId(key.tenant_id))
        if DEFAULT_TENANT_NAME not in directory._by_name:
            await directory.create(DEFAULT_TENANT_NAME)
        return directory

    @property
    def default(self) -> Tenant:
        return self._by_name[DEFAULT_TENANT_NAME]

    def secret_of(self, access_key: str) -> str | None:
        """What ``wire.sigv4.verify`` and ``wire.bcev1.verify`` ask."""
        key = self._keys.get(access_key)
        return None if key is None else key.secret

    def owner_of(self, access_key: str) -> Tenant:
        """The tenant of a key that ``secret_of`` knew. Raises ``NotFound``."""
        key = self._keys.get(access_key)
        if key is None:
            raise NotFound("no such access key")
        return self._tenants[key.tenant_id]

    def find(self, name_or_id: str) -> Tenant:
        """Return the tenant of that id or name. Raises ``NotFound``."""
        tenant = self._tenants.get(TenantId(name_or_id)) or self._by_name.get(name_or_id)
        if tenant is None:
            raise NotFound(f"no tenant {name_or_id!r}", hint="`alcove tenant list` shows them")
        return tenant

    def all(self) -> list[Tenant]:
        return list(self._tenants.values())

    def keys_of(self, tenant_id: TenantId) -> list[AccessKey]:
        """The tenant's keys, oldest first."""
        return [key for key in self._keys.values() if key.tenant_id == tenant_id]

    async def create(self, name: str) -> Tenant:
        """Create a tenant with a first key. Raises ``Conflict`` where the name is taken."""
        if not name or len(name) > 64 or not name.isprintable():
            raise InvalidRequest("a tenant's name has 1 to 64 printable characters")
        tenant = Tenant(generate_tenant_id(), name, now_ms())
        key = generate_access_key(tenant.id)

        def change(connection: sqlite3.Connection) -> None:
            rows.insert_tenant(connection, rows.TenantRow(tenant.id, tenant.name, tenant.created_ms))
            rows.insert_access_key(
                connection, rows.AccessKeyRow(key.access_key, key.secret, tenant.id, tenant.created_ms)
            )

        try:
            await self._database.write(change)
        except sqlite3.IntegrityError as error:
            raise Conflict(f"a tenant named {name!r} exists") from error
        self._remember(tenant)
        self._keys[key.access_key] = key
        return tenant

    async def create_key(self, tenant_id: TenantId) -> AccessKey:
        """Generate another key for the tenant."""
        key = generate_access_key(self.find(tenant_id).id)
        row = rows.AccessKeyRow(key.access_key, key.secret, key.tenant_id, now_ms())
        await self._database.write(lambda connection: rows.insert_access_key(connection, row))
        self._keys[key.access_key] = key
        return key

    async def delete_key(self, access_key: str) -> None:
        """Revoke a key: requests signed with it are refused from now on."""
        if access_key not in self._keys:
            raise NotFound("no such access key")
        await self._database.write(lambda connection: rows.delete_access_key(connection, access_key))
        self._keys.pop(access_key, None)

    def _remember(self, tenant: Tenant) -> None:
        self._tenants[tenant.id] = tenant
        self._by_name[tenant.name] = tenant
