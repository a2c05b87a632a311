"""What every face works with, and what it knows of one call."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from alcove.api.code_source import PackageRoom
from alcove.api.dialect import MalformedDocument, PayloadTooLarge
from alcove.errors import AccessDenied, InvalidRequest
from alcove.events.policy import EVENT_LIMIT
from alcove.functions import names
from alcove.functions.dispatcher import Dispatcher
from alcove.functions.model import FunctionChange, FunctionVersion, InvokeResult
from alcove.functions.permissions import INVOKE
from alcove.functions.service import FunctionService
from alcove.functions.statements import Caller
from alcove.gateway.message import Request, Response
from alcove.sandbox.protocol import TenantId
from alcove.services import Services
from alcove.wire.trace import LONGEST_HEADER, TraceContext

SYNCHRONOUS_LIMIT = 6 * 1024 * 1024
# A zip of 50 MB, base64-encoded in JSON.
PACKAGE_BODY = 70 * 1024 * 1024
# One byte over what is allowed is told apart from what is absurd: the dialect answers the one, the server the other.
INVOKE_BODY = 7 * 1024 * 1024


class Host(Protocol):
    """What a face asks of the daemon."""

    def health(self) -> dict[str, Any]: ...

    def endpoint(self) -> str: ...

    def s3_endpoint(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Faces:
    """The parts behind all faces, and what the faces share."""

    host: Host
    services: Services
    code_url: Callable[[str], str]  # where a package (SHA-256) can be fetched for a while
    room: PackageRoom = field(default_factory=PackageRoom)

    @property
    def service(self) -> FunctionService:
        return self.services.functions

    @property
    def dispatcher(self) -> Dispatcher:
        return self.services.dispatcher


@dataclass(frozen=True, slots=True)
class OpenCall:
    """One request that needs no signature."""

    faces: Faces
    request: Request
    request_id: str


class Call(msgspec.Struct, frozen=True):
    """One authenticated request."""

    faces: Faces
    request: Request
    request_id: str
    tenant: TenantId
    operator: bool
    key: str = ""  # that signed it

    def reference(self, text: str, qualifier: str | None = None) -> names.Reference:
        found = names.parse(text, qualifier)
        found.check_owner(self.tenant)
        return found

    async def function(self, text: str, qualifier: str | None = None) -> FunctionVersion:
        """Return what one invocation runs: an alias may lead to one version now and to another the next time."""
        reference = self.reference(text, qualifier)
        return await self.faces.service.resolve(self.tenant, reference.name, reference.version)

    async def invoked(self, text: str, qualifier: str | None = None) -> FunctionVersion:
        """As ``function``, for a function of another tenant too where its policy lets this one invoke it."""
        reference = names.parse(text, qualifier)
        owner = TenantId(reference.account or self.tenant)
        if owner != self.tenant:
            caller = Caller(self.tenant, INVOKE)
            if not await self.faces.services.permissions.may(owner, reference.name, reference.qualifier or "", caller):
                reference.check_owner(self.tenant)
        return await self.faces.service.resolve(owner, reference.name, reference.version)

    async def shown(self, text: str, qualifier: str | None = None) -> FunctionVersion:
        """Return what is said of this version or alias."""
        reference = self.reference(text, qualifier)
        return await self.faces.service.get(self.tenant, reference.name, reference.version)

    async def check_dead_letter(self, change: FunctionChange) -> None:
        """Raises ``InvalidRequest`` or ``NotFound`` where a dead-letter queue is named that the tenant has not."""
        if change.dead_letter:
            await self.faces.services.destinations.check_dead_letter(self.tenant, change.dead_letter)

    async def accept(
        self, function: FunctionVersion, event: bytes, qualifier: str, *, trace_id: str = "", client_context: str = ""
    ) -> None:
        """Queue an asynchronous invocation; it is on the disk when this returns. ``qualifier``: as it was named."""
        await self.faces.services.events.submit(
            function.tenant,
            function.name,
            event,
            qualifier=qualifier,
            request_id=self.request_id,
            trace_id=trace_id,
            client_context=client_context,
        )


def require_operator(call: Call) -> None:
    """Raises ``AccessDenied`` for a tenant."""
    if not call.operator:
        raise AccessDenied("only the operator may do this", code="operator", hint="use the UNIX socket")


def answer(document: Any, status: int = 200, request_id: str = "", header: str = "x-amzn-RequestId") -> Response:
    headers = {"Content-Type": "application/json"}
    if request_id:
        headers[header] = request_id
    return Response(status, headers, json.dumps(document).encode())


def check_event(event: bytes, *, asynchronous: bool) -> bytes:
    """Return the event as it goes to the runtime. Raises ``PayloadTooLarge`` and, for what
    is not JSON, ``MalformedDocument``.
    """
    limit = EVENT_LIMIT if asynchronous else SYNCHRONOUS_LIMIT
    if len(event) > limit:
        raise PayloadTooLarge(f"{len(event)} byte payload is too large for the invocation type (limit {limit} bytes)")
    if not event:
        return b"{}"
    try:
        # Checks the grammar without building anything, an eighth of the time that json.loads takes;
        # it does not look into strings, which must be UTF-8.
        msgspec.json.decode(event, type=msgspec.Raw)
        if not event.isascii():
            event.decode()
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise MalformedDocument(f"Could not parse request body into json: {error}") from None
    return event


def decode_context(header: str | None) -> str:
    """Return the client context as JSON text."""
    if not header:
        return ""
    try:
        text = base64.b64decode(header, validate=True).decode()
        decoded = json.loads(text)
    except (binascii.Error, ValueError):
        raise InvalidRequest("Client context must be a valid Base64-encoded JSON object.") from None
    if not isinstance(decoded, dict):
        raise InvalidRequest("Client context must be a valid Base64-encoded JSON object.")
    return text


def incoming_trace(request: Request) -> str:
    """Return the caller's trace context as it was sent, W3C's where there are both; no more than a context takes."""
    return (request.headers.get("traceparent") or request.headers.get("x-amzn-trace-id", ""))[:LONGEST_HEADER]


def trace_headers(trace: TraceContext | None) -> dict[str, str]:
    return {} if trace is None else {"X-Amzn-Trace-Id": trace.xray, "traceparent": trace.traceparent}


def start_headers(result: InvokeResult) -> dict[str, str]:
    """Say how the invocation started, why, and where its time went."""
    headers = trace_headers(result.trace)
    headers["X-Alcove-Start"] = f"{result.start}; why={result.why}"
    headers["X-Alcove-Phases"] = ",".join([f"{name}={spent:.2f}" for name, spent in result.phases_ms.items()])
    headers["X-Alcove-Sandbox"] = result.sandbox_id
    return headers
