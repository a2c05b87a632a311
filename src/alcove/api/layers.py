"""What both clouds' APIs ask of layers: read here, each dialect names what it answers."""

from __future__ import annotations

import base64
from typing import Any

from alcove.api.body import beside, field, read_object, words
from alcove.api.code_source import package_of
from alcove.api.context import Call
from alcove.functions.layering import LayerName, parse_layer, parse_layer_version
from alcove.functions.layers import LayerFacts, LayerVersion
from alcove.functions.pages import Page


def _facts(document: dict[str, Any]) -> LayerFacts:
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


def named(call: Call, name: str, version: str) -> LayerName:
    return parse_layer(name, call.tenant, version)


async def publish(call: Call, layer: str) -> LayerVersion:
    document = await beside(read_object, call.request)
    name = parse_layer(layer, call.tenant)
    async with package_of(call, field(document, "Content", dict) or {}) as package:
        return await call.faces.services.layers.publish(call.tenant, name, package, _facts(document))


async def find(call: Call, layer: str, version: str) -> LayerVersion:
    return await call.faces.services.layers.get(call.tenant, named(call, layer, version))


async def sought(call: Call, key: str) -> LayerVersion | None:
    """Return the version whose whole name is in the query as ``key``, where it has ``find=LayerVersion``."""
    query = call.request.query
    if query.get("find") != "LayerVersion":
        return None
    return await call.faces.services.layers.get(call.tenant, parse_layer_version(query.get(key, "")))


async def page(call: Call, marker: str, limit: int) -> Page[LayerVersion]:
    """Return the layers, each as its newest version that fits."""
    query = call.request.query
    return await call.faces.services.layers.list(
        call.tenant,
        marker,
        limit,
        runtime=query.get("CompatibleRuntime", ""),
        architecture=query.get("CompatibleArchitecture", ""),
    )


async def versions(call: Call, layer: str, marker: str, limit: int) -> Page[LayerVersion]:
    query = call.request.query
    return await call.faces.services.layers.list_versions(
        call.tenant,
        parse_layer(layer, call.tenant),
        marker,
        limit,
        runtime=query.get("CompatibleRuntime", ""),
        architecture=query.get("CompatibleArchitecture", ""),
    )


async def delete(call: Call, layer: str, version: str) -> bool:
    """Return whether there was one."""
    return await call.faces.services.layers.delete(call.tenant, named(call, layer, version))
