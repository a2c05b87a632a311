"""Aliases, as AWS Lambda has them: /2015-03-31/functions/{name}/aliases."""

from __future__ import annotations

from typing import Any

from alcove.api.body import field, number, read_object, shares
from alcove.api.context import Call, answer
from alcove.api.dialect import AWS
from alcove.api.router import Route
from alcove.errors import InvalidRequest
from alcove.functions.aliases import Alias, AliasChange
from alcove.gateway.message import Response


def read_change(document: dict[str, Any]) -> AliasChange:
    return AliasChange(
        version=field(document, "FunctionVersion", str),
        description=field(document, "Description", str),
        weights=shares(document),
    )


def _describe(alias: Alias) -> dict[str, Any]:
    document: dict[str, Any] = {
        "AliasArn": alias.arn,
        "Name": alias.row.name,
        "FunctionVersion": alias.row.version,
        "Description": alias.row.description,
        "RevisionId": alias.row.revision_id,
    }
    if alias.weights:
        document["RoutingConfig"] = {"AdditionalVersionWeights": alias.weights}
    return document


async def create_alias(call: Call, name: str) -> Response:
    document = read_object(call.request)
    alias = field(document, "Name", str)
    if not alias:
        raise InvalidRequest("'Name' is required.")
    made = await call.faces.services.aliases.create(
        call.tenant, call.reference(name).name, alias, read_change(document)
    )
    return answer(_describe(made), 201, call.request_id)


async def get_alias(call: Call, name: str, alias: str) -> Response:
    found = await call.faces.services.aliases.get(call.tenant, call.reference(name).name, alias)
    return answer(_describe(found), 200, call.request_id)


async def list_aliases(call: Call, name: str) -> Response:
    query = call.request.query
    page = await call.faces.services.aliases.list(
        call.tenant,
        call.reference(name).name,
        version=query.get("FunctionVersion", ""),
        marker=query.get("Marker", ""),
        limit=number(query, "MaxItems", 50),
    )
    document: dict[str, Any] = {"Aliases": [_describe(alias) for alias in page.items]}
    if page.marker is not None:
        document["NextMarker"] = page.marker
    return answer(document, 200, call.request_id)


async def update_alias(call: Call, name: str, alias: str) -> Response:
    document = read_object(call.request)
    changed = await call.faces.services.aliases.update(
        call.tenant,
        call.reference(name).name,
        alias,
        read_change(document),
        revision_id=field(document, "RevisionId", str),
    )
    return answer(_describe(changed), 200, call.request_id)


async def delete_alias(call: Call, name: str, alias: str) -> Response:
    """Of an alias that is not there, the end is the one that was asked for: AWS says nothing."""
    await call.faces.services.aliases.delete(call.tenant, call.reference(name).name, alias)
    return Response(204, {"x-amzn-RequestId": call.request_id})


ROUTES = (
    Route("POST", "/2015-03-31/functions/{name}/aliases", create_alias, AWS),
    Route("GET", "/2015-03-31/functions/{name}/aliases", list_aliases, AWS),
    Route("GET", "/2015-03-31/functions/{name}/aliases/{alias}", get_alias, AWS),
    Route("PUT", "/2015-03-31/functions/{name}/aliases/{alias}", update_alias, AWS),
    Route("DELETE", "/2015-03-31/functions/{name}/aliases/{alias}", delete_alias, AWS),
)
