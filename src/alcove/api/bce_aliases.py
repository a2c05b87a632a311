"""Aliases, as Baidu CFC has them: /v1/functions/{name}/aliases.

CFC's SDKs know no weights; ``RoutingConfig`` is taken and shown here in AWS's form.
"""

from __future__ import annotations

from typing import Any

from alcove.api import aliases, bce_shapes, shapes
from alcove.api.bce import REQUEST_ID, place_and_limit, rfc3339
from alcove.api.context import Call, answer
from alcove.api.dialect import BCE
from alcove.api.router import Route
from alcove.api.schema import EMPTY, Detail
from alcove.errors import NotFound
from alcove.functions.aliases import Alias
from alcove.functions.brn import to_brn
from alcove.gateway.message import Response


def _describe(call: Call, alias: Alias) -> dict[str, Any]:
    return {
        "AliasBrn": to_brn(alias.arn),
        "AliasArn": alias.arn,
        "FunctionName": alias.function_name,
        "FunctionVersion": alias.row.version,
        "Name": alias.row.name,
        "Description": alias.row.description,
        "Uid": call.tenant,
        "CreatedAt": rfc3339(alias.row.created_ms),
        "UpdatedAt": rfc3339(alias.row.modified_ms),
        **aliases.routing(alias),
    }


async def create_alias(call: Call, name: str) -> Response:
    return answer(_describe(call, await aliases.create(call, name)), 201, call.request_id, REQUEST_ID)


async def get_alias(call: Call, name: str, alias: str) -> Response:
    return answer(_describe(call, await aliases.find(call, name, alias)), 200, call.request_id, REQUEST_ID)


async def list_aliases(call: Call, name: str) -> Response:
    at, limit = place_and_limit(call)
    page = await aliases.page(call, name, at.after, limit, at.skip)
    found = [_describe(call, alias) for alias in page.items]
    document = {"Aliases": found, "NextMarker": at.following(found, page.marker)}
    return answer(document, 200, call.request_id, REQUEST_ID)


async def update_alias(call: Call, name: str, alias: str) -> Response:
    return answer(_describe(call, await aliases.update(call, name, alias)), 200, call.request_id, REQUEST_ID)


async def delete_alias(call: Call, name: str, alias: str) -> Response:
    if not await aliases.delete(call, name, alias):
        raise NotFound(f"The function has no alias {alias[:128]!r}.")
    return Response(204, {REQUEST_ID: call.request_id})


_PATH = "/v1/functions/{name}/aliases"
_CREATE = Detail(shapes.CREATE_ALIAS, status=201, answer=bce_shapes.ALIAS)
_LIST = Detail(query=(*shapes.PAGE, "FunctionVersion"), answer=bce_shapes.page_of("Aliases", bce_shapes.ALIAS))
_UPDATE = Detail(shapes.UPDATE_ALIAS, answer=bce_shapes.ALIAS)

ROUTES = (
    Route("POST", _PATH, create_alias, BCE, detail=_CREATE),
    Route("GET", _PATH, list_aliases, BCE, detail=_LIST),
    Route("GET", _PATH + "/{alias}", get_alias, BCE, detail=Detail(answer=bce_shapes.ALIAS)),
    Route("PUT", _PATH + "/{alias}", update_alias, BCE, detail=_UPDATE),
    Route("DELETE", _PATH + "/{alias}", delete_alias, BCE, detail=EMPTY),
)
