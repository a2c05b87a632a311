"""Timers, in Alcove's own API: /alcove/v1/timers."""

from __future__ import annotations

import json
from typing import Any

from alcove.api.body import field, read_object
from alcove.api.context import Call, answer
from alcove.api.dialect import AWS
from alcove.api.router import Route
from alcove.api.schema import ANYTHING, EMPTY, FLAG, TEXT, Detail, Named, list_of, object_of, or_null, record
from alcove.errors import InvalidRequest, NotFound
from alcove.gateway.message import Response
from alcove.triggers.timer import Timer
from alcove.triggers.timers import TimerSpec


def _describe(timer: Timer) -> dict[str, Any]:
    row = timer.row
    return {
        "name": row.name,
        "function": row.function,
        "qualifier": row.qualifier,
        "schedule": row.schedule,
        "zone": row.zone,
        "enabled": bool(row.enabled),
        "last_error": row.last_error,
    }


async def put_timer(call: Call, name: str) -> Response:
    """Make a timer, or change the one of this name."""
    document = read_object(call.request)
    function, schedule = field(document, "function", str), field(document, "schedule", str)
    if not function or not schedule:
        raise InvalidRequest("'function' and 'schedule' are required.")
    given = document.get("input")
    enabled = field(document, "enabled", bool)
    spec = TimerSpec(
        function=call.reference(function).name,
        schedule=schedule,
        qualifier=field(document, "qualifier", str) or "",
        zone=field(document, "zone", str) or "UTC",
        input="" if given is None else json.dumps(given),
        enabled=True if enabled is None else enabled,
    )
    try:
        timer, status = await call.faces.services.timers.update(call.tenant, name, spec), 200
    except NotFound:
        # The function that is named may be what is missing: creating it says so then.
        timer, status = await call.faces.services.timers.create(call.tenant, name, spec), 201
    return answer(_describe(timer), status, call.request_id)


async def list_timers(call: Call) -> Response:
    timers, after = await call.faces.services.timers.list(call.tenant, call.request.query.get("after", ""))
    return answer({"timers": [_describe(timer) for timer in timers], "after": after}, 200, call.request_id)


async def delete_timer(call: Call, name: str) -> Response:
    await call.faces.services.timers.delete(call.tenant, name)
    return Response(204, {"x-amzn-RequestId": call.request_id})


_ONE = Named(
    "Timer",
    record(name=TEXT, function=TEXT, qualifier=TEXT, schedule=TEXT, zone=TEXT, enabled=FLAG, last_error=TEXT),
)
_TIMER = Detail(
    object_of(
        "function", "schedule", function=TEXT, schedule=TEXT, qualifier=TEXT, zone=TEXT, input=ANYTHING, enabled=FLAG
    ),
    answer=_ONE,
    also={201: _ONE},
)
_LIST = Detail(query=("after",), answer=record(timers=list_of(_ONE), after=or_null(TEXT)))

ROUTES = (
    Route("GET", "/alcove/v1/timers", list_timers, AWS, detail=_LIST),
    Route("PUT", "/alcove/v1/timers/{name}", put_timer, AWS, detail=_TIMER),
    Route("DELETE", "/alcove/v1/timers/{name}", delete_timer, AWS, detail=EMPTY),
)
