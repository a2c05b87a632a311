"""Reserved concurrency in Baidu's CFC API: /v1/functions/{name}/concurrency, with the fields of its Go SDK."""

from __future__ import annotations

from typing import Any

from alcove.api.bce import REQUEST_ID
from alcove.api.body import field, read_object
from alcove.api.context import Call, answer
from alcove.api.dialect import BCE
from alcove.api.router import Route
from alcove.api.schema import NUMBER, Detail, object_of
from alcove.errors import InvalidRequest
from alcove.gateway.message import Response


async def put_reserved(call: Call, name: str) -> Response:
    calls = field(read_object(call.request), "ReservedConcurrentExecutions", int)
    if calls is None:
        raise InvalidRequest("'ReservedConcurrentExecutions' is required.")
    await call.faces.services.concurrency.reserve(call.tenant, call.reference(name).name, calls)
    return answer({"ReservedConcurrentExecutions": calls}, 200, call.request_id, REQUEST_ID)


async def get_reserved(call: Call, name: str) -> Response:
    calls = await call.faces.services.concurrency.reserved(call.tenant, call.reference(name).name)
    document: dict[str, Any] = {} if calls is None else {"ReservedConcurrentExecutions": calls}
    return answer(document, 200, call.request_id, REQUEST_ID)


async def delete_reserved(call: Call, name: str) -> Response:
    await call.faces.services.concurrency.reserve(call.tenant, call.reference(name).name, None)
    return Response(204, {REQUEST_ID: call.request_id})


_RESERVED = object_of("ReservedConcurrentExecutions", ReservedConcurrentExecutions=NUMBER)

ROUTES = (
    Route("PUT", "/v1/functions/{name}/concurrency", put_reserved, BCE, detail=Detail(_RESERVED)),
    Route("GET", "/v1/functions/{name}/concurrency", get_reserved, BCE),
    Route("DELETE", "/v1/functions/{name}/concurrency", delete_reserved, BCE, detail=Detail(status=204)),
)
