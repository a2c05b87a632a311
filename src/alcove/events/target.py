"""Where the outcome of an event can go: a function, or what else of the tenant's has an ARN (a queue, a bucket).

Sinks are known by the service in the ARN (``sqs``); functions are the queue of events' own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from alcove.errors import InvalidRequest
from alcove.functions import names
from alcove.functions.model import FunctionResolver
from alcove.sandbox.protocol import TenantId

# "DestinationConfig" and "DeadLetterConfig" of the Lambda API.
ARN_LIMIT = 350


class DestinationSink(Protocol):
    """What takes records at an ARN of its service."""

    async def check(self, tenant: TenantId, arn: str) -> None:
        """Raises ``InvalidRequest`` or ``NotFound`` where the tenant has nothing of this ARN."""
        ...

    async def put(
        self, tenant: TenantId, arn: str, record: bytes, *, record_id: str, attributes: Mapping[str, str | int]
    ) -> None:
        """Take a record durably; one of an id that was taken before is taken already.

        Raises ``RetryLater`` or ``HostError`` where it may succeed later, ``RequestError`` where it never will.
        """
        ...


def service_of(target: str) -> str:
    """Return the service in an ARN (``lambda`` for a function's ARN or BRN), "" for a plain name."""
    parts = target.split(":")
    if parts[0] == "brn":
        return "lambda"
    return parts[2] if parts[0] == "arn" and len(parts) > 5 else ""


class Destinations:
    """Checks what tenants name as destinations, and finds the sinks."""

    def __init__(self, functions: FunctionResolver, sinks: Mapping[str, DestinationSink]) -> None:
        self._functions = functions
        self._sinks = sinks

    def sink(self, arn: str) -> DestinationSink:
        """Raises ``InvalidRequest``."""
        sink = self._sinks.get(service_of(arn))
        if sink is None:
            raise InvalidRequest(f"{arn[:200]!r} is not a destination that is known here.")
        return sink

    async def check_dead_letter(self, tenant: TenantId, arn: str) -> None:
        """As ``check``; only a queue takes dead letters."""
        if service_of(arn) != "sqs":
            raise InvalidRequest("The target of DeadLetterConfig must be a queue.", hint="give the queue's ARN")
        await self.check(tenant, arn)

    async def check(self, tenant: TenantId, arn: str) -> None:
        """Raises ``InvalidRequest`` or ``NotFound`` where events of the tenant cannot go there."""
        if len(arn) > ARN_LIMIT:
            raise InvalidRequest("The ARN of a destination is too long.")
        if service_of(arn) == "lambda":
            reference = names.parse(arn)
            reference.check_owner(tenant)
            await self._functions.resolve(tenant, reference.name, reference.version)
            return
        await self.sink(arn).check(tenant, arn)
