"""Event source mappings in CFC's API: /v1/event-source-mappings, with the fields of its Go client.

CFC knows two types. ``bms``, messages of a topic, is a queue of the tenant's here: ``EventSourceBrn`` is its ARN or
name. ``datahub_topic``, a stream on a server, is a stream of Redis: ``MetaHostEndpoint``, ``MetaHostPort`` and
``PipeName``, read by ``ACLName`` and ``ACLPassword`` from ``StartPoint`` on (-1 the newest, -2 the oldest). What AWS's
API takes is taken too, so that RabbitMQ can be named here.
"""

from __future__ import annotations

from collections.abc import Mapping as Fields
from dataclasses import replace
from typing import Any

from alcove.api import bce_shapes
from alcove.api.bce import REQUEST_ID, marker, rfc3339
from alcove.api.body import field, number, read_object
from alcove.api.context import Call, answer
from alcove.api.dialect import BCE
from alcove.api.mapping_fields import CHANGED, HIDDEN, MADE, read_changes, read_source
from alcove.api.mappings import LISTED, describe
from alcove.api.router import Route
from alcove.api.schema import NUMBER, TEXT, Detail, Schema
from alcove.errors import InvalidRequest
from alcove.functions.brn import function_brn
from alcove.functions.model import LATEST
from alcove.functions.names import Reference
from alcove.gateway.message import Response
from alcove.sources.mappings import Mapping
from alcove.sources.spec import SourceKind, SourceSpec

BMS = "bms"
DATAHUB = "datahub_topic"
_STARTS = {-1: "LATEST", -2: "TRIM_HORIZON"}
# What the Go client cannot leave out: it sends these empty where nothing is meant.
_EMPTY = ("BatchSize", "EventSourceArn", "EventSourceBrn", "FunctionArn", "FunctionBrn", "FunctionName")


