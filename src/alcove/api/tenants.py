"""Tenants, their keys and quotas, in Alcove's own API: /alcove/v1/tenants. For the operator alone."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from alcove.api.body import field, read_object
from alcove.api.context import Call, answer, require_operator
from alcove.api.dialect import AWS
from alcove.api.router import Route
from alcove.api.schema import (
    EMPTY,
    FLAG,
    NUMBER,
    TEXT,
    Detail,
    Named,
    Schema,
    list_of,
    object_of,
    one_of,
    or_null,
    record,
)
from alcove.errors import Conflict, InvalidRequest, NotFound
from alcove.gateway.message import Response
from alcove.tenants.model import AccessKey, Tenant
from alcove.tenants.quotas import QUOTA_NAMES


async def list_tenants(call: Call) -> Response:
    require_operator(call)
    directory = call.faces.services.tenants
    found = [await _describe(call, tenant) for tenant in directory.all()]
    found += [{"id": tenant.id, "name": tenant.name, "state": "removing"} for tenant in directory.removing()]
    return answer({"tenants": found}, 200, call.request_id)


async def create_tenant(call: Call) -> Response:
    """The answer holds the first key with its secret."""
    require_operator(call)
    document = read_object(call.request)
    name = field(document, "name", str)
    if not name:
        raise InvalidRequest("'name' is required.")
    directory = call.faces.services.tenants
    tenant = await directory.create(name, field(document, "quotas", dict))
    described = await _describe(call, tenant)
    return answer({**described, "key": _secret(directory.keys_of(tenant.id)[0])}, 201, call.request_id)


async def show_tenant(call: Call, tenant: str) -> Response:
    require_operator(call)
    return answer(await _describe(call, call.faces.services.tenants.find(tenant)), 200, call.request_id)


async def put_quotas(call: Call, tenant: str) -> Response:
    """Change the quotas that are named; null stands for the default."""
    require_operator(call)
    directory = call.faces.services.tenants
    found = directory.find(tenant)
    await directory.set_quotas(found.id, read_object(call.request))
    return answer(await _describe(call, found), 200, call.request_id)


async def create_key(call: Call, tenant: str) -> Response:
    """A new key with its secret; unless ``keep`` is true all others are revoked."""
    require_operator(call)
    keep = bool(field(read_object(call.request), "keep", bool))
    directory = call.faces.services.tenants
    key = await directory.create_key(directory.find(tenant).id, keep=keep)
    return answer({"key": _secret(key)}, 201, call.request_id)


async def delete_key(call: Call, tenant: str, key: str) -> Response:
    require_operator(call)
    directory = call.faces.services.tenants
    keys = [one.access_key for one in directory.keys_of(directory.find(tenant).id)]
    if key not in keys:
        raise NotFound("no such access key", hint=f"`alcove tenant show {tenant}` lists them")
    if len(keys) == 1:
        raise Conflict("it is the tenant's only key", hint=f"`alcove tenant rotate {tenant}` gives it another")
    await directory.delete_key(key)
    return Response(204, {"x-amzn-RequestId": call.request_id})


async def remove_tenant(call: Call, tenant: str) -> Response:
    require_operator(call)
    force = call.request.query.get("force") == "true"
    await call.faces.services.removal.remove(tenant, force=force)
    return Response(204, {"x-amzn-RequestId": call.request_id})


async def _describe(call: Call, tenant: Tenant) -> dict[str, Any]:
    """What there is to say of a tenant, without secrets."""
    services = call.faces.services
    functions, code_bytes = await services.functions.usage(tenant.id)
    timers = await services.timers.count(tenant.id)
    return {
        "id": tenant.id,
        "name": tenant.name,
        "state": "active",
        "created_ms": tenant.created_ms,
        "keys": [
            {"access_key": key.access_key, "created_ms": key.created_ms} for key in services.tenants.keys_of(tenant.id)
        ],
        "quotas": asdict(services.tenants.quotas(tenant.id)),
        "own_quotas": {k: v for k, v in services.tenants.own_quotas(tenant.id).items() if v is not None},
        "used": {
            "functions": functions,
            "code_bytes": code_bytes,
            "timers": timers,
            "events": services.events.depth(tenant.id),
            "flows": await services.flows.count(tenant.id),
            "executions": services.flows.running(tenant.id),
            "instances": await services.instances.count(tenant.id),
        },
    }


def _secret(key: AccessKey) -> dict[str, str]:
    return {"access_key": key.access_key, "secret": key.secret}


_KEY = record(access_key=TEXT, secret=TEXT)
_QUOTAS: dict[str, Schema] = dict.fromkeys(QUOTA_NAMES, NUMBER)
# What runs at one moment is no stock.
_USED = {name: one for name, one in _QUOTAS.items() if name != "concurrency"}
_ACTIVE: dict[str, Schema] = {
    "id": TEXT,
    "name": TEXT,
    "state": one_of("active"),
    "created_ms": NUMBER,
    "keys": list_of(record(access_key=TEXT, created_ms=NUMBER)),
    "quotas": record(**_QUOTAS),
    "own_quotas": record(_QUOTAS),
    "used": record(**_USED),
}
_TENANT = Named("Tenant", record(**_ACTIVE))
_REMOVED = record(id=TEXT, name=TEXT, state=one_of("removing"))
_TENANTS = record(tenants=list_of({"anyOf": [_TENANT, _REMOVED]}))
_WISHES = object_of(**dict.fromkeys(QUOTA_NAMES, or_null(NUMBER)))
_CREATE = Detail(object_of("name", name=TEXT, quotas=_WISHES), status=201, answer=record(**_ACTIVE, key=_KEY))
_ROTATE = Detail(object_of(keep=FLAG), status=201, answer=record(key=_KEY))

ROUTES = (
    Route("GET", "/alcove/v1/tenants", list_tenants, AWS, detail=Detail(answer=_TENANTS)),
    Route("POST", "/alcove/v1/tenants", create_tenant, AWS, detail=_CREATE),
    Route("GET", "/alcove/v1/tenants/{tenant}", show_tenant, AWS, detail=Detail(answer=_TENANT)),
    Route("DELETE", "/alcove/v1/tenants/{tenant}", remove_tenant, AWS, detail=Detail(query=("force",), status=204)),
    Route("PUT", "/alcove/v1/tenants/{tenant}/quotas", put_quotas, AWS, detail=Detail(_WISHES, answer=_TENANT)),
    Route("POST", "/alcove/v1/tenants/{tenant}/keys", create_key, AWS, detail=_ROTATE),
    Route("DELETE", "/alcove/v1/tenants/{tenant}/keys/{key}", delete_key, AWS, detail=EMPTY),
)
