"""Custom routes, in Alcove's own API: /alcove/v1/routes and /alcove/v1/hosts."""

from __future__ import annotations

from typing import Any

from alcove.api.body import field, read_object
from alcove.api.context import Call, answer
from alcove.api.cors_rules import CORS, describe_cors, read_cors
from alcove.api.dialect import AWS
from alcove.api.router import Route
from alcove.api.schema import EMPTY, FLAG, TEXT, TEXTS, Detail, list_of, object_of, one_of, or_null, record
from alcove.errors import InvalidRequest
from alcove.gateway.message import Response
from alcove.store.routes import RouteRow
from alcove.triggers.endpoint import Auth, Cors, Mode, check_auth, check_mode
from alcove.triggers.routes import RouteSpec


def _describe(row: RouteRow) -> dict[str, Any]:
    cors = Cors.from_json(row.cors)
    return {
        "host": row.host,
        "path": row.path or "/",
        "function": row.function,
        "qualifier": row.qualifier,
        "auth": row.auth,
        "mode": row.mode,
        "cors": None if cors is None else describe_cors(cors),
    }


async def put_route(call: Call, host: str, path: str = "") -> Response:
    """Make a route, or change the one of this host and path."""
    document = read_object(call.request)
    function = field(document, "function", str)
    if not function:
        raise InvalidRequest("'function' is required.")
    reference = call.reference(function, field(document, "qualifier", str))
    spec = RouteSpec(
        host=host,
        path=f"/{path}",
        function=reference.name,
        qualifier=reference.qualifier or "",
        auth=check_auth(field(document, "auth", str) or "NONE"),
        mode=check_mode(field(document, "mode", str) or "BUFFERED"),
        cors=read_cors(field(document, "cors", dict)),
    )
    made = await call.faces.services.routes.put(call.tenant, spec, operator=call.operator)
    return answer(_describe(made), 200, call.request_id)


async def list_routes(call: Call) -> Response:
    query = call.request.query
    after = (query.get("after_host", ""), query.get("after_path", "").rstrip("/"))
    found, more = await call.faces.services.routes.list(call.tenant, after)
    document = {"routes": [_describe(row) for row in found], "more": more}
    return answer(document, 200, call.request_id)


async def delete_route(call: Call, host: str, path: str = "") -> Response:
    await call.faces.services.routes.remove(call.tenant, host, f"/{path}")
    return Response(204, {"x-amzn-RequestId": call.request_id})


async def list_hosts(call: Call) -> Response:
    hosts = await call.faces.services.routes.hosts(call.tenant)
    return answer({"hosts": [host.name for host in hosts]}, 200, call.request_id)


async def release_host(call: Call, host: str) -> Response:
    await call.faces.services.routes.release(call.tenant, host)
    return Response(204, {"x-amzn-RequestId": call.request_id})


_FIELDS = {"function": TEXT, "qualifier": TEXT, "auth": one_of(*Auth), "mode": one_of(*Mode)}
_ROUTE = record(host=TEXT, path=TEXT, **_FIELDS, cors=or_null(CORS))
_PUT = Detail(object_of("function", **_FIELDS, cors=CORS), answer=_ROUTE)
_LIST = Detail(query=("after_host", "after_path"), answer=record(routes=list_of(_ROUTE), more=FLAG))

ROUTES = (
    Route("GET", "/alcove/v1/routes", list_routes, AWS, detail=_LIST),
    Route("PUT", "/alcove/v1/routes/{host}", put_route, AWS, detail=_PUT),
    Route("PUT", "/alcove/v1/routes/{host}/{path*}", put_route, AWS, detail=_PUT),
    Route("DELETE", "/alcove/v1/routes/{host}", delete_route, AWS, detail=EMPTY),
    Route("DELETE", "/alcove/v1/routes/{host}/{path*}", delete_route, AWS, detail=EMPTY),
    Route("GET", "/alcove/v1/hosts", list_hosts, AWS, detail=Detail(answer=record(hosts=TEXTS))),
    Route("DELETE", "/alcove/v1/hosts/{host}", release_host, AWS, detail=EMPTY),
)
