"""Whose request is this? Signatures on TCP; on the UNIX socket the operator speaks for any tenant."""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import Literal

from alcove.errors import AccessDenied
from alcove.gateway.message import Request
from alcove.tenants.directory import TenantDirectory
from alcove.tenants.model import Tenant
from alcove.wire import bcev1, sigv4

# Hashing more than this takes long enough to be done beside the event loop.
_LARGE_BODY = 256 << 10
Scheme = Literal["aws", "bce", "any"]


class Authenticator:
    def __init__(self, tenants: TenantDirectory) -> None:
        self._tenants = tenants

    async def tenant_of(self, request: Request, scheme: Scheme) -> Tenant:
        """Return the tenant that the request acts for. Raises ``AccessDenied``."""
        if request.peer.is_operator:
            named = request.headers.get("x-alcove-tenant")
            return self._tenants.find(named) if named else self._tenants.default
        if scheme == "any":
            scheme = "bce" if bcev1.is_signed(request.headers) else "aws"
        check = self._check_bce if scheme == "bce" else self._check_aws
        if len(request.body) > _LARGE_BODY:
            access_key = await asyncio.to_thread(check, request)
        else:
            access_key = check(request)
        return self._tenants.owner_of(access_key)

    def _check_aws(self, request: Request) -> str:
        if bcev1.is_signed(request.headers):
            raise AccessDenied("This path takes AWS Signature Version 4.", code="malformed")
        signer = sigv4.verify(
            method=request.method,
            raw_path=request.raw_path,
            raw_query=request.raw_query,
            headers=request.headers,
            body_sha256=lambda: hashlib.sha256(request.body).hexdigest(),
            secret_of=self._tenants.secret_of,
            now_s=time.time(),
        )
        return signer.access_key

    def _check_bce(self, request: Request) -> str:
        return bcev1.verify(
            method=request.method,
            raw_path=request.raw_path,
            raw_query=request.raw_query,
            headers=request.headers,
            body=request.body,
            secret_of=self._tenants.secret_of,
            now_s=time.time(),
        )
