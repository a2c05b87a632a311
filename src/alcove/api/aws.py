"""The AWS Lambda API (2015-03-31 and its siblings), for stock AWS SDKs."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

from alcove.api import aws_shapes, functions, invoking, shapes
from alcove.api.aws_pages import following, marker_and_limit
from alcove.api.body import read_object, text_map
from alcove.api.context import (
    INVOKE_BODY,
    PACKAGE_BODY,
    Call,
    answer,
)
from alcove.api.dialect import AWS
from alcove.api.invoking import Headers
from alcove.api.router import Route
from alcove.api.schema import ANYTHING, MAP, Detail, object_of
from alcove.errors import InvalidRequest
from alcove.functions import limits, names
from alcove.functions.model import FunctionVersion
from alcove.functions.preparing import State
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
        document |= _unready(state)
    return document


def _unready(state: State) -> dict[str, str]:
    """What is said of a function that cannot start yet, or not at all, to those who wait for it."""
    pending = state.name == "Pending"
    document = {
        "State": state.name,
        "StateReason": state.reason,
        "StateReasonCode": "Creating" if pending else "InternalError",
        "LastUpdateStatus": "InProgress" if pending else "Failed",
        "LastUpdateStatusReason": state.reason,
    }
    return document if pending else {**document, "LastUpdateStatusReasonCode": "InternalError"}


async def create_function(call: Call) -> Response:
    return answer(_described(call, await functions.create(call, await functions.read(call))), 201, call.request_id)


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
    query, listing = call.request.query, call.faces.service.listing
    version = query.get("FunctionVersion")
    if version not in (None, "ALL"):
        raise InvalidRequest("'FunctionVersion' must be ALL.")
    find = listing.all_versions if version else listing.functions
    page = await find(call.tenant, *marker_and_limit(call))
    items = [_described(call, item, qualified=True) for item in page.items]
    return answer({"Functions": items, **following(page.marker)}, 200, call.request_id)


async def update_code(call: Call, name: str) -> Response:
    return answer(_described(call, await functions.update_code(call, name)), 200, call.request_id)


async def update_configuration(call: Call, name: str) -> Response:
    return answer(
        _described(call, await functions.update_configuration(call, name, read_object(call.request))),
        200,
        call.request_id,
    )


async def publish_version(call: Call, name: str) -> Response:
    return answer(_described(call, await functions.publish(call, name)), 201, call.request_id)


async def list_versions(call: Call, name: str) -> Response:
    page = await call.faces.service.listing.versions(call.tenant, call.reference(name).name, *marker_and_limit(call))
    items = [_described(call, item, qualified=True) for item in page.items]
    return answer({"Versions": items, **following(page.marker)}, 200, call.request_id)


async def delete_function(call: Call, name: str) -> Response:
    reference = call.reference(name, call.request.query.get("Qualifier"))
    await call.faces.service.delete(call.tenant, reference.name, reference.qualifier)
    return Response(204, {"x-amzn-RequestId": call.request_id})


_HEADERS = Headers("x-amzn-RequestId", "X-Amz-Executed-Version", "X-Amz-Function-Error", "X-Amz-Log-Result")


async def invoke(call: Call, name: str) -> Response:
    headers = call.request.headers
    return await invoking.invoke(
        call,
        name,
        _HEADERS,
        kind=headers.get("x-amz-invocation-type", "RequestResponse"),
        qualifier=call.request.query.get("Qualifier"),
        context=headers.get("x-amz-client-context"),
        want_log=headers.get("x-amz-log-type") == "Tail",
    )


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


_FUNCTIONS = "/2015-03-31/functions"
_FUNCTION = _FUNCTIONS + "/{name}"
_TAGS = "/2017-03-31/tags/{arn}"
_INVOKE = Detail(
    ANYTHING,
    query=shapes.QUALIFIER,
    headers=("X-Amz-Invocation-Type", "X-Amz-Log-Type", "X-Amz-Client-Context"),
    answer=ANYTHING,
    also={202: None, 204: None},
    tells=("X-Amz-Executed-Version", "X-Amz-Function-Error", "X-Amz-Log-Result", "X-Alcove-Start"),
)
_CREATE = Detail(shapes.CREATE, status=201, answer=aws_shapes.FUNCTION)
_LIST = Detail(query=(*shapes.PAGE, "FunctionVersion"), answer=aws_shapes.FUNCTIONS)
_GET = Detail(query=shapes.QUALIFIER, answer=aws_shapes.WHOLE_FUNCTION)
_DELETE = Detail(query=shapes.QUALIFIER, status=204)
_GET_CONFIGURATION = Detail(query=shapes.QUALIFIER, answer=aws_shapes.FUNCTION)
_UPDATE_CONFIGURATION = Detail(shapes.UPDATE_CONFIGURATION, answer=aws_shapes.FUNCTION)
_UPDATE_CODE = Detail(shapes.UPDATE_CODE, answer=aws_shapes.FUNCTION)
_PUBLISH = Detail(shapes.PUBLISH, status=201, answer=aws_shapes.FUNCTION)
_VERSIONS = Detail(query=shapes.PAGE, answer=aws_shapes.VERSIONS)

ROUTES = (
    Route("POST", _FUNCTION + "/invocations", invoke, AWS, INVOKE_BODY, detail=_INVOKE),
    Route("POST", _FUNCTIONS, create_function, AWS, PACKAGE_BODY, detail=_CREATE),
    Route("GET", _FUNCTIONS, list_functions, AWS, detail=_LIST),
    Route("GET", _FUNCTION, get_function, AWS, detail=_GET),
    Route("DELETE", _FUNCTION, delete_function, AWS, detail=_DELETE),
    Route("GET", _FUNCTION + "/configuration", get_configuration, AWS, detail=_GET_CONFIGURATION),
    Route("PUT", _FUNCTION + "/configuration", update_configuration, AWS, detail=_UPDATE_CONFIGURATION),
    Route("PUT", _FUNCTION + "/code", update_code, AWS, PACKAGE_BODY, detail=_UPDATE_CODE),
    Route("POST", _FUNCTION + "/versions", publish_version, AWS, detail=_PUBLISH),
    Route("GET", _FUNCTION + "/versions", list_versions, AWS, detail=_VERSIONS),
    Route("GET", "/2016-08-19/account-settings", account_settings, AWS, detail=Detail(answer=aws_shapes.ACCOUNT)),
    Route("GET", _TAGS, list_tags, AWS, detail=Detail(answer=aws_shapes.TAGS)),
    Route("POST", _TAGS, tag, AWS, detail=Detail(object_of("Tags", Tags=MAP), status=204)),
    Route("DELETE", _TAGS, untag, AWS, detail=Detail(needs=("tagKeys",), status=204)),
)
