"""The audit of changes: what is said of each, and who may read it (/alcove/v1/audit)."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

from msgspec.structs import asdict, replace

from alcove.api.body import number
from alcove.api.context import Call, answer
from alcove.api.dialect import AWS
from alcove.api.router import Route
from alcove.api.schema import NUMBER, TEXT, Detail, list_of, one_of, record
from alcove.audit.line import DONE, UNKNOWN, AuditLine
from alcove.audit.log import OPERATOR
from alcove.errors import AlcoveError
from alcove.gateway.message import Response
from alcove.host.clock import now_ms

LONGEST_RESOURCE = 400
TAIL_LIMIT = 10_000
# What only calls a function changes nothing.
_INVOCATIONS = ("invocations", "invoke-async", "response-streaming-invocations")
# Where an answer says what was made, for calls that name nothing themselves.
_NAMED_BY = (
    *("FunctionArn", "FunctionBrn", "AliasArn", "LayerVersionArn", "RelationId", "UUID", "id", "name"),
    *("instanceIds", "instanceId", "imageCacheId", "imageCacheIds"),
)
# Parameters of the query that name what a call is for, and how lines say that.
_TOLD = {"Qualifier": "qualifier", "flowName": "flow", "serviceName": "service"}
_LARGEST_READ = 64 << 10


def is_change(route: Route) -> bool:
    return _changes(route.method, route.path) if route.audited is None else route.audited


@functools.cache
def _changes(method: str, path: str) -> bool:
    return method not in ("GET", "HEAD") and path.rsplit("/", 1)[-1] not in _INVOCATIONS


def begun(call: Call, route: Route, names: Mapping[str, str]) -> AuditLine:
    """Say what is about to be done. Of the request only its path and what its query names are told."""
    peer = call.request.peer
    query = call.request.query
    told = {shown: query.get(name, "") for name, shown in _TOLD.items()}
    parts = [f"{name}={value}" for name, value in (*names.items(), *told.items()) if value or name in names]
    return AuditLine(
        time_ms=now_ms(),
        request_id=call.request_id,
        scope=OPERATOR if route.path.startswith("/alcove/v1/tenants") else call.tenant,
        by="operator" if call.operator else "tenant",
        key=call.key,
        address=f"uid={peer.uid} pid={peer.pid}" if call.operator else peer.address,
        operation=f"{route.act.__module__.rpartition('.')[2]}.{route.act.__name__}",
        resource=_plain(" ".join(parts)),
    )


def ended(line: AuditLine, response: Response) -> AuditLine:
    """Say what became of it. Of the answer only the name of what was made is told."""
    if response.status >= 400:
        return replace(line, outcome=str(response.status))
    return replace(line, outcome=DONE, resource=line.resource or _made(response))


async def perform(call: Call, route: Route, names: Mapping[str, str]) -> Response:
    """Make a change with its line in the audit, however it ends."""
    audit = call.faces.services.audit
    line = begun(call, route, names)
    note = await audit.begin(line, insist=route.method != "DELETE")
    line = replace(line, outcome=UNKNOWN)
    try:
        response: Response = await route.act(call, **names)
        line = ended(line, response)
        return response
    except AlcoveError as error:
        told = route.dialect.answer(error, call.request_id)
        line = replace(line, outcome=_code(told))
        raise
    except Exception:
        line = replace(line, outcome="failed")
        raise
    finally:
        audit.end(line, note)


async def show_audit(call: Call) -> Response:
    """The last lines, or those after a number. A tenant sees its own; the operator all, or those of ``tenant``."""
    query = call.request.query
    after, tail = number(query, "after", 0), min(TAIL_LIMIT, number(query, "tail", 100) or 100)
    audit = call.faces.services.audit
    scope = _scope(call)
    if scope and not after:
        lines = await audit.of(scope, tail)
    else:
        lines = audit.recent(scope, after=after, tail=tail)
    document = {"lines": [asdict(line) for line in lines], "cursor": audit.newest}
    return answer(document, 200, call.request_id)


def _scope(call: Call) -> str:
    if not call.operator:
        return call.tenant
    named = call.request.query.get("tenant", "")
    known = named in ("", OPERATOR) or (named.isascii() and named.isdigit() and len(named) == 12)
    return named if known else call.faces.services.tenants.find(named).id


def _made(response: Response) -> str:
    if len(response.body) > _LARGEST_READ:
        return ""
    try:
        document: Any = json.loads(response.body)
    except ValueError:
        return ""
    if not isinstance(document, dict):
        return ""
    return next((_plain(text) for name in _NAMED_BY if (text := _words(document.get(name)))), "")


def _words(value: Any) -> str:
    """Return a name, or several as one text."""
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return " ".join(value)
    return value if isinstance(value, str) else ""


def _code(told: Response) -> str:
    """Return the refusal's code, as the client reads it."""
    document = json.loads(told.body)
    return str(told.headers.get("x-amzn-ErrorType") or document.get("code") or told.status)


def _plain(text: str) -> str:
    """Names come from clients: one line, not long."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:LONGEST_RESOURCE])


_LINE = record(
    number=NUMBER,
    time_ms=NUMBER,
    request_id=TEXT,
    scope=TEXT,
    by=one_of("operator", "tenant"),
    key=TEXT,
    address=TEXT,
    operation=TEXT,
    resource=TEXT,
    outcome=TEXT,
)
_LINES = Detail(query=("after", "tail", "tenant"), answer=record(lines=list_of(_LINE), cursor=NUMBER))

ROUTES = (Route("GET", "/alcove/v1/audit", show_audit, AWS, detail=_LINES),)
