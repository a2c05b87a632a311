"""Which tenant a key signs for, and whether it is a tenant's own or a function's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from alcove.api.router import Route
from alcove.api.sqs_dialect import SQS, TARGET
from alcove.errors import AccessDenied, NotFound
from alcove.functions.keys import PREFIX, FunctionKey
from alcove.gateway.message import Request
from alcove.sandbox.protocol import TenantId
from alcove.services import Services
from alcove.wire.sigv4_claim import parse_claim

SecretOf = Callable[[str], str | None]
# What a function may do of the API with the key that it finds in its environment: call functions of its tenant, and
# send to and receive from its queues; not make, change or remove them.
_CALLS = ("/invocations", "/response-streaming-invocations", "/invoke-async", "/invoke-async/")
_OF_QUEUES = frozenset(
    {
        "ChangeMessageVisibility",
        "ChangeMessageVisibilityBatch",
        "DeleteMessage",
        "DeleteMessageBatch",
        "GetQueueAttributes",
        "GetQueueUrl",
        "ListQueues",
        "ReceiveMessage",
        "SendMessage",
        "SendMessageBatch",
    }
)


def may(route: Route, request: Request) -> bool:
    if route.dialect is SQS:
        return request.headers.get("x-amz-target", "").removeprefix(TARGET) in _OF_QUEUES
    return request.method == "POST" and request.raw_path.endswith(_CALLS)


class Signed(msgspec.Struct, frozen=True):
    """Who has signed a request; ``function``: by a function's own key, not by one of the tenant's."""

    access_key: str
    tenant: TenantId
    function: bool = False


@dataclass(frozen=True, slots=True)
class Signers:
    """The keys that may have signed one request. ``function`` is the function's key that it names, if any."""

    services: Services
    function: FunctionKey | None = None

    @staticmethod
    def may_be_function(headers: Mapping[str, str], raw_query: str) -> bool:
        """Whether a function's key may have signed; else it was a tenant's, or nobody."""
        return PREFIX in headers.get("authorization", "") or PREFIX in raw_query

    @classmethod
    async def of(cls, services: Services, headers: Mapping[str, str], raw_query: str) -> Signers:
        """Look up, ahead of the check of the signature, what that will ask."""
        if not cls.may_be_function(headers, raw_query):
            return cls(services)
        try:
            claimed = parse_claim(headers, raw_query).signer.access_key
        except AccessDenied:
            return cls(services)
        return await cls.of_key(services, claimed)

    @classmethod
    async def of_key(cls, services: Services, claimed: str) -> Signers:
        """As ``of``, for one key."""
        found = await services.keys.find(claimed) if claimed.startswith(PREFIX) else None
        try:
            # A tenant that is being removed has no key any more, nor have its functions.
            return cls(services, found if found and services.tenants.find(found.tenant) else None)
        except NotFound:
            return cls(services)

    def secret_of(self, access_key: str) -> str | None:
        if self.function is not None and self.function.access_key == access_key:
            return self.function.secret
        return self.services.tenants.secret_of(access_key)

    def tenant_of(self, access_key: str) -> TenantId:
        """The tenant of a key that ``secret_of`` knew."""
        if self.is_function(access_key):
            assert self.function is not None
            return self.function.tenant
        return self.services.tenants.owner_of(access_key).id

    def is_function(self, access_key: str) -> bool:
        return self.function is not None and self.function.access_key == access_key
