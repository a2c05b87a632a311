"""Workflows, in Baidu's CFC API: /v1/flow and /v1/execution, with the fields of its Go client."""

from __future__ import annotations

from typing import Any

from alcove.api.bce import REQUEST_ID, rfc3339
from alcove.api.body import field, number, read_object
from alcove.api.context import Call, answer
from alcove.api.dialect import BCE
from alcove.api.router import Route
from alcove.api.schema import NUMBER, TEXT, Detail, list_of, object_of, one_of, record
from alcove.errors import InvalidRequest
from alcove.functions.brn import account_to_brn
from alcove.gateway.message import Response
from alcove.store.flows import EventRow, ExecutionRow, FlowRow

LANGUAGE = "FDL"
EVENTS_DEFAULT = 100
EVENTS_LIMIT = 2000
# Definitions and inputs are JSON strings in JSON: each byte may be escaped.
_BODY = 2 << 20


def _answer(call: Call, document: Any) -> Response:
    return answer(document, 200, call.request_id, REQUEST_ID)


def _named(call: Call, name: str) -> str:
    found = call.request.query.get(name)
    if not found:
        raise InvalidRequest(f"'{name}' is required.")
    return found


def _required(document: dict[str, Any], name: str) -> str:
    found = field(document, name, str)
    if not found:
        raise InvalidRequest(f"'{name}' is required.")
    return found


# Flows


def _flow(row: FlowRow) -> dict[str, Any]:
    return {
        "name": row.name,
        "type": LANGUAGE,
        "definition": row.definition,
        "description": row.description,
        "created_at": rfc3339(row.created_ms),
        "updated_at": rfc3339(row.modified_ms),
    }


def _listed(row: FlowRow) -> dict[str, Any]:
    """Lists name the moments otherwise."""
    return {
        "name": row.name,
        "type": LANGUAGE,
        "definition": row.definition,
        "description": row.description,
        "createdTime": rfc3339(row.created_ms),
        "lastModifiedTime": rfc3339(row.modified_ms),
    }


def _read_flow(call: Call) -> tuple[str, str, str]:
    """Return name, definition and description."""
    document = read_object(call.request)
    if (field(document, "type", str) or LANGUAGE) != LANGUAGE:
        raise InvalidRequest(f"'type' must be {LANGUAGE}.")
    return (
        _required(document, "name"),
        _required(document, "definition"),
        field(document, "description", str) or "",
    )


async def create_flow(call: Call) -> Response:
    return _answer(call, _flow(await call.faces.services.flows.create(call.tenant, *_read_flow(call))))


async def update_flow(call: Call) -> Response:
    return _answer(call, _flow(await call.faces.services.flows.update(call.tenant, *_read_flow(call))))


async def get_flow(call: Call) -> Response:
    return _answer(call, _flow(await call.faces.services.flows.get(call.tenant, _named(call, "flowName"))))


async def delete_flow(call: Call) -> Response:
    await call.faces.services.flows.delete(call.tenant, _named(call, "flowName"))
    return _answer(call, {})


async def list_flows(call: Call) -> Response:
    found = await call.faces.services.flows.list(call.tenant)
    return _answer(call, {"flows": [_listed(row) for row in found]})


# Executions


def _execution(row: ExecutionRow) -> dict[str, Any]:
    return {
        "name": row.name,
        "status": row.status,
        "flowName": row.flow,
        "flowDefinition": row.definition,
        "input": row.input,
        "output": row.output,
        "startedTime": row.started_ms,
        "stoppedTime": row.stopped_ms,
    }


def _event(row: ExecutionRow, number: int, event: EventRow) -> dict[str, Any]:
    return {
        "eventId": str(number),
        "executionId": f"{account_to_brn(row.tenant_id)}:{row.flow}:{row.name}",
        "stateName": event.state,
        "type": event.type,
        "eventDetail": event.detail,
        "time": event.time_ms,
        "costTime": event.time_ms - row.started_ms,
    }


async def start_execution(call: Call) -> Response:
    document = read_object(call.request)
    made = await call.faces.services.flows.begin(
        call.tenant,
        _required(document, "flowName"),
        field(document, "executionName", str) or "",
        field(document, "input", str) or "",
    )
    return _answer(call, _execution(made))


