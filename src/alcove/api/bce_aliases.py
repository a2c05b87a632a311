"""Aliases, as Baidu CFC has them: /v1/functions/{name}/aliases.

CFC's SDKs know no weights; ``RoutingConfig`` is taken and shown here in AWS's form.
"""

from __future__ import annotations

from typing import Any

from alcove.api.aws_aliases import read_change
from alcove.api.bce import REQUEST_ID, marker, rfc3339, to_brn
from alcove.api.body import field, number, read_object
from alcove.api.context import Call, answer
from alcove.api.dialect import BCE
from alcove.api.router import Route
from alcove.errors import InvalidRequest, NotFound
from alcove.functions.aliases import Alias
from alcove.gateway.message import Response


def _describe(call: Call, alias: Alias) -> dict[str, Any]:
    document: dict[str, Any] = {
        "AliasBrn": to_brn(alias.arn),
        "AliasArn": alias.arn,
        "FunctionName": alias.function_name,
        "FunctionVersion": alias.row.version,
        "Name": alias.row.name,
        "Description": alias.row.description,
        "Uid": call.tenant,
        "CreatedAt": rfc3339(alias.row.created_ms),
        "UpdatedAt": rfc3339(alias.row.modified_ms),
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
    return answer(_describe(call, made), 201, call.request_id, REQUEST_ID)


async def get_alias(call: Call, name: str, alias: str) -> Response:
    found = await call.faces.services.aliases.get(call.tenant, call.reference(name).name, alias)
    return answer(_describe(call, found), 200, call.request_id, REQUEST_ID)


async def list_aliases(call: Call, name: str) -> Response:
    query = call.request.query
    page = await call.faces.services.aliases.list(
        call.tenant,
        call.reference(name).name,
        version=query.get("FunctionVersion", ""),
        marker=marker(call),
        limit=number(query, "MaxItems", 50),
    )
    document = {"Aliases": [_describe(call, alias) for alias in page.items], "NextMarker": page.marker or ""}
    return answer(document, 200, call.request_id, REQUEST_ID)


async def update_alias(call: Call, name: str, alias: str) -> Response:
    changed = await call.faces.services.aliases.update(
        call.tenant, call.reference(name).name, alias, read_change(read_object(call.request))
    )
    return answer(_describe(call, changed), 200, call.request_id, REQUEST_ID)


async def delete_alias(call: Call, name: str, alias: str) -> Response:
    if not await call.faces.services.aliases.delete(call.tenant, call.reference(name).name, alias):
        raise NotFound(f"The function has no alias {alias[:128]!r}.")
    return Response(204, {REQUEST_ID: call.request_id})


ROUTES = (
    Route("POST", "/v1/functions/{name}/aliases", create_alias, BCE),
    Route("GET", "/v1/functions/{name}/aliases", list_aliases, BCE),
    Route("GET", "/v1/functions/{name}/aliases/{alias}", get_alias, BCE),
    Route("PUT", "/v1/functions/{name}/aliases/{alias}", update_alias, BCE),
    Route("DELETE", "/v1/functions/{name}/aliases/{alias}", delete_alias, BCE),
)
