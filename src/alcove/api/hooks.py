"""Hooks for object stores elsewhere, in Alcove's own API: /alcove/v1/hooks, and the door itself."""

from __future__ import annotations

from dataclasses import asdict

from alcove.api.body import field, read_object
from alcove.api.context import Call, OpenCall, answer
from alcove.api.dialect import AWS
from alcove.api.router import Route
from alcove.api.schema import EMPTY, TEXT, Detail, Schema, list_of, object_of, record
from alcove.errors import InvalidRequest
from alcove.gateway.message import Response

DOOR = "/alcove/v1/webhooks/s3"


async def add_hook(call: Call, name: str) -> Response:
    """Make a hook: the answer alone has its token."""
    document = read_object(call.request)
    function = field(document, "function", str)
    if not function:
        raise InvalidRequest("'function' is required.")
    reference = call.reference(function, field(document, "qualifier", str) or None)
    hook, token = await call.faces.services.hooks.add(call.tenant, name, reference)
    url = f"{call.faces.host.endpoint()}{DOOR}/{hook.id}"
    return answer({**asdict(hook), "url": url, "token": token}, 201, call.request_id)


async def list_hooks(call: Call) -> Response:
    base = f"{call.faces.host.endpoint()}{DOOR}"
    found = await call.faces.services.hooks.list(call.tenant)
    return answer({"hooks": [{**asdict(hook), "url": f"{base}/{hook.id}"} for hook in found]}, 200, call.request_id)


async def remove_hook(call: Call, name: str) -> Response:
    await call.faces.services.hooks.remove(call.tenant, name)
    return Response(204, {"x-amzn-RequestId": call.request_id})


async def receive(call: OpenCall, id: str) -> Response:
    """What a store posts, with ``Authorization: Bearer TOKEN``."""
    kind, _, token = call.request.headers.get("authorization", "").partition(" ")
    given = token.strip() if kind.lower() == "bearer" else ""
    event = await call.faces.services.hooks.receive(id, given, call.request.body)
    return answer({"event": event}, 202, call.request_id)


_HOOK: dict[str, Schema] = {"id": TEXT, "name": TEXT, "function": TEXT, "qualifier": TEXT, "url": TEXT}
_ADD = Detail(object_of("function", function=TEXT, qualifier=TEXT), status=201, answer=record(**_HOOK, token=TEXT))
_RECEIVE = Detail(object_of(), headers=("Authorization",), status=202, answer=record(event=TEXT))

ROUTES = (
    Route("GET", "/alcove/v1/hooks", list_hooks, AWS, detail=Detail(answer=record(hooks=list_of(record(**_HOOK))))),
    Route("PUT", "/alcove/v1/hooks/{name}", add_hook, AWS, detail=_ADD),
    Route("DELETE", "/alcove/v1/hooks/{name}", remove_hook, AWS, detail=EMPTY),
    Route("POST", f"{DOOR}/{{id}}", receive, AWS, signed=False, detail=_RECEIVE),
)
