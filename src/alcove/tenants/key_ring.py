"""Access keys in memory: signature checks are on the path of every request."""

from __future__ import annotations

from collections.abc import Iterable

from alcove.errors import NotFound
from alcove.sandbox.protocol import TenantId
from alcove.tenants.model import AccessKey


class KeyRing:
    def __init__(self) -> None:
        self._keys: dict[str, AccessKey] = {}

    def __contains__(self, access_key: str) -> bool:
        return access_key in self._keys

    def secret_of(self, access_key: str) -> str | None:
        """Return the secret of a key that is known."""
        key = self._keys.get(access_key)
        return None if key is None else key.secret

    def owner_of(self, access_key: str) -> TenantId:
        """Raises ``NotFound``."""
        key = self._keys.get(access_key)
        if key is None:
            raise NotFound("no such access key")
        return key.tenant_id

    def of(self, tenant: TenantId) -> list[AccessKey]:
        """The tenant's keys, oldest first."""
        return [key for key in self._keys.values() if key.tenant_id == tenant]

    def add(self, keys: Iterable[AccessKey]) -> None:
        self._keys |= {key.access_key: key for key in keys}

    def drop(self, access_key: str) -> None:
        self._keys.pop(access_key, None)

    def drop_all(self, tenant: TenantId) -> None:
        for key in self.of(tenant):
            del self._keys[key.access_key]