async def stop_execution(call: Call) -> Response:
    document = read_object(call.request)
    flow, name = _required(document, "flowName"), _required(document, "executionName")
    return _answer(call, _execution(await call.faces.services.flows.stop(call.tenant, flow, name)))


async def get_execution(call: Call) -> Response:
    flow, name = _named(call, "flowName"), _named(call, "executionName")
    return _answer(call, _execution(await call.faces.services.flows.describe(call.tenant, flow, name)))


async def list_executions(call: Call) -> Response:
    """The newest first; ``marker`` and ``limit``, of our own, go further back."""
    query = call.request.query
    total, found = await call.faces.services.flows.executions(
        call.tenant, _named(call, "flowName"), before=number(query, "marker", 0), limit=number(query, "limit", 100)
    )
    marker = str(found[-1].id) if found else ""
    return _answer(call, {"total": total, "executions": [_execution(row) for row in found], "nextMarker": marker})


async def get_history(call: Call) -> Response:
    """The oldest first; ``marker``, of our own, is the last event that is known."""
    query = call.request.query
    limit = max(1, min(number(query, "limit", EVENTS_DEFAULT), EVENTS_LIMIT))
    flow, name = _named(call, "flowName"), _named(call, "executionName")
    row, events = await call.faces.services.flows.history(
        call.tenant, flow, name, after=number(query, "marker", 0), limit=limit
    )
    return _answer(call, {"events": [_event(row, one, event) for one, event in events]})


_FLOW = object_of("name", "definition", name=TEXT, type=one_of(LANGUAGE), definition=TEXT, description=TEXT)
_SAID = {"name": TEXT, "type": TEXT, "definition": TEXT, "description": TEXT}
_FLOW_ANSWER = record(**_SAID, created_at=TEXT, updated_at=TEXT)
_LISTED = record(**_SAID, createdTime=TEXT, lastModifiedTime=TEXT)
_EXECUTION_ANSWER = record(
    **dict.fromkeys(("name", "status", "flowName", "flowDefinition", "input", "output"), TEXT),
    startedTime=NUMBER,
    stoppedTime=NUMBER,
)
_EVENT = record(
    **dict.fromkeys(("eventId", "executionId", "stateName", "type", "eventDetail"), TEXT),
    time=NUMBER,
    costTime=NUMBER,
)
_NAMES = {"flowName": TEXT, "executionName": TEXT}
_WANTED = ("flowName", "executionName")
_PUT = Detail(_FLOW, answer=_FLOW_ANSWER)
_GET = Detail(needs=("flowName",), answer=_FLOW_ANSWER)
_DELETE = Detail(needs=("flowName",), answer=record())
_LIST = Detail(answer=record(flows=list_of(_LISTED)))
_START = Detail(object_of("flowName", **_NAMES, input=TEXT), answer=_EXECUTION_ANSWER)
_STOP = Detail(object_of(*_NAMES, **_NAMES), answer=_EXECUTION_ANSWER)
_GET_EXECUTION = Detail(needs=_WANTED, answer=_EXECUTION_ANSWER)
_HISTORY = Detail(needs=_WANTED, query=("limit", "marker"), answer=record(events=list_of(_EVENT)))
_EXECUTIONS = Detail(
    needs=("flowName",),
    query=("marker", "limit"),
    answer=record(total=NUMBER, executions=list_of(_EXECUTION_ANSWER), nextMarker=TEXT),
)
ROUTES = (
    Route("POST", "/v1/flow", create_flow, BCE, detail=_PUT),
    Route("PUT", "/v1/flow", update_flow, BCE, detail=_PUT),
    Route("GET", "/v1/flow", get_flow, BCE, detail=_GET),
    Route("DELETE", "/v1/flow", delete_flow, BCE, detail=_DELETE),
    Route("GET", "/v1/flows", list_flows, BCE, detail=_LIST),
    Route("POST", "/v1/execution/start", start_execution, BCE, _BODY, detail=_START),
    Route("POST", "/v1/execution/stop", stop_execution, BCE, detail=_STOP),
    Route("GET", "/v1/execution", get_execution, BCE, detail=_GET_EXECUTION),
    Route("GET", "/v1/execution/history", get_history, BCE, detail=_HISTORY),
    Route("GET", "/v1/executions", list_executions, BCE, detail=_EXECUTIONS),
)
