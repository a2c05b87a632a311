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
import re
import secrets
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import unquote

from alcove.api import aws, bce, native
from alcove.api import timers as timer_calls
from alcove.api.context import Call, Faces, Host
from alcove.api.dialect import AWS, BCE, Dialect, PayloadTooLarge
from alcove.errors import AccessDenied, AlcoveError, NotFound
from alcove.events.sink import EventSink
from alcove.functions.dispatcher import Dispatcher
from alcove.functions.logs import LogStore
from alcove.functions.model import FunctionVersion
from alcove.functions.service import FunctionService
from alcove.gateway.message import Request, Response
from alcove.tenants.directory import TenantDirectory
from alcove.triggers.timers import TimerService
from alcove.wire import bcev1, sigv4

log = logging.getLogger(__name__)

# A zip of 50 MB, base64-encoded in JSON.
PACKAGE_LIMIT = 70 * 1024 * 1024
# One byte over what is allowed is told apart from what is absurd: the dialect answers the one, the
# server the other.
INVOKE_LIMIT = 7 * 1024 * 1024
SMALL_LIMIT = 1 << 20
# Hashing more than this takes long enough to be done beside the event loop.
LARGE_BODY = 256 << 10
CODE_URL_LIFETIME_S = 600

_Act = Callable[..., Awaitable[Response]]
_NAME = r"(?P<name>[^/]+)"
_AWS_BASE = r"/2015-03-31/functions"
_ROUTES: list[tuple[str, re.Pattern[str], _Act, Dialect]] = [
    (method, re.compile(pattern), act, dialect)
    for method, pattern, act, dialect in (
        ("POST", rf"{_AWS_BASE}/{_NAME}/invocations", aws.invoke, AWS),
        ("POST", rf"/v1/functions/{_NAME}/invocations", bce.invoke, BCE),
        ("POST", rf"{_AWS_BASE}/?", aws.create_function, AWS),
        ("GET", rf"{_AWS_BASE}/?", aws.list_functions, AWS),
        ("GET", rf"{_AWS_BASE}/{_NAME}", aws.get_function, AWS),
        ("DELETE", rf"{_AWS_BASE}/{_NAME}", aws.delete_function, AWS),
        ("GET", rf"{_AWS_BASE}/{_NAME}/configuration", aws.get_configuration, AWS),
        ("PUT", rf"{_AWS_BASE}/{_NAME}/configuration", aws.update_configuration, AWS),
        ("PUT", rf"{_AWS_BASE}/{_NAME}/code", aws.update_code, AWS),
        ("POST", rf"{_AWS_BASE}/{_NAME}/versions", aws.publish_version, AWS),
        ("GET", rf"{_AWS_BASE}/{_NAME}/versions", aws.list_versions, AWS),
        ("GET", r"/2016-08-19/account-settings/?", aws.account_settings, AWS),
        ("GET", r"/2017-03-31/tags/(?P<arn>[^/]+)", aws.list_tags, AWS),
        ("POST", r"/2017-03-31/tags/(?P<arn>[^/]+)", aws.tag, AWS),
        ("DELETE", r"/2017-03-31/tags/(?P<arn>[^/]+)", aws.untag, AWS),
        ("POST", r"/v1/functions/?", bce.create_function, BCE),
        ("GET", r"/v1/functions/?", bce.list_functions, BCE),
        ("GET", rf"/v1/functions/{_NAME}", bce.get_function, BCE),
        ("DELETE", rf"/v1/functions/{_NAME}", bce.delete_function, BCE),
        ("GET", rf"/v1/functions/{_NAME}/configuration", bce.get_configuration, BCE),
        ("PUT", rf"/v1/functions/{_NAME}/configuration", bce.update_configuration, BCE),
        ("PUT", rf"/v1/functions/{_NAME}/code", bce.update_code, BCE),
        ("POST", rf"/v1/functions/{_NAME}/versions", bce.publish_version, BCE),
        ("GET", rf"/v1/functions/{_NAME}/versions", bce.list_versions, BCE),
        ("GET", r"/alcove/v1/health", native.health, AWS),
        ("GET", r"/alcove/v1/instances", native.instances, AWS),
        ("GET", r"/alcove/v1/timers/?", timer_calls.list_timers, AWS),
        ("PUT", rf"/alcove/v1/timers/{_NAME}", timer_calls.put_timer, AWS),
        ("DELETE", rf"/alcove/v1/timers/{_NAME}", timer_calls.delete_timer, AWS),
        ("GET", r"/alcove/v1/env", native.environment, AWS),
        ("GET", rf"/alcove/v1/functions/{_NAME}/logs", native.logs, AWS),
    )
]
_CODE = re.compile(r"/alcove/v1/code/(?P<sha256>[0-9a-f]{64})")


