"""Quotas in memory: what each tenant may have, of its own or by default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from alcove.sandbox.protocol import TenantId
from alcove.tenants.quotas import NOTHING, Quotas


class QuotaBook:
    """``defaults`` are those of a tenant that has none of its own."""

    def __init__(self, defaults: Quotas) -> None:
        self._defaults = defaults
        self._own: dict[TenantId, dict[str, int | None]] = {}
        self._known: dict[TenantId, Quotas] = {}

    def of(self, tenant: TenantId) -> Quotas:
        """``NOTHING`` where there is no such tenant, or no more."""
        return self._known.get(tenant, NOTHING)

    def own(self, tenant: TenantId) -> Mapping[str, int | None]:
        """Those that the operator set for this tenant."""
        return self._own.get(tenant, {})

    def put(self, tenant: TenantId, own: dict[str, int | None]) -> None:
        self._own[tenant] = own
        known = {name: value for name, value in own.items() if value is not None}
        self._known[tenant] = replace(self._defaults, **known)

    def drop(self, tenant: TenantId) -> None:
        self._own.pop(tenant, None)
        self._known.pop(tenant, None)
