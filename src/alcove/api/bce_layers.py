"""Layers, as Baidu CFC has them: /v1/layers."""

from __future__ import annotations

from typing import Any

from alcove.api.aws_layers import content, named, read_facts
from alcove.api.bce import REQUEST_ID, marker, rfc3339, to_brn
from alcove.api.body import beside, field, number, package, read_object
from alcove.api.context import PACKAGE_BODY, Call, answer
from alcove.api.dialect import BCE
from alcove.api.router import Route
from alcove.errors import NotFound
from alcove.functions.layering import parse_layer, parse_layer_version
from alcove.functions.layers import LayerVersion
from alcove.gateway.message import Response


def _item(layer: LayerVersion) -> dict[str, Any]:
    """What lists say of a version."""
    row = layer.row
    return {
        "LayerVersionBrn": to_brn(layer.arn),
        "Version": row.version,
        "Description": row.description,
        "CreatedDate": rfc3339(row.created_ms),
        "CompatibleRuntimes": row.runtimes,
        "LicenseInfo": row.license,
    }


def _describe(call: Call, layer: LayerVersion) -> dict[str, Any]:
    return {"Content": content(call, layer), "LayerBrn": to_brn(layer.layer_arn), **_item(layer)}


async def publish(call: Call, layer: str) -> Response:
    document = await beside(read_object, call.request)
    zipped = await beside(package, field(document, "Content", dict) or {})
    found = await call.faces.services.layers.publish(
        call.tenant, parse_layer(layer, call.tenant), zipped, read_facts(document)
    )
    return answer(_describe(call, found), 201, call.request_id, REQUEST_ID)


async def get_version(call: Call, layer: str, version: str) -> Response:
    """The Go client's GetLayerVersionByBrn asks here too, with ``find`` and ``Brn``."""
    query = call.request.query
    by_brn = query.get("find") == "LayerVersion"
    wanted = parse_layer_version(query.get("Brn", "")) if by_brn else named(call, layer, version)
    found = await call.faces.services.layers.get(call.tenant, wanted)
    return answer(_describe(call, found), 200, call.request_id, REQUEST_ID)


async def list_layers(call: Call) -> Response:
    query = call.request.query
    if query.get("find") == "LayerVersion":
        layer = await call.faces.services.layers.get(call.tenant, parse_layer_version(query.get("Brn", "")))
        return answer(_describe(call, layer), 200, call.request_id, REQUEST_ID)
    page = await call.faces.services.layers.list(
        call.tenant, marker(call), number(query, "MaxItems", 50) or 50, runtime=query.get("CompatibleRuntime", "")
    )
    items = [
        {"LayerName": one.row.layer.name, "LayerBrn": to_brn(one.layer_arn), "LatestMatchingVersion": _item(one)}
        for one in page.items
    ]
    return answer({"Layers": items, "NextMarker": page.marker or ""}, 200, call.request_id, REQUEST_ID)


async def list_versions(call: Call, layer: str) -> Response:
    query = call.request.query
    page = await call.faces.services.layers.list_versions(
        call.tenant,
        parse_layer(layer, call.tenant),
        marker(call),
        number(query, "MaxItems", 50) or 50,
        runtime=query.get("CompatibleRuntime", ""),
    )
    document = {"LayerVersions": [_item(one) for one in page.items], "NextMarker": page.marker or ""}
    return answer(document, 200, call.request_id, REQUEST_ID)


async def delete_version(call: Call, layer: str, version: str) -> Response:
    if not await call.faces.services.layers.delete(call.tenant, named(call, layer, version)):
        raise NotFound("There is no such layer version.")
    return Response(204, {REQUEST_ID: call.request_id})


async def delete_layer(call: Call, layer: str) -> Response:
    """Delete all versions of a layer; AWS has no such call."""
    if not await call.faces.services.layers.delete_all(call.tenant, parse_layer(layer, call.tenant)):
        raise NotFound("There is no such layer.")
    return Response(204, {REQUEST_ID: call.request_id})


_VERSIONS = "/v1/layers/{layer}/versions"
ROUTES = (
    Route("POST", _VERSIONS, publish, BCE, PACKAGE_BODY),
    Route("GET", _VERSIONS, list_versions, BCE),
    Route("GET", _VERSIONS + "/{version}", get_version, BCE),
    Route("DELETE", _VERSIONS + "/{version}", delete_version, BCE),
    Route("GET", "/v1/layers", list_layers, BCE),
    Route("DELETE", "/v1/layers/{layer}", delete_layer, BCE),
)
