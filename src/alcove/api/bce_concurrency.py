"""Reserved concurrency in Baidu's CFC API: /v1/functions/{name}/concurrency, with the fields of its Go SDK."""

from __future__ import annotations

from alcove.api import concurrency, shapes
from alcove.api.bce import REQUEST_ID
from alcove.api.context import Call, answer
from alcove.api.dialect import BCE
from alcove.api.router import Route
from alcove.api.schema import EMPTY, Detail
from alcove.gateway.message import Response


async def put_reserved(call: Call, name: str) -> Response:
    return answer(await concurrency.reserve(call, name), 200, call.request_id, REQUEST_ID)


async def get_reserved(call: Call, name: str) -> Response:
    return answer(await concurrency.reserved(call, name), 200, call.request_id, REQUEST_ID)


async def delete_reserved(call: Call, name: str) -> Response:
    await concurrency.unreserve(call, name)
    return Response(204, {REQUEST_ID: call.request_id})


_PATH = "/v1/functions/{name}/concurrency"
ROUTES = (
    Route("PUT", _PATH, put_reserved, BCE, detail=Detail(shapes.RESERVE, answer=shapes.RESERVED)),
    Route("GET", _PATH, get_reserved, BCE, detail=Detail(answer=shapes.RESERVED)),
    Route("DELETE", _PATH, delete_reserved, BCE, detail=EMPTY),
)
