"""Layers, as AWS Lambda has them: /2018-10-31/layers."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from alcove.api import aws_shapes, layers, shapes
from alcove.api.aws_pages import following, marker_and_limit
from alcove.api.aws_permissions import required
from alcove.api.body import read_object
from alcove.api.context import PACKAGE_BODY, Call, answer
from alcove.api.dialect import AWS
from alcove.api.router import Route
from alcove.api.schema import EMPTY, TEXT, Detail, object_of
from alcove.functions.layers import LayerVersion
from alcove.functions.statements import Statement, policy_revision
from alcove.gateway.message import Response


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
    return {"Content": layers.content(call, layer), "LayerArn": layer.layer_arn, **_item(layer)}


async def publish(call: Call, layer: str) -> Response:
    return answer(_describe(call, await layers.publish(call, layer)), 201, call.request_id)


async def get_version(call: Call, layer: str, version: str) -> Response:
    return answer(_describe(call, await layers.find(call, layer, version)), 200, call.request_id)


async def list_layers(call: Call) -> Response:
    """With ``find=LayerVersion`` it is GetLayerVersionByArn."""
    one = await layers.sought(call, "Arn")
    if one is not None:
        return answer(_describe(call, one), 200, call.request_id)
    page = await layers.page(call, *marker_and_limit(call))
    items = [
        {"LayerName": one.row.layer.name, "LayerArn": one.layer_arn, "LatestMatchingVersion": _item(one)}
        for one in page.items
    ]
    return answer({"Layers": items, **following(page.marker)}, 200, call.request_id)


async def list_versions(call: Call, layer: str) -> Response:
    page = await layers.versions(call, layer, *marker_and_limit(call))
    document = {"LayerVersions": [_item(one) for one in page.items], **following(page.marker)}
    return answer(document, 200, call.request_id)


async def delete_version(call: Call, layer: str, version: str) -> Response:
    """Of a version that is not there, the end is the one that was asked for: AWS says nothing."""
    await layers.delete(call, layer, version)
    return Response(204, {"x-amzn-RequestId": call.request_id})


async def add_permission(call: Call, layer: str, version: str) -> Response:
    document = read_object(call.request)
    statement = Statement(
        required(document, "StatementId"), required(document, "Principal"), required(document, "Action")
    )
    found, text = await call.faces.services.layers.allow(
        call.tenant, layers.named(call, layer, version), statement, revision_id=call.request.query.get("RevisionId")
    )
    shown = json.dumps(statement.document(found.arn), separators=(",", ":"))
    return answer({"Statement": shown, "RevisionId": policy_revision(text)}, 201, call.request_id)


async def get_policy(call: Call, layer: str, version: str) -> Response:
    text = await call.faces.services.layers.policy(call.tenant, layers.named(call, layer, version))
    return answer({"Policy": text, "RevisionId": policy_revision(text)}, 200, call.request_id)


async def remove_permission(call: Call, layer: str, version: str, statement: str) -> Response:
    await call.faces.services.layers.disallow(
        call.tenant, layers.named(call, layer, version), statement, revision_id=call.request.query.get("RevisionId")
    )
    return Response(204, {"x-amzn-RequestId": call.request_id})


_VERSIONS = "/2018-10-31/layers/{layer}/versions"
_VERSION = _VERSIONS + "/{version}"
_PAGE = (*shapes.PAGE, "CompatibleRuntime", "CompatibleArchitecture")
_PUBLISH = Detail(shapes.PUBLISH_LAYER, status=201, answer=aws_shapes.LAYER_VERSION)
_ALLOW = Detail(
    object_of("StatementId", "Action", "Principal", StatementId=TEXT, Action=TEXT, Principal=TEXT, OrganizationId=TEXT),
    query=("RevisionId",),
    status=201,
    answer=aws_shapes.LAYER_STATEMENT,
)

ROUTES = (
    Route("POST", _VERSIONS, publish, AWS, PACKAGE_BODY, detail=_PUBLISH),
    Route("GET", _VERSIONS, list_versions, AWS, detail=Detail(query=_PAGE, answer=aws_shapes.LAYER_VERSIONS)),
    Route("GET", _VERSION, get_version, AWS, detail=Detail(answer=aws_shapes.LAYER_VERSION)),
    Route("DELETE", _VERSION, delete_version, AWS, detail=EMPTY),
    Route(
        "GET",
        "/2018-10-31/layers",
        list_layers,
        AWS,
        detail=Detail(query=(*_PAGE, "find", "Arn"), answer=aws_shapes.LAYERS),
    ),
    Route("POST", _VERSION + "/policy", add_permission, AWS, detail=_ALLOW),
    Route("GET", _VERSION + "/policy", get_policy, AWS, detail=Detail(answer=aws_shapes.POLICY)),
    Route(
        "DELETE",
        _VERSION + "/policy/{statement}",
        remove_permission,
        AWS,
        detail=Detail(query=("RevisionId",), status=204),
    ),
)
