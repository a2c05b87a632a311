"""Signed events of CFC's sources that are posted to us: /v1/dueros, /v1/duedge (answered) and /v1/cdn (queued)."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from alcove.api.bce import REQUEST_ID
from alcove.api.context import SYNCHRONOUS_LIMIT, OpenCall, answer, check_event
from alcove.api.dialect import BCE
from alcove.api.router import Route
from alcove.api.schema import ANYTHING, NUMBER, Detail, record
from alcove.functions.model import LATEST, FunctionVersion
from alcove.gateway.message import Response
from alcove.triggers.relation import Relation
from alcove.triggers.webhook import HEADER, WebhookSource

# Under it are the request ids of events, so that the queue takes each once.
_NAMESPACE = "alcove:webhook:"


def _accept(call: OpenCall, kind: str, endpoint: str) -> tuple[WebhookSource, Relation]:
    source = cast(WebhookSource, call.faces.services.relations.source(kind))
    header = call.request.headers.get(HEADER, "")
    return source, source.accept(endpoint, call.request.body, header, time.time())


async def _function(call: OpenCall, relation: Relation) -> FunctionVersion:
    row = relation.row
    return await call.faces.service.resolve(relation.tenant, row.function, row.qualifier or LATEST)


async def _answered(call: OpenCall, kind: str, endpoint: str) -> Response:
    """The function's answer is the response; its error is a 502 without detail."""
    _, relation = _accept(call, kind, endpoint)
    event = check_event(call.request.body, asynchronous=False)
    function = await _function(call, relation)
    result = await call.faces.dispatcher.invoke(function, event, request_id=call.request_id)
    if result.error is not None:
        return BCE.refuse(502, "The function failed.", call.request_id)
    headers = {"Content-Type": "application/json", REQUEST_ID: call.request_id}
    return Response(200, headers, result.payload)


async def dueros(call: OpenCall, endpoint: str) -> Response:
    return await _answered(call, "dueros", endpoint)


async def duedge(call: OpenCall, endpoint: str) -> Response:
    return await _answered(call, "duedge", endpoint)


async def cdn(call: OpenCall, endpoint: str) -> Response:
    """Queue the events that the relation wants, as one event; say how many those are."""
    source, relation = _accept(call, "cdn", endpoint)
    event: Any = json.loads(check_event(call.request.body, asynchronous=True))
    wanted = source.wanted(relation, event)
    count = len(cast(Mapping[str, Any], wanted)["events"]) if wanted is not None else 0
    if count:
        function = await _function(call, relation)
        signature = call.request.headers[HEADER]
        await call.faces.services.events.submit(
            relation.tenant,
            function.name,
            json.dumps(wanted).encode(),
            qualifier=relation.row.qualifier,
            source="cdn",
            request_id=hashlib.sha256(f"{_NAMESPACE}{endpoint}:{signature}".encode()).hexdigest()[:32],
        )
    return answer({"accepted": count}, 202, call.request_id, REQUEST_ID)


_EVENT = Detail(ANYTHING, headers=("X-Alcove-Signature",), answer=ANYTHING)
_QUEUED = replace(_EVENT, status=202, answer=record(accepted=NUMBER))

ROUTES = (
    Route("POST", "/v1/dueros/{endpoint}", dueros, BCE, SYNCHRONOUS_LIMIT, signed=False, detail=_EVENT),
    Route("POST", "/v1/duedge/{endpoint}", duedge, BCE, SYNCHRONOUS_LIMIT, signed=False, detail=_EVENT),
    Route("POST", "/v1/cdn/{endpoint}", cdn, BCE, signed=False, detail=_QUEUED),
)
