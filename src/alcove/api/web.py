"""HTTP requests that functions answer: function URLs and custom routes.

A function URL is known by its host, ``ID.lambda-url.REGION.localhost``, or by the path ``/urls/ID/...`` where names do
not resolve; CFC's HTTP triggers likewise, by ``ID.cfc-execute.REGION.localhost`` or ``/cfc-execute/ID/...``; a custom
route by its host and path. None of it is the API: such a request never reaches an operation,
and errors are told as API Gateway tells them, without detail, for anyone may be asking.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable

import msgspec

from alcove.api import cors
from alcove.api.cfc_event import make_cfc_event
from alcove.api.context import SYNCHRONOUS_LIMIT, incoming_trace
from alcove.api.signers import Signed
from alcove.api.web_answer import BadAnswer, make_response, refuse
from alcove.api.web_event import Caller, make_event
from alcove.api.web_stream import make_streamed, make_whole
from alcove.errors import AccessDenied, AlcoveError, CapacityError, InvalidRequest, NotFound, ThrottledError, TooLarge
from alcove.functions.model import LATEST, FunctionVersion, InvokeResult
from alcove.functions.statements import Caller as PolicyCaller
from alcove.functions.streaming import AnswerStream, StreamedCall
from alcove.gateway.message import Request, Response
from alcove.services import Services
from alcove.triggers.endpoint import Auth, Endpoint, Mode, host_name

log = logging.getLogger(__name__)

_DOMAIN = ".lambda-url."
_PREFIX = "/urls/"
_CFC_DOMAIN = ".cfc-execute."
_CFC_PREFIX = "/cfc-execute/"
_INVOKE_URL = "lambda:InvokeFunctionUrl"
_ANYONE = PolicyCaller("", _INVOKE_URL, {"url_auth_type": "NONE", "via_url": "true"})
# Who called is known from the signature, where one is asked for.
MakeEvent = Callable[[Caller | None], bytes]
_ERRORS: tuple[tuple[type[AlcoveError], int, str], ...] = (
    (AccessDenied, 403, "Forbidden"),
    (NotFound, 404, "Not Found"),
    (TooLarge, 413, "Request Too Long"),
    (ThrottledError, 429, "Too Many Requests"),
    (InvalidRequest, 400, "Bad Request"),
    (CapacityError, 503, "Service Unavailable"),
    (AlcoveError, 502, "Bad Gateway"),
)


class Place(msgspec.Struct, frozen=True):
    """Where a request goes: the id of a URL, the address of CFC's HTTP triggers, or else a custom route's host; and the
    path that is left.
    """

    host: str
    path: str
    url_id: str = ""
    cfc: str = ""


class Web:
    """``place`` tells whether a request is for a function; ``answer`` answers it. ``sign`` returns who
    has signed a request, or raises ``AccessDenied``.
    """

    def __init__(self, services: Services, sign: Callable[[Request], Awaitable[Signed]]) -> None:
        self._services = services
        self._sign = sign

    def place(self, request: Request) -> Place | None:
        host = host_name(request.headers.get("host", ""))
        path = request.raw_path
        if _DOMAIN in host:
            return Place(host, path, url_id=host.partition(_DOMAIN)[0])
        if _CFC_DOMAIN in host:
            return Place(host, path, cfc=host.partition(_CFC_DOMAIN)[0])
        if self._services.routes.table.holds(host):
            return Place(host, path)
        if path.startswith((_PREFIX, _CFC_PREFIX)):
            _, kind, label, *rest = path.split("/", 3)
            # An empty label is no place of a route's either.
            key = "cfc" if kind == "cfc-execute" else "url_id"
            return Place("", f"/{rest[0] if rest else ''}", **{key: label or "-"})
        return None

    async def answer(self, place: Place, request: Request, request_id: str) -> Response:
        try:
            endpoint, make = await self._find(place, request, request_id)
        except AlcoveError as error:
            return _refused(error)
        if endpoint.cors is not None and cors.is_preflight(request):
            return cors.preflight(endpoint.cors, request)
        try:
            response = await self._call(endpoint, make, request, request_id)
        except AlcoveError as error:
            response = _refused(error)
        except BadAnswer as error:
            log.info("request %s: %s of %s: %s", request_id, endpoint.function, endpoint.tenant, error)
            response = refuse(502, "Internal Server Error")
        response.headers["x-amzn-RequestId"] = request_id
        if endpoint.cors is not None:
            cors.apply(endpoint.cors, request, response)
        return response

    async def _find(self, place: Place, request: Request, request_id: str) -> tuple[Endpoint, MakeEvent]:
        """Return who answers, and what makes the event for it. Raises ``NotFound``."""
        if place.cfc:
            return self._find_cfc(place, request, request_id)
        if place.url_id:
            endpoint = await self._services.urls.find(place.url_id)
        else:
            found = self._services.routes.table.find(place.host, place.path)
            if found is None:
                raise NotFound("There is no such route.")
            endpoint = found
        domain = place.host or self._domain(endpoint)
        return endpoint, lambda caller: make_event(
            endpoint, request, path=place.path, domain=domain, request_id=request_id, caller=caller
        )

    def _find_cfc(self, place: Place, request: Request, request_id: str) -> tuple[Endpoint, MakeEvent]:
        found = self._services.http_relations.find(place.cfc, request.method, place.path)
        if found is None:
            raise NotFound("No relation answers this.")
        answerer, names = found
        row = answerer.relation.row
        endpoint = Endpoint(
            answerer.relation.tenant, row.function, row.qualifier, answerer.auth, Mode.BUFFERED, row.endpoint
        )
        return endpoint, lambda caller: make_cfc_event(
            answerer, request, path=place.path, names=names, request_id=request_id
        )

    async def _call(self, endpoint: Endpoint, make: MakeEvent, request: Request, request_id: str) -> Response:
        caller = await self._caller(endpoint, request) if endpoint.auth is Auth.IAM else None
        function = await self._function(endpoint)
        if caller is None and endpoint.asks_policy:
            await self._ask(endpoint, _ANYONE)
        event = make(caller)
        if len(event) > SYNCHRONOUS_LIMIT:
            raise TooLarge("The event is over the limit.")
        trace_id = incoming_trace(request)
        stream = AnswerStream(self._services.stream_limit) if endpoint.mode is Mode.STREAM else None
        work = self._services.dispatcher.invoke(function, event, trace_id=trace_id, request_id=request_id, sink=stream)
        if stream is None:
            return _whole(await work)
        streamed = StreamedCall(stream, work)
        return await make_streamed(streamed) if await streamed.begun() else _whole(await streamed.result())

    async def _caller(self, endpoint: Endpoint, request: Request) -> Caller:
        """The endpoint's tenant may call, and others that the function's policy lets in. Raises ``AccessDenied``."""
        signed = await self._sign(request)
        if signed.tenant != endpoint.tenant:
            facts = {"url_auth_type": endpoint.auth, "via_url": "true"}
            await self._ask(endpoint, PolicyCaller(signed.tenant, _INVOKE_URL, facts))
        return Caller(signed.access_key, signed.tenant)

    async def _ask(self, endpoint: Endpoint, caller: PolicyCaller) -> None:
        if not await self._services.permissions.may(endpoint.tenant, endpoint.function, endpoint.qualifier, caller):
            raise AccessDenied("The function's policy does not let this caller in.")

    async def _function(self, endpoint: Endpoint) -> FunctionVersion:
        functions = self._services.functions
        function = await functions.resolve(endpoint.tenant, endpoint.function, endpoint.qualifier or LATEST)
        if endpoint.function_id and function.function_id != endpoint.function_id:
            raise NotFound("The URL's function is gone.")
        return function

    def _domain(self, endpoint: Endpoint) -> str:
        return f"{endpoint.api_id}{_DOMAIN}{self._services.functions.settings.region}.localhost"


def url_of(url_id: str, region: str, endpoint: str) -> str:
    """Return the URL; ``endpoint`` is the server's own, which has the port."""
    port = endpoint.rpartition(":")[2].strip("/")
    return f"http://{url_id}{_DOMAIN}{region}.localhost:{port}/"


def cfc_url_of(address: str, region: str, endpoint: str) -> str:
    """Return what CFC calls EndpointPrefix."""
    port = endpoint.rpartition(":")[2].strip("/")
    return f"http://{address}{_CFC_DOMAIN}{region}.localhost:{port}"


def _refused(error: AlcoveError) -> Response:
    status, message = next((status, message) for kind, status, message in _ERRORS if isinstance(error, kind))
    return refuse(status, message)


def _whole(result: InvokeResult) -> Response:
    if result.error is not None:
        return _failed(result)
    if result.content_type:
        return make_whole(result.content_type, result.payload)
    return make_response(result.payload)


def _failed(result: InvokeResult) -> Response:
    """A function's error is 502, its time-out 504; what it was is for its log."""
    try:
        kind = json.loads(result.payload).get("errorType")
    except (ValueError, AttributeError, RecursionError):
        kind = None
    if kind == "Sandbox.Timedout":
        return refuse(504, "Endpoint request timed out")
    return refuse(502, "Internal Server Error")
