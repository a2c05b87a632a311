"""InvokeWithResponseStream (AWS Lambda API, 2021-11-15): the answer as events, while the function makes it.

PayloadChunk events carry the bytes, InvokeComplete ends them: with ErrorCode ``Unhandled`` and the error's document
as ErrorDetails where the function failed, before or in the midst of its answer, and with the log where it was asked
for. A function that does not stream answers by one PayloadChunk.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing

from alcove.api.context import INVOKE_BODY, Call, check_event, decode_context, incoming_trace, trace_headers
from alcove.api.dialect import AWS
from alcove.api.router import Route
from alcove.api.schema import ANYTHING, Detail
from alcove.errors import AlcoveError, InvalidRequest
from alcove.functions.model import InvokeResult
from alcove.functions.streaming import AnswerStream, StreamedCall
from alcove.gateway.message import Response
from alcove.wire.eventstream import CONTENT_TYPE, encode_event


async def invoke_with_response_stream(call: Call, name: str) -> Response:
    headers = call.request.headers
    kind = headers.get("x-amz-invocation-type", "RequestResponse")
    if kind not in ("RequestResponse", "DryRun"):
        raise InvalidRequest(f"Invocation type {kind[:40]!r} is not one of RequestResponse, DryRun.")
    function = await call.invoked(name, call.request.query.get("Qualifier"))
    event = check_event(call.request.body, asynchronous=False)
    context = decode_context(headers.get("x-amz-client-context"))
    if kind == "DryRun":
        return Response(204, {"x-amzn-RequestId": call.request_id})
    want_log = headers.get("x-amz-log-type") == "Tail"
    stream = AnswerStream(call.faces.services.stream_limit)
    work = call.faces.dispatcher.invoke(
        function,
        event,
        trace_id=incoming_trace(call.request),
        client_context=context,
        want_log=want_log,
        request_id=call.request_id,
        sink=stream,
    )
    streamed = StreamedCall(stream, work)
    await streamed.begun()
    out = {
        "Content-Type": CONTENT_TYPE,
        "x-amzn-RequestId": call.request_id,
        "X-Amz-Executed-Version": function.version,
        **trace_headers(stream.trace),
    }
    return Response(200, out, parts=_events(streamed, want_log=want_log))


async def _events(streamed: StreamedCall, *, want_log: bool) -> AsyncGenerator[bytes, None]:
    async with aclosing(streamed.parts()) as parts:
        async for data in parts:
            yield _chunk(data)
    try:
        result = await streamed.result()
    except AlcoveError as error:
        # It had begun to answer: there is no status left to say it with.
        yield _complete({"ErrorCode": type(error).__name__, "ErrorDetails": str(error)})
        return
    if result.error is None and result.payload:
        yield _chunk(result.payload)
    yield _complete(_ending(result, want_log=want_log))


def _ending(result: InvokeResult, *, want_log: bool) -> dict[str, str]:
    document: dict[str, str] = {}
    if result.error is not None:
        document = {"ErrorCode": result.error, "ErrorDetails": result.payload.decode(errors="replace")}
    if want_log:
        document["LogResult"] = base64.b64encode(result.log_tail).decode()
    return document


def _chunk(data: bytes) -> bytes:
    return encode_event("PayloadChunk", data, "application/octet-stream")


def _complete(document: dict[str, str]) -> bytes:
    return encode_event("InvokeComplete", json.dumps(document).encode(), "application/json")


ROUTES = (
    Route(
        "POST",
        "/2021-11-15/functions/{name}/response-streaming-invocations",
        invoke_with_response_stream,
        AWS,
        INVOKE_BODY,
        detail=Detail(
            ANYTHING,
            query=("Qualifier",),
            headers=("X-Amz-Invocation-Type", "X-Amz-Log-Type", "X-Amz-Client-Context"),
            answer=ANYTHING,
            media=CONTENT_TYPE,
            also={204: None},
            tells=("X-Amz-Executed-Version",),
        ),
    ),
)