def _given(document: Fields[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if value not in ("", 0, None) or name not in _EMPTY}


def _queue_arn(call: Call, text: str) -> str:
    """A topic without the colons of an ARN is the name of a queue."""
    region = call.faces.service.settings.region
    return text if ":" in text else f"arn:aws:sqs:{region}:{call.tenant}:{text}"


def _stream(document: Fields[str, Any]) -> SourceSpec:
    host, port = field(document, "MetaHostEndpoint", str) or "", field(document, "MetaHostPort", int) or 6379
    start = field(document, "StartPoint", int) or -1
    if start not in _STARTS:
        raise InvalidRequest("'StartPoint' must be -1 (the newest) or -2 (the oldest).")
    return SourceSpec(
        SourceKind.REDIS,
        field(document, "PipeName", str) or "",
        f"{host}:{port}",
        username=field(document, "ACLName", str) or "",
        password=field(document, "ACLPassword", str) or "",
        start=_STARTS[start],
        batch_size=SourceKind.REDIS.batch_size,
    )


def _source(call: Call, document: dict[str, Any]) -> SourceSpec:
    """Return the source that a mapping is made for. Raises ``InvalidRequest``."""
    kind = field(document, "Type", str)
    if kind == DATAHUB:
        return _stream(document)
    named = field(document, "EventSourceBrn", str) or field(document, "EventSourceArn", str)
    if named:
        if field(document, "StartingPosition", str) not in (None, "", "TRIM_HORIZON"):
            raise InvalidRequest("A queue is read from its oldest message on.", hint="StartingPosition: TRIM_HORIZON")
        document = {**document, "EventSourceBrn": _queue_arn(call, named), "EventSourceArn": None}
    elif kind == BMS:
        raise InvalidRequest("'EventSourceBrn' is required.", hint="the ARN or the name of a queue")
    return read_source(document)


def _same_source(call: Call, document: Fields[str, Any], spec: SourceSpec) -> SourceSpec:
    """Return the spec with new credentials, if any. Raises ``InvalidRequest`` where another source is named."""
    named = field(document, "EventSourceBrn", str) or field(document, "EventSourceArn", str)
    if spec.kind is SourceKind.QUEUE and named and _queue_arn(call, named) != spec.name:
        raise InvalidRequest("The source of a mapping cannot be changed.", hint="delete it and make another one")
    if spec.kind is not SourceKind.REDIS or field(document, "PipeName", str) is None:
        return spec
    wanted = _stream(document)
    if (wanted.endpoint, wanted.name) != (spec.endpoint, spec.name):
        raise InvalidRequest("The source of a mapping cannot be changed.", hint="delete it and make another one")
    if wanted.password in ("", HIDDEN):
        return spec
    return replace(spec, username=wanted.username, password=wanted.password)


def _function(call: Call, document: Fields[str, Any]) -> Reference | None:
    name = field(document, "FunctionName", str) or field(document, "FunctionBrn", str)
    return call.reference(name) if name else None


def _describe(call: Call, mapping: Mapping) -> dict[str, Any]:
    row, spec = mapping.row, mapping.spec
    document = describe(call, mapping)
    brn = function_brn(call.faces.service.settings.region, row.tenant_id, row.function, row.qualifier or LATEST)
    return {
        **document,
        "FunctionBrn": brn,
        "FunctionName": row.function,
        "EventSourceBrn": spec.identity,
        "Enabled": bool(row.enabled),
        "Type": {SourceKind.QUEUE: BMS, SourceKind.REDIS: DATAHUB}.get(spec.kind, spec.kind.value),
        "LastModified": rfc3339(row.modified_ms),
        **(_describe_stream(spec) if spec.kind is SourceKind.REDIS else {}),
    }


def _describe_stream(spec: SourceSpec) -> dict[str, Any]:
    host, _, port = spec.endpoint.rpartition(":")
    return {
        "MetaHostEndpoint": host,
        "MetaHostPort": int(port),
        "PipeName": spec.name,
        "StartPoint": next(point for point, start in _STARTS.items() if start == spec.start),
        "ACLName": spec.username,
        "ACLPassword": HIDDEN if spec.password else "",
    }


def _answer(call: Call, document: Any) -> Response:
    return answer(document, 200, call.request_id, REQUEST_ID)


async def create_mapping(call: Call) -> Response:
    document = _given(read_object(call.request))
    reference = _function(call, document)
    if reference is None:
        raise InvalidRequest("'FunctionName' is required.")
    spec = read_changes(document, _source(call, document))
    enabled = field(document, "Enabled", bool)
    made = await call.faces.services.mappings.create(
        call.tenant, reference, spec, enabled=True if enabled is None else enabled
    )
    return _answer(call, _describe(call, made))


async def get_mapping(call: Call, uuid: str) -> Response:
    return _answer(call, _describe(call, await call.faces.services.mappings.get(call.tenant, uuid)))


async def update_mapping(call: Call, uuid: str) -> Response:
    document = _given(read_object(call.request))
    changed = await call.faces.services.mappings.update(
        call.tenant,
        uuid,
        lambda spec: read_changes(document, _same_source(call, document, spec)),
        reference=_function(call, document),
        enabled=field(document, "Enabled", bool),
    )
    return _answer(call, _describe(call, changed))


async def delete_mapping(call: Call, uuid: str) -> Response:
    return _answer(call, _describe(call, await call.faces.services.mappings.delete(call.tenant, uuid)))


async def list_mappings(call: Call) -> Response:
    query = call.request.query
    name = query.get("FunctionName")
    page, more = await call.faces.services.mappings.list(
        call.tenant,
        marker(call),
        number(query, "MaxItems", 100) or 100,
        function=call.reference(name).name if name else "",
        source=query.get("EventSourceArn", ""),
    )
    return _answer(
        call, {"EventSourceMappings": [_describe(call, mapping) for mapping in page], "NextMarker": more or ""}
    )


def _with(body: Schema) -> Schema:
    """Return the schema of a body with the fields that CFC has for sources."""
    return {**body, "properties": {**body["properties"], **_SOURCE}}


_PATH = "/v1/event-source-mappings"
_SOURCE = {
    **dict.fromkeys(("Type", "EventSourceBrn", "MetaHostEndpoint", "ClusterName", "PipeName", "ACLName"), TEXT),
    **dict.fromkeys(("MetaHostPort", "StartPoint", "PipeletNum"), NUMBER),
    "ACLPassword": TEXT,
}
_LIST = Detail(query=LISTED, answer=bce_shapes.page_of("EventSourceMappings", bce_shapes.MAPPING))
_ONE = Detail(answer=bce_shapes.MAPPING)
ROUTES = (
    Route("POST", _PATH, create_mapping, BCE, detail=replace(_ONE, body=_with(MADE))),
    Route("GET", _PATH, list_mappings, BCE, detail=_LIST),
    Route("GET", _PATH + "/{uuid}", get_mapping, BCE, detail=_ONE),
    Route("PUT", _PATH + "/{uuid}", update_mapping, BCE, detail=replace(_ONE, body=_with(CHANGED))),
    Route("DELETE", _PATH + "/{uuid}", delete_mapping, BCE, detail=_ONE),
)
