"""Event source mappings in AWS's API (2015-03-31); CFC's are in ``bce_mappings``.

Sources outside are named as Lambda names a self-managed one: ``SelfManagedEventSource`` with ``Endpoints`` of
``REDIS_SERVERS`` or ``RABBITMQ_BROKERS`` (HOST:PORT; rediss:// or amqps:// in front of it for TLS), ``Topics`` (a
stream) or ``Queues``, and ``SourceAccessConfigurations`` (``BASIC_AUTH``: USER:PASSWORD, ``VIRTUAL_HOST``,
``SERVER_ROOT_CA_CERTIFICATE``: the certificates themselves, as PEM).
"""

from __future__ import annotations

from collections.abc import Mapping as Fields
from dataclasses import replace
from typing import Any

from alcove.api import aws_shapes
from alcove.api.aws_pages import following
from alcove.api.body import field, number, read_object
from alcove.api.context import Call, answer
from alcove.api.dialect import AWS
from alcove.api.mapping_fields import CHANGED, HIDDEN, MADE, read_changes, read_source
from alcove.api.router import Route
from alcove.api.schema import Detail, page
from alcove.errors import InvalidRequest
from alcove.functions.names import Reference
from alcove.gateway.message import Response
from alcove.sources.mappings import Mapping
from alcove.sources.spec import SourceKind, SourceSpec


def describe(call: Call, mapping: Mapping) -> dict[str, Any]:
    row, spec = mapping.row, mapping.spec
    region = call.faces.service.settings.region
    arn = f"arn:aws:lambda:{region}:{row.tenant_id}:function:{row.function}"
    document: dict[str, Any] = {
        "UUID": row.uuid,
        "EventSourceMappingArn": f"arn:aws:lambda:{region}:{row.tenant_id}:event-source-mapping:{row.uuid}",
        "FunctionArn": f"{arn}:{row.qualifier}" if row.qualifier else arn,
        "BatchSize": spec.batch_size,
        "MaximumBatchingWindowInSeconds": spec.window_s,
        "FunctionResponseTypes": ["ReportBatchItemFailures"] if spec.report_failures else [],
        "LastModified": row.modified_ms / 1000,
        "LastProcessingResult": mapping.result,
        "State": mapping.state,
        "StateTransitionReason": "USER_INITIATED",
    }
    if spec.filters:
        document["FilterCriteria"] = {"Filters": [{"Pattern": pattern} for pattern in spec.filters]}
    if spec.kind is SourceKind.QUEUE:
        return {**document, "EventSourceArn": spec.name, "ScalingConfig": {"MaximumConcurrency": spec.concurrency}}
    return {**document, **_outside(spec)}


def _outside(spec: SourceSpec) -> dict[str, Any]:
    access = []
    if spec.username or spec.password:
        access.append({"Type": "BASIC_AUTH", "URI": f"{spec.username}:{HIDDEN}"})
    if spec.kind is SourceKind.RABBITMQ:
        access.append({"Type": "VIRTUAL_HOST", "URI": spec.virtual_host})
    if spec.ca:
        access.append({"Type": "SERVER_ROOT_CA_CERTIFICATE", "URI": spec.ca})
    endpoint = (spec.kind.scheme if spec.tls else "") + spec.endpoint
    return {
        "SelfManagedEventSource": {"Endpoints": {spec.kind.endpoint_key: [endpoint]}},
        "Topics" if spec.kind is SourceKind.REDIS else "Queues": [spec.name],
        "SourceAccessConfigurations": access,
        "StartingPosition": spec.start,
        "MaximumRetryAttempts": spec.retries,
        "ParallelizationFactor": spec.concurrency,
        "DestinationConfig": {"OnFailure": {"Destination": spec.on_failure} if spec.on_failure else {}},
    }


def _function(call: Call, document: Fields[str, Any]) -> Reference | None:
    name = field(document, "FunctionName", str) or field(document, "FunctionBrn", str)
    return call.reference(name) if name else None


async def _create(call: Call) -> Mapping:
    document = read_object(call.request)
    reference = _function(call, document)
    if reference is None:
        raise InvalidRequest("'FunctionName' is required.")
    spec = read_changes(document, read_source(document))
    enabled = field(document, "Enabled", bool)
    return await call.faces.services.mappings.create(
        call.tenant, reference, spec, enabled=True if enabled is None else enabled
    )


async def _update(call: Call, uuid: str) -> Mapping:
    document = read_object(call.request)
    return await call.faces.services.mappings.update(
        call.tenant,
        uuid,
        lambda spec: read_changes(document, spec),
        reference=_function(call, document),
        enabled=field(document, "Enabled", bool),
    )


async def _list(call: Call) -> tuple[list[Mapping], str | None]:
    query = call.request.query
    name = query.get("FunctionName")
    return await call.faces.services.mappings.list(
        call.tenant,
        query.get("Marker", ""),
        number(query, "MaxItems", 100),
        function=call.reference(name).name if name else "",
        source=query.get("EventSourceArn", ""),
    )


async def create_mapping(call: Call) -> Response:
    return answer(describe(call, await _create(call)), 202, call.request_id)


async def get_mapping(call: Call, uuid: str) -> Response:
    return answer(describe(call, await call.faces.services.mappings.get(call.tenant, uuid)), 200, call.request_id)


async def update_mapping(call: Call, uuid: str) -> Response:
    return answer(describe(call, await _update(call, uuid)), 202, call.request_id)


async def delete_mapping(call: Call, uuid: str) -> Response:
    return answer(describe(call, await call.faces.services.mappings.delete(call.tenant, uuid)), 202, call.request_id)


async def list_mappings(call: Call) -> Response:
    found, marker = await _list(call)
    document = {"EventSourceMappings": [describe(call, mapping) for mapping in found], **following(marker)}
    return answer(document, 200, call.request_id)


_AWS = "/2015-03-31/event-source-mappings"
LISTED = ("Marker", "MaxItems", "FunctionName", "EventSourceArn")
_AWS_LIST = Detail(query=LISTED, answer=page("EventSourceMappings", aws_shapes.MAPPING))
_AWS_ONE = Detail(answer=aws_shapes.MAPPING)

ROUTES = (
    Route("POST", _AWS, create_mapping, AWS, detail=replace(_AWS_ONE, body=MADE, status=202)),
    Route("GET", _AWS, list_mappings, AWS, detail=_AWS_LIST),
    Route("GET", _AWS + "/{uuid}", get_mapping, AWS, detail=_AWS_ONE),
    Route("PUT", _AWS + "/{uuid}", update_mapping, AWS, detail=replace(_AWS_ONE, body=CHANGED, status=202)),
    Route("DELETE", _AWS + "/{uuid}", delete_mapping, AWS, detail=replace(_AWS_ONE, status=202)),
)
