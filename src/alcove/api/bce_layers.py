"""Layers, as Baidu CFC has them: /v1/layers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from alcove.api import bce_shapes, layers, shapes
from alcove.api.bce import REQUEST_ID, marker, marker_and_limit, rfc3339
from alcove.api.body import number
from alcove.api.context import PACKAGE_BODY, Call, answer
from alcove.api.dialect import BCE
from alcove.api.router import Route
from alcove.api.schema import EMPTY, Detail
from alcove.errors import NotFound
from alcove.functions.brn import to_brn
from alcove.functions.layering import parse_layer
from alcove.functions.layers import LayerVersion
from alcove.functions.pages import PAGE_LIMIT, Page
from alcove.gateway.message import Response

# Layers, or versions of one, that a client is shown which cannot ask for pages.
SHOWN = 1000


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
    return {"Content": layers.content(call, layer), "LayerBrn": to_brn(layer.layer_arn), **_item(layer)}


async def publish(call: Call, layer: str) -> Response:
    return answer(_describe(call, await layers.publish(call, layer)), 201, call.request_id, REQUEST_ID)


async def get_version(call: Call, layer: str, version: str) -> Response:
    """The Go client's GetLayerVersionByBrn asks here too, with ``find`` and ``Brn``."""
    found = await layers.sought(call, "Brn") or await layers.find(call, layer, version)
    return answer(_describe(call, found), 200, call.request_id, REQUEST_ID)


async def _pages(
    call: Call, read: Callable[[str, int], Awaitable[Page[LayerVersion]]]
) -> tuple[list[LayerVersion], str]:
    """Return the items that are asked for, and the next marker. The Go client cannot ask for a page: it gets all, to
    ``SHOWN``.
    """
    if marker(call) or call.request.query.get("MaxItems", "0") != "0":
        page = await read(*marker_and_limit(call))
        return list(page.items), page.marker or ""
    items: list[LayerVersion] = []
    following: str | None = ""
    while following is not None and len(items) < SHOWN:
        page = await read(following, PAGE_LIMIT)
        items += page.items
        following = page.marker
    return items, following or ""


def _paged(call: Call, name: str, items: list[dict[str, Any]], following: str) -> dict[str, Any]:
    """``PageNo`` from 1 on, of ``PageSize`` items; without them all."""
    query = call.request.query
    size = number(query, "PageSize", 0) or max(1, len(items))
    wanted = number(query, "PageNo", 1) or 1
    document = {name: items[(wanted - 1) * size : wanted * size], "NextMarker": following, "Total": len(items)}
    return {**document, "PageNo": wanted, "PageSize": size}


async def list_layers(call: Call) -> Response:
    one = await layers.sought(call, "Brn")
    if one is not None:
        return answer(_describe(call, one), 200, call.request_id, REQUEST_ID)
    found, following = await _pages(call, lambda after, limit: layers.page(call, after, limit))
    items = [
        {"LayerName": one.row.layer.name, "LayerBrn": to_brn(one.layer_arn), "LatestMatchingVersion": _item(one)}
        for one in found
    ]
    return answer(_paged(call, "Layers", items, following), 200, call.request_id, REQUEST_ID)


async def list_versions(call: Call, layer: str) -> Response:
    found, following = await _pages(call, lambda after, limit: layers.versions(call, layer, after, limit))
    document = _paged(call, "LayerVersions", [_item(one) for one in found], following)
    return answer(document, 200, call.request_id, REQUEST_ID)


async def delete_version(call: Call, layer: str, version: str) -> Response:
    if not await layers.delete(call, layer, version):
        raise NotFound("There is no such layer version.")
    return Response(204, {REQUEST_ID: call.request_id})


async def delete_layer(call: Call, layer: str) -> Response:
    """Delete all versions of a layer; AWS has no such call."""
    if not await call.faces.services.layers.delete_all(call.tenant, parse_layer(layer, call.tenant)):
        raise NotFound("There is no such layer.")
    return Response(204, {REQUEST_ID: call.request_id})


_VERSIONS = "/v1/layers/{layer}/versions"
_PUBLISH = Detail(shapes.PUBLISH_LAYER, status=201, answer=bce_shapes.LAYER_VERSION)
_PAGE = (*shapes.PAGE, "PageNo", "PageSize", "CompatibleRuntime")
_SOUGHT = ("find", "Brn")
_GET = Detail(query=_SOUGHT, answer=bce_shapes.LAYER_VERSION)
_LIST = Detail(query=(*_PAGE, *_SOUGHT), answer=bce_shapes.LAYERS)

ROUTES = (
    Route("POST", _VERSIONS, publish, BCE, PACKAGE_BODY, detail=_PUBLISH),
    Route("GET", _VERSIONS, list_versions, BCE, detail=Detail(query=_PAGE, answer=bce_shapes.LAYER_VERSIONS)),
    Route("GET", _VERSIONS + "/{version}", get_version, BCE, detail=_GET),
    Route("DELETE", _VERSIONS + "/{version}", delete_version, BCE, detail=EMPTY),
    Route("GET", "/v1/layers", list_layers, BCE, detail=_LIST),
    Route("DELETE", "/v1/layers/{layer}", delete_layer, BCE, detail=EMPTY),
)
