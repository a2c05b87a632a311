"""Aliases, as AWS Lambda has them: /2015-03-31/functions/{name}/aliases."""

from __future__ import annotations

from typing import Any

from alcove.api import aliases, aws_shapes, shapes
from alcove.api.aws_pages import following, marker_and_limit
from alcove.api.context import Call, answer
from alcove.api.dialect import AWS
from alcove.api.router import Route
from alcove.api.schema import EMPTY, Detail
from alcove.api.schema import page as page_of
from alcove.functions.aliases import Alias
from alcove.gateway.message import Response


def _describe(alias: Alias) -> dict[str, Any]:
    return {
        "AliasArn": alias.arn,
        "Name": alias.row.name,
        "FunctionVersion": alias.row.version,
        "Description": alias.row.description,
        "RevisionId": alias.row.revision_id,
        **aliases.routing(alias),
    }


async def create_alias(call: Call, name: str) -> Response:
    return answer(_describe(await aliases.create(call, name)), 201, call.request_id)


async def get_alias(call: Call, name: str, alias: str) -> Response:
    return answer(_describe(await aliases.find(call, name, alias)), 200, call.request_id)


async def list_aliases(call: Call, name: str) -> Response:
    page = await aliases.page(call, name, *marker_and_limit(call))
    document = {"Aliases": [_describe(alias) for alias in page.items], **following(page.marker)}
    return answer(document, 200, call.request_id)


async def update_alias(call: Call, name: str, alias: str) -> Response:
    return answer(_describe(await aliases.update(call, name, alias)), 200, call.request_id)


async def delete_alias(call: Call, name: str, alias: str) -> Response:
    """Of an alias that is not there, the end is the one that was asked for: AWS says nothing."""
    await aliases.delete(call, name, alias)
    return Response(204, {"x-amzn-RequestId": call.request_id})


_PATH = "/2015-03-31/functions/{name}/aliases"
_CREATE = Detail(shapes.CREATE_ALIAS, status=201, answer=aws_shapes.ALIAS)
_LIST = Detail(query=(*shapes.PAGE, "FunctionVersion"), answer=page_of("Aliases", aws_shapes.ALIAS))
_UPDATE = Detail(shapes.UPDATE_ALIAS, answer=aws_shapes.ALIAS)

ROUTES = (
    Route("POST", _PATH, create_alias, AWS, detail=_CREATE),
    Route("GET", _PATH, list_aliases, AWS, detail=_LIST),
    Route("GET", _PATH + "/{alias}", get_alias, AWS, detail=Detail(answer=aws_shapes.ALIAS)),
    Route("PUT", _PATH + "/{alias}", update_alias, AWS, detail=_UPDATE),
    Route("DELETE", _PATH + "/{alias}", delete_alias, AWS, detail=EMPTY),
)
