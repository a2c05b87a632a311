"""One application for every face: who calls, in which dialect, and what for.

The path tells the dialect, the signature the tenant. On the UNIX socket the peer is the operator,
who acts for the tenant named in ``X-Alcove-Tenant`` (the default one otherwise) without a
signature.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import secrets
import time

from alcove.api import (
    audit,
    aws,
    aws_aliases,
    aws_concurrency,
    aws_function_traits,
    aws_invoke_async,
    aws_layers,
    aws_permissions,
    aws_unoffered,
    bce,
    bce_aliases,
    bce_blueprints,
    bce_concurrency,
    bce_flows,
    bce_groups,
    bce_layers,
    bce_mappings,
    bci,
    bci_images,
    event_invoke,
    hooks,
    images,
    instance_exec,
    instance_logs,
    instance_ports,
    instances,
    kernels,
    mappings,
    metrics,
    native,
    openapi,
    policy,
    relations,
    routes,
    sqs,
    streaming,
    tenants,
    timers,
    urls,
    usage,
    webhooks,
)
from alcove.api.audit import is_change, perform
from alcove.api.context import INVOKE_BODY, Call, Faces, Host, OpenCall, answer
from alcove.api.dialect import AWS, BCE, Dialect, PayloadTooLarge
from alcove.api.router import SMALL_BODY, Route, Router
from alcove.api.schema import ANYTHING, Detail
from alcove.api.signers import SecretOf, Signed, Signers, may
from alcove.api.sqs_dialect import SQS, TARGET
from alcove.api.web import Web
from alcove.errors import AccessDenied, AlcoveError, NotFound
from alcove.gateway.http import Server
from alcove.gateway.message import Request, Response
from alcove.gateway.shares import Shares
from alcove.services import Services
from alcove.wire import bcev1, sigv4
from alcove.wire.request_id import new_request_id

log = logging.getLogger(__name__)

# Hashing more than this takes long enough to be done beside the event loop.
LARGE_BODY = 256 << 10
CODE_URL_LIFETIME_S = 600
_DOWNLOAD = Detail(needs=("expires", "token"), answer=ANYTHING, media="application/zip")


async def describe(call: OpenCall) -> Response:
    """The OpenAPI document of all this."""
    return answer(openapi.document(ROUTES), 200, call.request_id)


# The modules whose routes make up the API, in the order of the document.
FACES = (
    aws,
    aws_aliases,
    aws_concurrency,
    aws_function_traits,
    aws_invoke_async,
    aws_layers,
    aws_permissions,
    aws_unoffered,
    event_invoke,
    mappings,
    streaming,
    urls,
    bce,
    bce_aliases,
    bce_blueprints,
    bce_concurrency,
    bce_flows,
    bce_groups,
    bce_layers,
    bce_mappings,
    bci,
    bci_images,
    relations,
    webhooks,
    native,
    timers,
    hooks,
    routes,
    sqs,
    tenants,
    usage,
    metrics,
    audit,
    policy,
    kernels,
    instances,
    instance_exec,
    instance_logs,
    instance_ports,
    images,
)
ROUTES: tuple[Route, ...] = (
    *(route for face in FACES for route in face.ROUTES),
    Route("GET", "/alcove/v1/openapi.json", describe, AWS, signed=False, detail=Detail(answer={"type": "object"})),
)


class App:
    """``handle`` answers every request; ``server`` returns a server of it."""

    def __init__(self, host: Host, services: Services) -> None:
        self._tenants = services.tenants
        self._code = services.code
        self._url_key = secrets.token_bytes(32)
        self._faces = Faces(host, services, self._code_url)
        download = Route("GET", "/alcove/v1/code/{sha256}", self._download, AWS, signed=False, detail=_DOWNLOAD)
        self._web = Web(services, self._signed_by)
        self.routes = (*ROUTES, download)
        self._router = Router(self.routes)

    def server(self, *, shares: Shares | None = None) -> Server:
        return Server(self.handle, body_limit=self.body_limit, allowed=SMALL_BODY, refusal=self.refusal, shares=shares)

    def body_limit(self, head: Request) -> int:
        if self._web.place(head) is not None:
            return INVOKE_BODY
        found = self._router.match(head.method, head.raw_path)
        return SMALL_BODY if found is None else found[0].body_limit

    def refusal(self, request: Request, status: int, message: str) -> Response:
        dialect, request_id = _dialect(request), new_request_id()
        if status == 413 and request.raw_path.endswith("/invocations"):
            return dialect.answer(PayloadTooLarge(message), request_id)
        return dialect.refuse(status, message, request_id)

    async def handle(self, request: Request) -> Response:
        request_id = new_request_id()
        dialect = _dialect(request)
        try:
            place = self._web.place(request)
            if place is not None:
                return await self._web.answer(place, request, request_id)
            # Some of SQS's clients send to the queue's URL, some to the endpoint: the target tells the call.
            path = "/" if dialect is SQS else request.raw_path
            route, names = self._router.find(request.method, path)
            dialect = route.dialect
            if not route.signed:
                return await route.act(OpenCall(self._faces, request, request_id), **names)
            call = await self._authenticate(request, request_id, route)
            if is_change(route):
                return await perform(call, route, names)
            return await route.act(call, **names)
        except AlcoveError as error:
            return dialect.answer(error, request_id)
        except Exception:
            log.exception("request %s failed: %s %s", request_id, request.method, request.path)
            return dialect.break_down(request_id)

    async def _authenticate(self, request: Request, request_id: str, route: Route) -> Call:
        if request.peer.is_operator:
            named = request.headers.get("x-alcove-tenant")
            tenant = self._tenants.find(named) if named else self._tenants.default
            return Call(self._faces, request, request_id, tenant.id, operator=True)
        signed = await self._signed_by(request, route.service)
        if signed.function and not may(route, request):
            raise AccessDenied(
                "A function's own key is for calling functions, for buckets, and for messages in queues.",
                hint="give the function a key of its tenant's in its environment",
            )
        return Call(self._faces, request, request_id, signed.tenant, operator=False, key=signed.access_key)

    async def _signed_by(self, request: Request, service: str = "lambda") -> Signed:
        services = self._faces.services
        if Signers.may_be_function(request.headers, request.raw_query):
            signers = await Signers.of(services, request.headers, request.raw_query)
        else:
            signers = Signers(services)
        if len(request.body) > LARGE_BODY:
            key = await asyncio.to_thread(self._signer, request, service, signers.secret_of)
        else:
            key = self._signer(request, service, signers.secret_of)
        return Signed(key, signers.tenant_of(key), function=signers.is_function(key))

    def _signer(self, request: Request, service: str, secret_of: SecretOf) -> str:
        if bcev1.is_signed(request.headers):
            return bcev1.verify(
                method=request.method,
                raw_path=request.raw_path,
                raw_query=request.raw_query,
                headers=request.headers,
                body=request.body,
                secret_of=secret_of,
                now_s=time.time(),
            )
        return sigv4.verify(
            method=request.method,
            raw_path=request.raw_path,
            raw_query=request.raw_query,
            headers=request.headers,
            body_sha256=lambda: hashlib.sha256(request.body).hexdigest(),
            secret_of=secret_of,
            now_s=time.time(),
            service=service,
        ).access_key

    # Packages, handed out by URLs that expire

    def _code_url(self, package_sha256: str) -> str:
        expires = int(time.time()) + CODE_URL_LIFETIME_S
        token = self._token(package_sha256, expires)
        base = self._faces.host.endpoint()
        return f"{base}/alcove/v1/code/{package_sha256}?expires={expires}&token={token}"

    def _token(self, sha256: str, expires: int) -> str:
        return hmac.new(self._url_key, f"{sha256}:{expires}".encode(), "sha256").hexdigest()

    async def _download(self, call: OpenCall, sha256: str) -> Response:
        request = call.request
        expires = request.query.get("expires", "")
        valid = expires.isascii() and expires.isdigit() and len(expires) < 12
        token = request.query.get("token", "").encode()
        if not valid or not hmac.compare_digest(token, self._token(sha256, int(expires)).encode()):
            raise AccessDenied("the URL is not one of ours")
        if int(expires) < time.time():
            raise AccessDenied("the URL has expired", code="expired", hint="get the function again")
        path = self._code.package_path(sha256)
        try:
            data = await asyncio.to_thread(path.read_bytes)
        except FileNotFoundError:
            raise NotFound("the package is gone") from None
        return Response(200, {"Content-Type": "application/zip"}, data)


def _dialect(request: Request) -> Dialect:
    if request.headers.get("x-amz-target", "").startswith(TARGET):
        return SQS
    return BCE if request.raw_path.startswith(("/v1/", "/v2/")) else AWS
