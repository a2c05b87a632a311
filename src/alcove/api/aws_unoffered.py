"""Features of AWS Lambda that are not offered: code signing configurations, capacity providers, durable executions.

Clients are answered as by an account that has none of these: lists are empty, what is named does not exist, and
making one is refused.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from alcove.api import shapes
from alcove.api.context import Call, answer
from alcove.api.dialect import AWS
from alcove.api.router import Act, Route
from alcove.api.schema import ANYTHING, Detail, Schema, list_of, object_of, record
from alcove.errors import InvalidRequest, NotFound
from alcove.gateway.message import Response


async def none_listed(call: Call) -> Response:
    """There are none."""
    return answer({_LISTS[call.request.path.rstrip("/")]: []}, 200, call.request_id)


async def no_executions(call: Call, name: str) -> Response:
    """Of a function that is there: no execution of it is durable."""
    await call.shown(name, call.request.query.get("Qualifier"))
    return answer({"DurableExecutions": []}, 200, call.request_id)


def _no(thing: str) -> Callable[..., Awaitable[Response]]:
    async def absent(call: Call, **named: str) -> Response:
        raise NotFound(f"The {thing} {next(iter(named.values()))[:200]} does not exist.", hint="there are none here")

    absent.__name__ = "no_" + thing.replace(" ", "_")
    absent.__doc__ = f"There is no {thing} that could be meant."
    return absent


def _refused(thing: str) -> Callable[..., Awaitable[Response]]:
    async def refuse(call: Call, **named: str) -> Response:
        raise InvalidRequest(f"{thing[0].upper()}{thing[1:]}s are not offered.", hint="functions work without one")

    refuse.__name__ = "refuse_" + thing.replace(" ", "_")
    refuse.__doc__ = f"No {thing} can be made or gone on with."
    return refuse


_SIGNING = "/2020-04-22/code-signing-configs"
_PROVIDERS = "/2025-11-30/capacity-providers"
_EXECUTIONS = "/2025-12-01/durable-executions/{execution}"
_CALLBACKS = "/2025-12-01/durable-execution-callbacks/{callback}"
_LISTS = {_SIGNING: "CodeSigningConfigs", _PROVIDERS: "CapacityProviders"}


def _detail(method: str, status: int = 200) -> Detail:
    return Detail(object_of() if method in ("POST", "PUT") else None, shapes.PAGE, status=status, answer=ANYTHING)


def _route(method: str, path: str, act: Act, status: int = 200) -> Route:
    return Route(method, path, act, AWS, detail=_detail(method, status))


def _list(path: str, act: Act, member: str) -> Route:
    nothing: Schema = {**list_of(ANYTHING), "maxItems": 0}
    return Route("GET", path, act, AWS, detail=Detail(query=shapes.PAGE, answer=record(**{member: nothing})))


_no_config, _no_provider = _no("code signing configuration"), _no("capacity provider")
_no_execution, _no_callback = _no("durable execution"), _no("callback of a durable execution")

ROUTES = (
    _list(_SIGNING, none_listed, "CodeSigningConfigs"),
    _route("POST", _SIGNING, _refused("code signing configuration"), 201),
    _route("GET", _SIGNING + "/{config}", _no_config),
    _route("PUT", _SIGNING + "/{config}", _no_config),
    _route("DELETE", _SIGNING + "/{config}", _no_config, 204),
    _route("GET", _SIGNING + "/{config}/functions", _no_config),
    _list(_PROVIDERS, none_listed, "CapacityProviders"),
    _route("POST", _PROVIDERS, _refused("capacity provider"), 202),
    _route("GET", _PROVIDERS + "/{provider}", _no_provider),
    _route("PUT", _PROVIDERS + "/{provider}", _no_provider, 202),
    _route("DELETE", _PROVIDERS + "/{provider}", _no_provider, 202),
    _route("GET", _PROVIDERS + "/{provider}/function-versions", _no_provider),
    _list("/2025-12-01/functions/{name}/durable-executions", no_executions, "DurableExecutions"),
    _route("GET", _EXECUTIONS, _no_execution),
    _route("DELETE", _EXECUTIONS, _no_execution, 202),
    _route("GET", _EXECUTIONS + "/history", _no_execution),
    _route("GET", _EXECUTIONS + "/state", _refused("durable execution")),
    _route("POST", _EXECUTIONS + "/checkpoint", _refused("durable execution")),
    _route("POST", _EXECUTIONS + "/pause", _no_execution, 202),
    _route("POST", _EXECUTIONS + "/resume", _no_execution, 202),
    _route("POST", _EXECUTIONS + "/stop", _no_execution),
    _route("POST", _CALLBACKS + "/fail", _no_callback),
    _route("POST", _CALLBACKS + "/heartbeat", _no_callback),
    _route("POST", _CALLBACKS + "/succeed", _no_callback),
)
