"""Baidu's CFC API (v1), for the stock Baidu SDKs; their quirks are in
docs/decisions/0006-two-dialects.md.
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

from alcove.api.body import beside, change, field, number, package, read_object, text_map
from alcove.api.context import (
    INVOKE_BODY,
    PACKAGE_BODY,
    Call,
    answer,
    check_event,
    decode_context,
    incoming_trace,
    start_headers,
)
from alcove.api.dialect import BCE
from alcove.api.policies import policy_tags, put_policies
from alcove.api.router import Route
from alcove.errors import InvalidRequest
from alcove.functions import names
from alcove.functions.model import FunctionVersion, Layer
from alcove.gateway.message import Response

REQUEST_ID = "x-bce-request-id"


def configuration(function: FunctionVersion) -> dict[str, Any]:
    """Return FunctionConfiguration, as CFC names its fields."""
    return {
        "FunctionName": function.name,
        "FunctionBrn": f"{to_brn(function.function_arn)}:{function.alias or function.version}",
        "FunctionArn": function.arn,
        "Runtime": function.runtime_name,
        "Handler": function.handler,
        "CodeSize": function.package_bytes,
        "CodeSha256": function.code_sha256,
        "Description": function.description,
        "Timeout": function.timeout_s,
        "MemorySize": function.memory_mib,
        "LastModified": rfc3339(function.modified_ms),
        "UpdatedAt": rfc3339(function.modified_ms),
        "Version": function.version,
        "CommitID": function.revision_id,
        "Environment": {"Variables": dict(function.environment)},
        "Region": _region(function),
        "Uid": function.tenant,
        "EphemeralStorage": {"Size": function.scratch_mib},
        "Isolation": str(function.isolation),
        "FreshVm": function.fresh_vm,
        "InstanceConcurrency": function.instance_concurrency,
        "Layers": [_layer(layer) for layer in function.layers],
        "IsolationCase": function.cause,
        "IsolationReason": function.reason,
    }


def _layer(layer: Layer) -> dict[str, Any]:
    name, version = layer.arn.split(":")[6:]
    return {"Brn": to_brn(layer.arn), "CodeSize": layer.package_bytes, "LayerName": name, "Version": int(version)}


def to_brn(arn: str) -> str:
    """Return the BRN that says the same as an ARN of ours."""
    return "brn:bce:cfc:" + arn.split(":", 3)[3]


def _region(function: FunctionVersion) -> str:
    return function.function_arn.split(":")[3]


def rfc3339(moment_ms: int) -> str:
    """The Go client reads dates into ``time.Time``, which takes this form alone."""
    moment = datetime.fromtimestamp(moment_ms // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment_ms % 1000:03d}Z"


def marker(call: Call) -> str:
    """The Go client's marker is a number: 0 where it has none yet."""
    found = call.request.query.get("Marker", "")
    return "" if found == "0" else found


def qualifier(call: Call) -> str | None:
    """The Go client writes ``qualifier`` in lower case."""
    return call.request.query.get("Qualifier") or call.request.query.get("qualifier")


async def create_function(call: Call) -> Response:
    document = await beside(read_object, call.request)
    name = field(document, "FunctionName", str)
    if not name:
        raise InvalidRequest("'FunctionName' is required.")
    code = field(document, "Code", dict) or {}
    tags = (text_map(document, "Tags") or {}) | policy_tags(document, operator=call.operator)
    config = change(document, tags, operator=call.operator)
    if config.runtime is None:
        raise InvalidRequest("'Runtime' is required.")
    function = await call.faces.service.create(
        call.tenant,
        call.reference(name).name,
        await beside(package, code),
        config,
        tags=tags,
        publish=bool(field(code, "Publish", bool)),
        dry_run=bool(field(code, "DryRun", bool)),
    )
    return _answer(call, configuration(function), 201)


async def get_function(call: Call, name: str) -> Response:
    function = await call.shown(name, qualifier(call))
    document = {
        "Code": {"Location": call.faces.code_url(function.package_sha256), "RepositoryType": "bos"},
        "Configuration": configuration(function),
    }
    return _answer(call, document)


async def get_configuration(call: Call, name: str) -> Response:
    return _answer(call, configuration(await call.shown(name, qualifier(call))))


