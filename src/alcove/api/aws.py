"""The AWS Lambda API (2015-03-31 and its siblings), for stock AWS SDKs."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import parse_qs

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
from alcove.api.dialect import AWS
from alcove.api.policies import policy_tags, put_policies
from alcove.api.router import Route
from alcove.errors import InvalidRequest
from alcove.functions import limits, names
from alcove.functions.model import FunctionVersion
from alcove.gateway.message import Response


def configuration(function: FunctionVersion, *, qualified: bool = False, snapshot: bool = False) -> dict[str, Any]:
    """Return FunctionConfiguration; ``snapshot`` says whether the version starts from one."""
    dead_letter = {"DeadLetterConfig": {"TargetArn": function.dead_letter}} if function.dead_letter else {}
    layers = [{"Arn": layer.arn, "CodeSize": layer.package_bytes} for layer in function.layers]
    return {
        **({"Layers": layers} if layers else {}),
        "FunctionName": function.name,
        "FunctionArn": function.arn if qualified else function.invoked_arn,
        "Runtime": function.runtime_name,
        "Role": function.role or f"arn:aws:iam::{function.tenant}:role/alcove",
        "Handler": function.handler,
        "CodeSize": function.package_bytes,
        "Description": function.description,
        "Timeout": function.timeout_s,
        "MemorySize": function.memory_mib,
        "LastModified": function.last_modified,
        "CodeSha256": function.code_sha256,
        "Version": function.version,
        "Environment": {"Variables": dict(function.environment)},
        "TracingConfig": {"Mode": "PassThrough"},
        "RevisionId": function.revision_id,
        "State": "Active",
        "LastUpdateStatus": "Successful",
        "PackageType": "Zip",
        "Architectures": ["x86_64"],
        "EphemeralStorage": {"Size": function.scratch_mib},
        "LoggingConfig": logging_config(function),
        "SnapStart": {
            "ApplyOn": "PublishedVersions",
            "OptimizationStatus": "On" if snapshot else "Off",
        },
        "Isolation": str(function.isolation),
        "IsolationCase": function.cause,
        "IsolationReason": function.reason,
        "Kernel": function.kernel,
        "Network": function.network,
        "FreshVm": function.fresh_vm,
        **dead_letter,
        "InstanceConcurrency": function.instance_concurrency,
    }


def logging_config(function: FunctionVersion) -> dict[str, str]:
    logging = function.logging
    levels = {"ApplicationLogLevel": logging.level, "SystemLogLevel": logging.system_level}
    shown = {"LogFormat": logging.format, "LogGroup": f"/alcove/{function.name}"}
    return shown | (levels if logging.format == "JSON" else {})


def _described(call: Call, function: FunctionVersion, *, qualified: bool = False) -> dict[str, Any]:
    document = configuration(function, qualified=qualified, snapshot=call.faces.dispatcher.snapshots.has(function))
    state = call.faces.service.preparer.state(function)
    if state.reason:
        code = "Creating" if state.name == "Pending" else "InternalError"
        document |= {"State": state.name, "StateReason": state.reason, "StateReasonCode": code}
    return document


async def create_function(call: Call) -> Response:
    document = await beside(read_object, call.request)
    name = field(document, "FunctionName", str)
    if not name:
        raise InvalidRequest("'FunctionName' is required.")
    if field(document, "PackageType", str) not in (None, "Zip"):
        raise InvalidRequest("PackageType must be Zip.")
    tags = (text_map(document, "Tags") or {}) | policy_tags(document, operator=call.operator)
    config = change(document, tags, operator=call.operator)
    if config.runtime is None:
        raise InvalidRequest("'Runtime' is required.")
    await call.check_dead_letter(config)
    reference = call.reference(name)
    function = await call.faces.service.create(
        call.tenant,
        reference.name,
        await beside(package, field(document, "Code", dict) or {}),
        config,
        tags=tags,
        publish=bool(field(document, "Publish", bool)),
    )
    return answer(_described(call, function), 201, call.request_id)


async def get_function(call: Call, name: str) -> Response:
    function = await call.shown(name, call.request.query.get("Qualifier"))
    document: dict[str, Any] = {
        "Configuration": _described(call, function),
        "Code": {"RepositoryType": "S3", "Location": call.faces.code_url(function.package_sha256)},
        "Tags": dict(function.tags),
    }
    reserved = call.faces.dispatcher.admission.reserved(function.function_id)
    if reserved is not None:
        document["Concurrency"] = {"ReservedConcurrentExecutions": reserved}
    return answer(document, 200, call.request_id)


async def get_configuration(call: Call, name: str) -> Response:
    function = await call.shown(name, call.request.query.get("Qualifier"))
    return answer(_described(call, function), 200, call.request_id)


async def list_functions(call: Call) -> Response:
    query, service = call.request.query, call.faces.service
    version = query.get("FunctionVersion")
    if version not in (None, "ALL"):
        raise InvalidRequest("'FunctionVersion' must be ALL.")
    find = service.list_all if version else service.list
    page = await find(call.tenant, query.get("Marker", ""), number(query, "MaxItems", 50))
    document: dict[str, Any] = {"Functions": [_described(call, item, qualified=True) for item in page.items]}
    if page.marker is not None:
        document["NextMarker"] = page.marker
    return answer(document, 200, call.request_id)


async def update_code(call: Call, name: str) -> Response:
    document = await beside(read_object, call.request)
    function = await call.faces.service.update_code(
        call.tenant,
        call.reference(name).name,
        await beside(package, document),
        publish=bool(field(document, "Publish", bool)),
        dry_run=bool(field(document, "DryRun", bool)),
        revision_id=field(document, "RevisionId", str),
    )
    return answer(_described(call, function), 200, call.request_id)


async def update_configuration(call: Call, name: str) -> Response:
    document = read_object(call.request)
    await put_policies(call, name, document)
    config = change(document, operator=call.operator)
    await call.check_dead_letter(config)
    function = await call.faces.service.update_configuration(
        call.tenant,
        call.reference(name).name,
        config,
        revision_id=field(document, "RevisionId", str),
    )
    return answer(_described(call, function), 200, call.request_id)


async def publish_version(call: Call, name: str) -> Response:
    document = read_object(call.request)
    function = await call.faces.service.publish(
        call.tenant,
        call.reference(name).name,
        description=field(document, "Description", str),
        code_sha256=field(document, "CodeSha256", str) or None,
        revision_id=field(document, "RevisionId", str) or None,
    )
    return answer(_described(call, function), 201, call.request_id)


async def list_versions(call: Call, name: str) -> Response:
    query = call.request.query
    page = await call.faces.service.list_versions(
        call.tenant,
        call.reference(name).name,
        query.get("Marker", ""),
        number(query, "MaxItems", 50),
    )
    document: dict[str, Any] = {"Versions": [_described(call, item, qualified=True) for item in page.items]}
    if page.marker is not None:
        document["NextMarker"] = page.marker
    return answer(document, 200, call.request_id)


async def delete_function(call: Call, name: str) -> Response:
    reference = call.reference(name, call.request.query.get("Qualifier"))
    await call.faces.service.delete(call.tenant, reference.name, reference.qualifier)
    return Response(204, {"x-amzn-RequestId": call.request_id})


async def invoke(call: Call, name: str) -> Response:
    headers = call.request.headers
    kind = headers.get("x-amz-invocation-type", "RequestResponse")
    if kind not in ("RequestResponse", "Event", "DryRun"):
        raise InvalidRequest(f"Invocation type {kind[:40]!r} is not one of RequestResponse, Event, DryRun.")
    function = await call.invoked(name, call.request.query.get("Qualifier"))
    event = check_event(call.request.body, asynchronous=kind == "Event")
    context = decode_context(headers.get("x-amz-client-context"))
    if kind == "DryRun":
        return Response(204, {"x-amzn-RequestId": call.request_id})
    trace_id = incoming_trace(call.request)
    if kind == "Event":
        qualifier = names.parse(name, call.request.query.get("Qualifier")).version
        await call.accept(function, event, qualifier, trace_id=trace_id, client_context=context)
        return Response(202, {"x-amzn-RequestId": call.request_id})
    want_log = headers.get("x-amz-log-type") == "Tail"
    result = await call.faces.dispatcher.invoke(
        function,
        event,
        trace_id=trace_id,
        client_context=context,
        want_log=want_log,
        request_id=call.request_id,
    )
    out = {
        "Content-Type": "application/json",
        "x-amzn-RequestId": result.request_id,
        "X-Amz-Executed-Version": result.executed_version,
        **start_headers(result),
    }
    if result.error is not None:
        out["X-Amz-Function-Error"] = result.error
    if want_log:
        out["X-Amz-Log-Result"] = base64.b64encode(result.log_tail).decode()
    return Response(200, out, result.payload)


async def account_settings(call: Call) -> Response:
    count, size = await call.faces.service.usage(call.tenant)
    quotas = call.faces.services.tenants.quotas(call.tenant)
    document = {
        "AccountLimit": {
            "TotalCodeSize": quotas.code_bytes,
            "CodeSizeUnzipped": 262144000,
            "CodeSizeZipped": 52428800,
            "ConcurrentExecutions": call.faces.dispatcher.admission.limit_of(call.tenant),
            "UnreservedConcurrentExecutions": max(0, call.faces.dispatcher.admission.rest(call.tenant)),
        },
        "AccountUsage": {"TotalCodeSize": size, "FunctionCount": count},
    }
    return answer(document, 200, call.request_id)


def _tagged(call: Call, arn: str) -> str:
    """Return the name of the function whose ARN, without a version, is given: all else has no tags, as on AWS."""
    reference = names.parse(arn)
    if not arn.startswith("arn:") or reference.qualifier is not None:
        raise InvalidRequest(f"{arn[:200]!r} is not the ARN of a function without a version.", hint="see FunctionArn")
    reference.check_owner(call.tenant)
    return reference.name


async def list_tags(call: Call, arn: str) -> Response:
    function = await call.shown(_tagged(call, arn))
    return answer({"Tags": dict(function.tags)}, 200, call.request_id)


async def tag(call: Call, arn: str) -> Response:
    added = limits.check_tags(text_map(read_object(call.request), "Tags") or {})
    if not added:
        raise InvalidRequest("'Tags' is required.")
    await call.faces.service.set_tags(call.tenant, _tagged(call, arn), lambda tags: tags.update(added))
    return Response(204, {"x-amzn-RequestId": call.request_id})


async def untag(call: Call, arn: str) -> Response:
    keys = parse_qs(call.request.raw_query).get("tagKeys", [])
    if not keys:
        raise InvalidRequest("'tagKeys' is required.")

    def remove(tags: dict[str, str]) -> None:
        for key in keys:
            tags.pop(key, None)

    await call.faces.service.set_tags(call.tenant, _tagged(call, arn), remove)
    return Response(204, {"x-amzn-RequestId": call.request_id})


ROUTES = (
    Route("POST", "/2015-03-31/functions/{name}/invocations", invoke, AWS, INVOKE_BODY),
    Route("POST", "/2015-03-31/functions", create_function, AWS, PACKAGE_BODY),
    Route("GET", "/2015-03-31/functions", list_functions, AWS),
    Route("GET", "/2015-03-31/functions/{name}", get_function, AWS),
    Route("DELETE", "/2015-03-31/functions/{name}", delete_function, AWS),
    Route("GET", "/2015-03-31/functions/{name}/configuration", get_configuration, AWS),
    Route("PUT", "/2015-03-31/functions/{name}/configuration", update_configuration, AWS),
    Route("PUT", "/2015-03-31/functions/{name}/code", update_code, AWS, PACKAGE_BODY),
    Route("POST", "/2015-03-31/functions/{name}/versions", publish_version, AWS),
    Route("GET", "/2015-03-31/functions/{name}/versions", list_versions, AWS),
    Route("GET", "/2016-08-19/account-settings", account_settings, AWS),
    Route("GET", "/2017-03-31/tags/{arn}", list_tags, AWS),
    Route("POST", "/2017-03-31/tags/{arn}", tag, AWS),
    Route("DELETE", "/2017-03-31/tags/{arn}", untag, AWS),
)
