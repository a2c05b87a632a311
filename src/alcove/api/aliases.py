"""What both clouds' APIs ask of aliases: their fields are read here, each dialect names what it answers."""

from __future__ import annotations

from typing import Any

from alcove.api.body import field, read_object, shares
from alcove.api.context import Call
from alcove.errors import InvalidRequest
from alcove.functions.aliases import Alias, AliasChange
from alcove.functions.pages import Page


def _change(document: dict[str, Any]) -> AliasChange:
    return AliasChange(
        version=field(document, "FunctionVersion", str),
        description=field(document, "Description", str),
        weights=shares(document),
    )


async def create(call: Call, name: str) -> Alias:
    document = read_object(call.request)
    alias = field(document, "Name", str)
    if not alias:
        raise InvalidRequest("'Name' is required.")
    return await call.faces.services.aliases.create(call.tenant, call.reference(name).name, alias, _change(document))


async def find(call: Call, name: str, alias: str) -> Alias:
    return await call.faces.services.aliases.get(call.tenant, call.reference(name).name, alias)


async def page(call: Call, name: str, marker: str, limit: int, skip: int = 0) -> Page[Alias]:
    query = call.request.query
    return await call.faces.services.aliases.list(
        call.tenant,
        call.reference(name).name,
        version=query.get("FunctionVersion", ""),
        marker=marker,
        limit=limit,
        skip=skip,
    )


async def update(call: Call, name: str, alias: str) -> Alias:
    document = read_object(call.request)
    return await call.faces.services.aliases.update(
        call.tenant,
        call.reference(name).name,
        alias,
        _change(document),
        revision_id=field(document, "RevisionId", str),
    )


async def delete(call: Call, name: str, alias: str) -> bool:
    """Return whether there was one."""
    return await call.faces.services.aliases.delete(call.tenant, call.reference(name).name, alias)


def routing(alias: Alias) -> dict[str, Any]:
    """Return ``RoutingConfig``, where it shares its calls."""
    return {"RoutingConfig": {"AdditionalVersionWeights": alias.weights}} if alias.weights else {}
