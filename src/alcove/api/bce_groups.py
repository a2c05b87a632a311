"""CFC's services (groups of functions): /v2/service, whose answers have an envelope of their own."""

from __future__ import annotations

import json
from typing import Any

from alcove.api.bce import REQUEST_ID, rfc3339
from alcove.api.body import field, read_object
from alcove.api.context import Call, answer
from alcove.api.dialect import BCE
from alcove.api.router import Route
from alcove.api.schema import FLAG, NUMBER, TEXT, Detail, Schema, list_of, object_of, record
from alcove.errors import InvalidRequest
from alcove.functions.brn import region_to_brn
from alcove.functions.groups import Group
from alcove.gateway.message import Response


def _describe(call: Call, group: Group) -> dict[str, Any]:
    row = group.row
    return {
        "Uid": row.tenant_id,
        "ServiceName": row.name,
        "ServiceDesc": row.description,
        "ServiceConf": row.configuration,
        "ServiceConfig": _config(row.configuration),
        "Region": region_to_brn(call.faces.service.settings.region),
        "Status": 1,
        "CreatedAt": rfc3339(row.created_ms),
        "UpdatedAt": rfc3339(row.modified_ms),
        "FuncCount": group.functions,
    }


def _config(text: str) -> dict[str, Any]:
    """Return the configuration where it is a JSON object."""
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _answer(call: Call, result: Any) -> Response:
    return answer({"success": True, "result": result}, 200, call.request_id, REQUEST_ID)


def _name(call: Call) -> str:
    """The Go client names it in the query; in the body too, where there is one."""
    name = call.request.query.get("serviceName")
    if not name:
        raise InvalidRequest("'serviceName' is required.")
    return name


async def create_group(call: Call) -> Response:
    document = read_object(call.request)
    made = await call.faces.services.groups.create(
        call.tenant,
        field(document, "ServiceName", str) or "",
        field(document, "ServiceDesc", str) or "",
        field(document, "ServiceConf", str) or "",
    )
    return _answer(call, _describe(call, made))


async def list_groups(call: Call) -> Response:
    found = await call.faces.services.groups.list(call.tenant)
    return _answer(call, {"result": [_describe(call, group) for group in found]})


async def get_group(call: Call) -> Response:
    return _answer(call, _describe(call, await call.faces.services.groups.get(call.tenant, _name(call))))


async def update_group(call: Call) -> Response:
    document = read_object(call.request)
    changed = await call.faces.services.groups.update(
        call.tenant,
        _name(call),
        field(document, "ServiceDesc", str),
        # The Go client leaves an empty one out.
        field(document, "ServiceConf", str),
    )
    return _answer(call, _describe(call, changed))


async def delete_group(call: Call) -> Response:
    await call.faces.services.groups.delete(call.tenant, _name(call))
    return _answer(call, {})


_FIELDS = {"ServiceName": TEXT, "ServiceDesc": TEXT, "ServiceConf": TEXT}
_GROUP = record(
    **_FIELDS,
    Uid=TEXT,
    ServiceConfig={"type": "object"},
    Region=TEXT,
    Status=NUMBER,
    CreatedAt=TEXT,
    UpdatedAt=TEXT,
    FuncCount=NUMBER,
)


def _whole(result: Schema) -> Schema:
    return record(success=FLAG, result=result)


_CREATE = Detail(object_of("ServiceName", **_FIELDS), answer=_whole(_GROUP))
_LIST = Detail(answer=_whole(record(result=list_of(_GROUP))))
_GET = Detail(needs=("serviceName",), answer=_whole(_GROUP))
_UPDATE = Detail(object_of(**_FIELDS), needs=("serviceName",), answer=_whole(_GROUP))
_DELETE = Detail(needs=("serviceName",), answer=_whole(record()))
ROUTES = (
    Route("POST", "/v2/service", create_group, BCE, detail=_CREATE),
    Route("GET", "/v2/service", list_groups, BCE, detail=_LIST),
    Route("GET", "/v2/service/detail", get_group, BCE, detail=_GET),
    Route("PUT", "/v2/service", update_group, BCE, detail=_UPDATE),
    Route("DELETE", "/v2/service", delete_group, BCE, detail=_DELETE),
)
