"""Invoke, as both clouds' APIs have it: what was asked is read by each dialect, and answered in its headers' names."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from alcove.api.context import Call, check_event, decode_context, incoming_trace, start_headers
from alcove.errors import InvalidRequest
from alcove.functions import names
from alcove.functions.model import InvokeResult
from alcove.gateway.message import Response

KINDS = ("RequestResponse", "Event", "DryRun")


@dataclass(frozen=True, slots=True)
class Headers:
    """The names of a dialect's headers."""

    request_id: str
    version: str
    error: str
    log: str


async def invoke(
    call: Call,
    name: str,
    headers: Headers,
    *,
    kind: str,
    qualifier: str | None,
    context: str | None,
    want_log: bool,
) -> Response:
    """``context`` is the client's, as it was sent; ``kind`` one of ``KINDS``."""
    if kind not in KINDS:
        raise InvalidRequest(f"Invocation type {kind[:40]!r} is not one of {', '.join(KINDS)}.")
    function = await call.invoked(name, qualifier)
    event = check_event(call.request.body, asynchronous=kind == "Event")
    client_context = decode_context(context)
    if kind == "DryRun":
        return Response(204, {headers.request_id: call.request_id})
    trace_id = incoming_trace(call.request)
    if kind == "Event":
        version = names.parse(name, qualifier).version
        await call.accept(function, event, version, trace_id=trace_id, client_context=client_context)
        return Response(202, {headers.request_id: call.request_id})
    result = await call.faces.dispatcher.invoke(
        function,
        event,
        trace_id=trace_id,
        client_context=client_context,
        want_log=want_log,
        request_id=call.request_id,
    )
    return _answer(result, headers, want_log=want_log)


def _answer(result: InvokeResult, headers: Headers, *, want_log: bool) -> Response:
    out = {
        "Content-Type": "application/json",
        headers.request_id: result.request_id,
        headers.version: result.executed_version,
        **start_headers(result),
    }
    if result.error is not None:
        out[headers.error] = result.error
    if want_log:
        out[headers.log] = base64.b64encode(result.log_tail).decode()
    return Response(200, out, result.payload)