class App:
    """``handle`` answers every request; ``body_limit`` and ``refusal`` go to the server beside it."""

    def __init__(
        self,
        host: Host,
        service: FunctionService,
        dispatcher: Dispatcher,
        tenants: TenantDirectory,
        logs: LogStore,
        events: EventSink,
        timers: TimerService,
    ) -> None:
        self._tenants = tenants
        self._service = service
        self._url_key = secrets.token_bytes(32)
        self._faces = Faces(host, service, dispatcher, tenants, logs, self._code_url, events, timers)

    def body_limit(self, method: str, path: str) -> int:
        if path.endswith("/invocations"):
            return INVOKE_LIMIT
        return PACKAGE_LIMIT if method in ("POST", "PUT") and "/functions" in path else SMALL_LIMIT

    def refusal(self, request: Request, status: int, message: str) -> Response:
        dialect, request_id = _dialect(request), str(uuid.uuid4())
        if status == 413 and request.raw_path.endswith("/invocations"):
            return dialect.answer(PayloadTooLarge(message), request_id)
        return dialect.refuse(status, message, request_id)

    async def handle(self, request: Request) -> Response:
        request_id = str(uuid.uuid4())
        dialect = _dialect(request)
        try:
            download = _CODE.fullmatch(request.path)
            if download is not None:
                return await self._download(request, download["sha256"])
            act, names = _find(request)
            call = await self._authenticate(request, request_id)
            return await act(call, **names)
        except AlcoveError as error:
            return dialect.answer(error, request_id)
        except Exception:
            log.exception("request %s failed: %s %s", request_id, request.method, request.path)
            return dialect.break_down(request_id)

    async def _authenticate(self, request: Request, request_id: str) -> Call:
        if request.peer.is_operator:
            named = request.headers.get("x-alcove-tenant")
            tenant = self._tenants.find(named) if named else self._tenants.default
            return Call(self._faces, request, request_id, tenant.id, operator=True)
        if len(request.body) > LARGE_BODY:
            key = await asyncio.to_thread(self._signer, request)
        else:
            key = self._signer(request)
        return Call(self._faces, request, request_id, self._tenants.owner_of(key).id, operator=False)

    def _signer(self, request: Request) -> str:
        if bcev1.is_signed(request.headers):
            return bcev1.verify(
                method=request.method,
                raw_path=request.raw_path,
                raw_query=request.raw_query,
                headers=request.headers,
                body=request.body,
                secret_of=self._tenants.secret_of,
                now_s=time.time(),
            )
        return sigv4.verify(
            method=request.method,
            raw_path=request.raw_path,
            raw_query=request.raw_query,
            headers=request.headers,
            body_sha256=lambda: hashlib.sha256(request.body).hexdigest(),
            secret_of=self._tenants.secret_of,
            now_s=time.time(),
        ).access_key

    # Packages, handed out by URLs that expire

    def _code_url(self, function: FunctionVersion) -> str:
        expires = int(time.time()) + CODE_URL_LIFETIME_S
        token = self._token(function.package_sha256, expires)
        base = self._faces.host.endpoint()
        return f"{base}/alcove/v1/code/{function.package_sha256}?expires={expires}&token={token}"

    def _token(self, sha256: str, expires: int) -> str:
        return hmac.new(self._url_key, f"{sha256}:{expires}".encode(), "sha256").hexdigest()

    async def _download(self, request: Request, sha256: str) -> Response:
        expires = request.query.get("expires", "")
        valid = expires.isascii() and expires.isdigit() and len(expires) < 12
        token = request.query.get("token", "").encode()
        if not valid or not hmac.compare_digest(token, self._token(sha256, int(expires)).encode()):
            raise AccessDenied("the URL is not one of ours")
        if int(expires) < time.time():
            raise AccessDenied("the URL has expired", code="expired", hint="get the function again")
        path: Path = self._service.code.package_path(sha256)
        try:
            data = await asyncio.to_thread(path.read_bytes)
        except FileNotFoundError:
            raise NotFound("the package is gone") from None
        return Response(200, {"Content-Type": "application/zip"}, data)


def build_app(
    host: Host,
    service: FunctionService,
    dispatcher: Dispatcher,
    tenants: TenantDirectory,
    logs: LogStore,
    events: EventSink,
    timers: TimerService,
) -> App:
    return App(host, service, dispatcher, tenants, logs, events, timers)


def _dialect(request: Request) -> Dialect:
    return BCE if request.raw_path.startswith("/v1/") else AWS


def _find(request: Request) -> tuple[_Act, dict[str, str]]:
    """Return the operation and what the path names. Raises ``NotFound``."""
    for method, pattern, act, _ in _ROUTES:
        if method == request.method:
            match = pattern.fullmatch(request.raw_path)
            if match is not None:
                return act, {key: unquote(value) for key, value in match.groupdict().items()}
    raise NotFound(
        f"There is no {request.method} {request.path[:200]} here.",
        hint="check the endpoint and the API's version",
    )
