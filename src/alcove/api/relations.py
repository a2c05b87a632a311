"""Relations of functions and sources (triggers), in Baidu's CFC API: /v1/relation, and /v1/console/relation, where
the Go SDK looks for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alcove.api import bce_shapes
from alcove.api.bce import REQUEST_ID
from alcove.api.body import field, read_object
from alcove.api.context import Call, answer
from alcove.api.dialect import BCE
from alcove.api.router import Route
from alcove.api.schema import TEXT, Detail, list_of, object_of, one_of, record
from alcove.api.web import cfc_url_of
from alcove.errors import InvalidRequest
from alcove.functions import names
from alcove.functions.brn import account_to_brn, function_brn, region_to_brn
from alcove.functions.model import LATEST
from alcove.gateway.message import Response
from alcove.triggers import cron_source, http_source
from alcove.triggers.relation import Relation


def _describe(call: Call, relation: Relation, *, made: bool = False) -> dict[str, Any]:
    """Return Relation as CFC names its fields; the secret is shown once, when the relation is made."""
    row, region = relation.row, call.faces.service.settings.region
    data = dict(relation.data)
    if row.source == http_source.NAME:
        path = f"{row.endpoint}/cfc/{data['Method']}{data['ResourcePath']}"
        data["Brn"] = f"brn:bce:cfc-http-trigger:{region_to_brn(region)}:{account_to_brn(row.tenant_id)}:{path}"
        data["EndpointPrefix"] = cfc_url_of(row.endpoint, region, call.faces.host.endpoint())
    elif row.endpoint:
        kind = row.source.partition("/")[0]
        data["Webhook"] = f"{call.faces.host.endpoint()}/v1/{kind}/{row.endpoint}"
    if made and row.secret:
        data["Secret"] = row.secret
    return {
        "RelationId": row.id,
        "Sid": f"cfc-{row.id}",
        "Source": row.source,
        "Target": function_brn(region, row.tenant_id, row.function, row.qualifier or LATEST),
        "Data": data,
    }


def _target(call: Call, document: Mapping[str, Any]) -> names.Reference:
    target = field(document, "Target", str)
    if not target:
        raise InvalidRequest("'Target' is required.", hint="give the BRN of a function")
    return call.reference(target)


def _source(call: Call, document: Mapping[str, Any]) -> str:
    source = field(document, "Source", str)
    if not source:
        raise InvalidRequest("'Source' is required.")
    call.faces.services.relations.source(source)
    return source


async def create_relation(call: Call) -> Response:
    document = read_object(call.request)
    target = _target(call, document)
    made = await call.faces.services.relations.create(
        call.tenant, target.name, target.qualifier or "", _source(call, document), field(document, "Data", dict) or {}
    )
    return answer({"Relation": _describe(call, made, made=True)}, 201, call.request_id, REQUEST_ID)


async def list_relations(call: Call) -> Response:
    brn = call.request.query.get("FunctionBrn")
    if not brn:
        raise InvalidRequest("'FunctionBrn' is required.")
    target = call.reference(brn)
    await call.faces.service.resolve(call.tenant, target.name, target.version)
    found = await call.faces.services.relations.list(call.tenant, target.name, target.qualifier)
    return answer({"Relation": [_describe(call, one) for one in found]}, 200, call.request_id, REQUEST_ID)


async def update_relation(call: Call) -> Response:
    document = read_object(call.request)
    relation_id = field(document, "RelationId", str)
    if not relation_id:
        raise InvalidRequest("'RelationId' is required.")
    target = _target(call, document)
    changed = await call.faces.services.relations.update(
        call.tenant,
        relation_id,
        target.name,
        target.qualifier or "",
        field(document, "Source", str) or "",
        field(document, "Data", dict) or {},
    )
    return answer({"Relation": _describe(call, changed)}, 200, call.request_id, REQUEST_ID)


async def delete_relation(call: Call) -> Response:
    relation_id = call.request.query.get("RelationId")
    if not relation_id:
        raise InvalidRequest("'RelationId' is required.")
    await call.faces.services.relations.delete(call.tenant, relation_id)
    return Response(204, {REQUEST_ID: call.request_id})


_SOURCES = (http_source.NAME, cron_source.NAME, "bos/bucket", "dueros", "duedge", "cdn")
_RELATION = {"Target": TEXT, "Source": one_of(*_SOURCES), "Data": object_of()}

_ONE = record(Relation=bce_shapes.RELATION)
_CREATE = Detail(object_of("Target", "Source", **_RELATION), status=201, answer=_ONE)
_LIST = Detail(needs=("FunctionBrn",), answer=record(Relation=list_of(bce_shapes.RELATION)))
_UPDATE = Detail(object_of("Target", "RelationId", **_RELATION, RelationId=TEXT), answer=_ONE)
_DELETE = Detail(query=("Target", "Source"), needs=("RelationId",), status=204)

ROUTES = tuple(
    Route(method, path, act, BCE, detail=detail)
    for path in ("/v1/relation", "/v1/console/relation")
    for method, act, detail in (
        ("POST", create_relation, _CREATE),
        ("GET", list_relations, _LIST),
        ("PUT", update_relation, _UPDATE),
        ("DELETE", delete_relation, _DELETE),
    )
)
