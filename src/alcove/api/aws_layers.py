"""Layers, as AWS Lambda has them: /2018-10-31/layers."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

from alcove.api.aws_permissions import required
from alcove.api.body import beside, field, number, package, read_object, words
from alcove.api.context import PACKAGE_BODY, Call, answer
from alcove.api.dialect import AWS
from alcove.api.router import Route
from alcove.functions.layering import LayerName, parse_layer, parse_layer_version
from alcove.functions.layers import LayerFacts, LayerVersion
from alcove.functions.statements import Statement, policy_revision
from alcove.gateway.message import Response


def read_facts(document: dict[str, Any]) -> LayerFacts:
    return LayerFacts(
        description=field(document, "Description", str) or "",
        license=field(document, "LicenseInfo", str) or "",
        runtimes=words(document, "CompatibleRuntimes"),
        architectures=words(document, "CompatibleArchitectures"),
    )


def content(call: Call, layer: LayerVersion) -> dict[str, Any]:
    row = layer.row
    return {
        "Location": call.faces.code_url(row.package_sha256),
        "CodeSha256": base64.b64encode(bytes.fromhex(row.package_sha256)).decode(),
        "CodeSize": row.package_bytes,
    }


def _item(layer: LayerVersion) -> dict[str, Any]:
    """What lists say of a version."""
    row = layer.row
    moment = datetime.fromtimestamp(row.created_ms // 1000, UTC)
    return {
        "LayerVersionArn": layer.arn,
        "Version": row.version,
        "Description": row.description,
        "CreatedDate": f"{moment:%Y-%m-%dT%H:%M:%S}.{row.created_ms % 1000:03d}+0000",
        "CompatibleRuntimes": row.runtimes,
        "CompatibleArchitectures": row.architectures,
        "LicenseInfo": row.license,
    }


def _describe(call: Call, layer: LayerVersion) -> dict[str, Any]:
    return {"Content": content(call, layer), "LayerArn": layer.layer_arn, **_item(layer)}


def named(call: Call, name: str, version: str) -> LayerName:
    return parse_layer(name, call.tenant, version)


async def publish(call: Call, layer: str) -> Response:
    document = await beside(read_object, call.request)
    zipped = await beside(package, field(document, "Content", dict) or {})
    found = await call.faces.services.layers.publish(
        call.tenant, parse_layer(layer, call.tenant), zipped, read_facts(document)
    )
    return answer(_describe(call, found), 201, call.request_id)


async def get_version(call: Call, layer: str, version: str) -> Response:
    found = await call.faces.services.layers.get(call.tenant, named(call, layer, version))
    return answer(_describe(call, found), 200, call.request_id)


async def list_layers(call: Call) -> Response:
    """With ``find=LayerVersion`` it is GetLayerVersionByArn."""
    query = call.request.query
    if query.get("find") == "LayerVersion":
        layer = await call.faces.services.layers.get(call.tenant, parse_layer_version(query.get("Arn", "")))
        return answer(_describe(call, layer), 200, call.request_id)
    page = await call.faces.services.layers.list(
        call.tenant,
        query.get("Marker", ""),
        number(query, "MaxItems", 50),
        runtime=query.get("CompatibleRuntime", ""),
        architecture=query.get("CompatibleArchitecture", ""),
    )
    items = [
        {"LayerName": one.row.layer.name, "LayerArn": one.layer_arn, "LatestMatchingVersion": _item(one)}
        for one in page.items
    ]
    return answer({"Layers": items, **_next(page.marker)}, 200, call.request_id)


async def list_versions(call: Call, layer: str) -> Response:
    query = call.request.query
    page = await call.faces.services.layers.list_versions(
        call.tenant,
        parse_layer(layer, call.tenant),
        query.get("Marker", ""),
        number(query, "MaxItems", 50),
        runtime=query.get("CompatibleRuntime", ""),
        architecture=query.get("CompatibleArchitecture", ""),
    )
    return answer({"LayerVersions": [_item(one) for one in page.items], **_next(page.marker)}, 200, call.request_id)


async def delete_version(call: Call, layer: str, version: str) -> Response:
    """Of a version that is not there, the end is the one that was asked for: AWS says nothing."""
    await call.faces.services.layers.delete(call.tenant, named(call, layer, version))
    return Response(204, {"x-amzn-RequestId": call.request_id})


async def add_permission(call: Call, layer: str, version: str) -> Response:
    document = read_object(call.request)
    statement = Statement(
        required(document, "StatementId"), required(document, "Principal"), required(document, "Action")
    )
    found, text = await call.faces.services.layers.allow(
        call.tenant, named(call, layer, version), statement, revision_id=call.request.query.get("RevisionId")
    )
    shown = json.dumps(statement.document(found.arn), separators=(",", ":"))
    return answer({"Statement": shown, "RevisionId": policy_revision(text)}, 201, call.request_id)


async def get_policy(call: Call, layer: str, version: str) -> Response:
    text = await call.faces.services.layers.policy(call.tenant, named(call, layer, version))
    return answer({"Policy": text, "RevisionId": policy_revision(text)}, 200, call.request_id)


async def remove_permission(call: Call, layer: str, version: str, statement: str) -> Response:
    await call.faces.services.layers.disallow(
        call.tenant, named(call, layer, version), statement, revision_id=call.request.query.get("RevisionId")
    )
    return Response(204, {"x-amzn-RequestId": call.request_id})


def _next(marker: str | None) -> dict[str, str]:
    return {} if marker is None else {"NextMarker": marker}


_VERSIONS = "/2018-10-31/layers/{layer}/versions"
ROUTES = (
    Route("POST", _VERSIONS, publish, AWS, PACKAGE_BODY),
    Route("GET", _VERSIONS, list_versions, AWS),
    Route("GET", _VERSIONS + "/{version}", get_version, AWS),
    Route("DELETE", _VERSIONS + "/{version}", delete_version, AWS),
    Route("GET", "/2018-10-31/layers", list_layers, AWS),
    Route("POST", _VERSIONS + "/{version}/policy", add_permission, AWS),
    Route("GET", _VERSIONS + "/{version}/policy", get_policy, AWS),
    Route("DELETE", _VERSIONS + "/{version}/policy/{statement}", remove_permission, AWS),
)
