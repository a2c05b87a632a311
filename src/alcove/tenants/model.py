"""Tenants and their access keys."""

from __future__ import annotations

import secrets
import string
from dataclasses import dataclass, field

from alcove.host.clock import now_ms
from alcove.sandbox.protocol import TenantId

DEFAULT_TENANT_NAME = "default"
_ALPHABET = string.ascii_uppercase + "234567"
_SECRET_ALPHABET = string.ascii_letters + string.digits


@dataclass(frozen=True, slots=True)
class Tenant:
    """An account: ``id`` is twelve digits, as in an ARN."""

    id: TenantId
    name: str
    created_ms: int


@dataclass(frozen=True, slots=True)
class AccessKey:
    """A key pair that signs for a tenant, in both dialects."""

    access_key: str
    secret: str = field(repr=False)
    tenant_id: TenantId = field()
    created_ms: int = 0


def generate_tenant_id() -> TenantId:
    """Twelve digits, the first not 0, so that no tool drops it as a number's leading zero."""
    return TenantId(str(10**11 + secrets.randbelow(9 * 10**11)))


def generate_access_key(tenant_id: TenantId) -> AccessKey:
    """``AKAL`` and 16 characters; a secret of 40 letters and digits (238 bits)."""
    access_key = "AKAL" + "".join(secrets.choice(_ALPHABET) for _ in range(16))
    secret = "".join(secrets.choice(_SECRET_ALPHABET) for _ in range(40))
    return AccessKey(access_key, secret, tenant_id, now_ms())