async def list_functions(call: Call) -> Response:
    query = call.request.query
    page = await call.faces.service.list(call.tenant, marker(call), number(query, "MaxItems", 50))
    document = {
        "Functions": [configuration(item) for item in page.items],
        "NextMarker": page.marker or "",
    }
    return _answer(call, document)


async def update_code(call: Call, name: str) -> Response:
    document = await beside(read_object, call.request)
    function = await call.faces.service.update_code(
        call.tenant,
        call.reference(name).name,
        await beside(package, document),
        publish=bool(field(document, "Publish", bool)),
        dry_run=bool(field(document, "DryRun", bool)),
    )
    return _answer(call, configuration(function))


async def update_configuration(call: Call, name: str) -> Response:
    document = read_object(call.request)
    await put_policies(call, name, document)
    function = await call.faces.service.update_configuration(
        call.tenant,
        call.reference(name).name,
        change(document, operator=call.operator),
    )
    return _answer(call, configuration(function))


async def publish_version(call: Call, name: str) -> Response:
    document = read_object(call.request)
    # The Python SDK sends it in the query, the others in the body.
    description = field(document, "Description", str) or call.request.query.get("Description")
    function = await call.faces.service.publish(call.tenant, call.reference(name).name, description=description)
    return _answer(call, configuration(function), 201)


async def list_versions(call: Call, name: str) -> Response:
    query = call.request.query
    page = await call.faces.service.list_versions(
        call.tenant,
        call.reference(name).name,
        marker(call),
        number(query, "MaxItems", 50),
    )
    document = {
        "Versions": [configuration(item) for item in page.items],
        "NextMarker": page.marker or "",
    }
    return _answer(call, document)


async def delete_function(call: Call, name: str) -> Response:
    reference = call.reference(name, qualifier(call))
    await call.faces.service.delete(call.tenant, reference.name, reference.qualifier)
    return Response(204, {REQUEST_ID: call.request_id})


async def invoke(call: Call, name: str) -> Response:
    query = call.request.query
    kind = query.get("invocationType") or "RequestResponse"
    if kind not in ("RequestResponse", "Event", "DryRun"):
        raise InvalidRequest(f"invocationType {kind[:40]!r} is not one of RequestResponse, Event, DryRun.")
    function = await call.invoked(name, qualifier(call))
    event = check_event(call.request.body, asynchronous=kind == "Event")
    context = decode_context(call.request.headers.get("x-bce-client-context"))
    if kind == "DryRun":
        return Response(204, {REQUEST_ID: call.request_id})
    trace_id = incoming_trace(call.request)
    if kind == "Event":
        await call.accept(
            function, event, names.parse(name, qualifier(call)).version, trace_id=trace_id, client_context=context
        )
        return Response(202, {REQUEST_ID: call.request_id})
    want_log = (query.get("logType") or "None") == "Tail"
    result = await call.faces.dispatcher.invoke(
        function, event, trace_id=trace_id, client_context=context, want_log=want_log, request_id=call.request_id
    )
    out = {
        "Content-Type": "application/json",
        REQUEST_ID: result.request_id,
        "x-bce-executed-version": result.executed_version,
        **start_headers(result),
    }
    if result.error is not None:
        out["x-bce-function-error"] = result.error
    if want_log:
        out["x-bce-log-result"] = base64.b64encode(result.log_tail).decode()
    return Response(200, out, result.payload)


def _answer(call: Call, document: Any, status: int = 200) -> Response:
    return answer(document, status, call.request_id, REQUEST_ID)


ROUTES = (
    Route("POST", "/v1/functions/{name}/invocations", invoke, BCE, INVOKE_BODY),
    Route("POST", "/v1/functions", create_function, BCE, PACKAGE_BODY),
    Route("GET", "/v1/functions", list_functions, BCE),
    Route("GET", "/v1/functions/{name}", get_function, BCE),
    Route("DELETE", "/v1/functions/{name}", delete_function, BCE),
    Route("GET", "/v1/functions/{name}/configuration", get_configuration, BCE),
    Route("PUT", "/v1/functions/{name}/configuration", update_configuration, BCE),
    Route("PUT", "/v1/functions/{name}/code", update_code, BCE, PACKAGE_BODY),
    Route("POST", "/v1/functions/{name}/versions", publish_version, BCE),
    Route("GET", "/v1/functions/{name}/versions", list_versions, BCE),
)
