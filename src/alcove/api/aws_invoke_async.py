"""InvokeAsync (AWS Lambda API, 2014-11-13): an older way to say Invoke with the type Event."""

from __future__ import annotations

from alcove.api.context import INVOKE_BODY, Call, answer, check_event, incoming_trace
from alcove.api.dialect import AWS
from alcove.api.router import Route
from alcove.api.schema import ANYTHING, Detail, record
from alcove.functions import names
from alcove.gateway.message import Response


async def invoke_async(call: Call, name: str) -> Response:
    function = await call.invoked(name)
    event = check_event(call.request.body, asynchronous=True)
    await call.accept(function, event, names.parse(name).version, trace_id=incoming_trace(call.request))
    return answer({}, 202, call.request_id)


ROUTES = (
    Route(
        "POST",
        "/2014-11-13/functions/{name}/invoke-async",
        invoke_async,
        AWS,
        INVOKE_BODY,
        detail=Detail(ANYTHING, status=202, answer=record()),
    ),
)
