"""Baidu's CFC API (v1), for the stock Baidu SDKs; their quirks are in
docs/decisions/0006-two-dialects.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sized
from datetime import UTC, datetime
from typing import Any, NamedTuple

from alcove.api import bce_shapes, functions, invoking, shapes
from alcove.api.bce_async import read_async_config, show_async_config
from alcove.api.body import field, number, read_object
from alcove.api.context import (
    INVOKE_BODY,
    PACKAGE_BODY,
    Call,
    answer,
)
from alcove.api.dialect import BCE
from alcove.api.invoking import Headers
from alcove.api.router import Route
from alcove.api.schema import ANYTHING, Detail
from alcove.errors import InvalidRequest
from alcove.functions import names
from alcove.functions.brn import function_brn, to_brn
from alcove.functions.groups import DEFAULT_GROUP, GROUP_TAG
from alcove.functions.model import CONCURRENCY_TAG, LATEST, FunctionVersion, Layer
from alcove.functions.routing import is_version
from alcove.gateway.message import Response

REQUEST_ID = "x-bce-request-id"


def configuration(function: FunctionVersion) -> dict[str, Any]:
    """Return FunctionConfiguration, as CFC names its fields."""
    return {
        "FunctionName": function.name,
        "FunctionBrn": function_brn(
            _region(function), function.tenant, function.name, function.alias or function.version
        ),
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
        "PodConcurrentQuota": function.instance_concurrency,
        "ServiceName": function.tags.get(GROUP_TAG, DEFAULT_GROUP),
        "DeadLetterTopic": function.dead_letter,
        "Layers": [_layer(layer) for layer in function.layers],
        "IsolationCase": function.cause,
        "IsolationReason": function.reason,
    }


def _layer(layer: Layer) -> dict[str, Any]:
    name, version = layer.arn.split(":")[6:]
    return {"Brn": to_brn(layer.arn), "CodeSize": layer.package_bytes, "LayerName": name, "Version": int(version)}


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


def marker_and_limit(call: Call, most: int = 50) -> tuple[str, int]:
    """Return where a page begins and how much may be on it; the Go client's 0 stands for any number."""
    return marker(call), number(call.request.query, "MaxItems", most) or most


class Place(NamedTuple):
    """Where a list that is sorted by name goes on: behind a name, or after a number of items."""

    after: str
    skip: int

    def following(self, items: Sized, more: str | None) -> str:
        """Return the next marker, a number as the Go client wants it where no name was given."""
        if more is None or self.after:
            return more or ""
        return str(self.skip + len(items))


def place_and_limit(call: Call) -> tuple[Place, int]:
    """As ``marker_and_limit``, of lists by name."""
    found, limit = marker_and_limit(call)
    if found.isascii() and found.isdigit():
        return Place("", number(call.request.query, "Marker", 0)), limit
    return Place(found, 0), limit


def qualifier(call: Call) -> str | None:
    """The Go client writes ``qualifier`` in lower case."""
    return call.request.query.get("Qualifier") or call.request.query.get("qualifier")


# What the Go client cannot leave out: it sends these empty where nothing is meant.
_EMPTY = ("AsyncInvokeConfig", "DeadLetterTopic", "Handler", "MemorySize", "PodConcurrentQuota", "Runtime", "Timeout")


def given(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that say something. Raises ``InvalidRequest`` for what would be missed where it was dropped."""
    found = {name: value for name, value in document.items() if value not in ("", 0, None) or name not in _EMPTY}
    for name in ("CFSConfig", "VpcConfig"):
        if any((field(found, name, dict) or {}).values()):
            raise InvalidRequest(f"'{name}' is not offered.", hint="every tenant has a network of its own, and buckets")
    topic = field(found, "DeadLetterTopic", str)
    return found if topic is None else {**found, "DeadLetterConfig": {"TargetArn": topic}}


async def own_tags(call: Call, document: Mapping[str, Any]) -> dict[str, str]:
    """Return the new function's tags that stand for fields of CFC's."""
    calls, group = field(document, "PodConcurrentQuota", int), field(document, "ServiceName", str)
    tags = {} if calls is None else {CONCURRENCY_TAG: str(calls)}
    if group and group != DEFAULT_GROUP:
        tags[GROUP_TAG] = (await call.faces.services.groups.get(call.tenant, group)).name
    return tags


async def create_function(call: Call) -> Response:
    document = given(await functions.read(call))
    asynchronous = await read_async_config(call, document)
    function = await functions.create(call, document, await own_tags(call, document))
    if asynchronous is not None:
        await call.faces.services.invoke_configs.put(call.tenant, names.Reference(function.name), asynchronous)
    return _answer(call, await described(call, function), 201)


async def described(call: Call, function: FunctionVersion) -> dict[str, Any]:
    """As ``configuration``, with what is kept elsewhere."""
    row = await call.faces.services.invoke_configs.find(function.function_id, function.alias or function.version)
    return {**configuration(function), "AsyncInvokeConfig": None if row is None else show_async_config(row)}


async def get_function(call: Call, name: str) -> Response:
    function = await call.shown(name, qualifier(call))
    document = {
        "Code": {"Location": call.faces.code_url(function.package_sha256), "RepositoryType": "bos"},
        "Configuration": await described(call, function),
    }
    return _answer(call, document)


async def get_configuration(call: Call, name: str) -> Response:
    return _answer(call, await described(call, await call.shown(name, qualifier(call))))


async def list_functions(call: Call) -> Response:
    """``FunctionVersion``: ALL, or the version that is listed of each function that has it; ``$LATEST`` without it."""
    at, limit = place_and_limit(call)
    listing, version = call.faces.service.listing, call.request.query.get("FunctionVersion") or LATEST
    if version == "ALL":
        page = await listing.all_versions(call.tenant, at.after, limit, skip=at.skip)
    else:
        page = await listing.functions(call.tenant, at.after, limit, skip=at.skip, version=_version(version))
    found = [configuration(item) for item in page.items]
    return _answer(call, {"Functions": found, "NextMarker": at.following(found, page.marker)})


def _version(text: str) -> str:
    if text != LATEST and not is_version(text):
        raise InvalidRequest("'FunctionVersion' must be ALL, $LATEST or the number of a version.")
    return text


async def update_code(call: Call, name: str) -> Response:
    return _answer(call, configuration(await functions.update_code(call, name)))


async def update_configuration(call: Call, name: str) -> Response:
    document = given(read_object(call.request))
    return _answer(call, configuration(await functions.update_configuration(call, name, document)))


async def publish_version(call: Call, name: str) -> Response:
    return _answer(call, configuration(await functions.publish(call, name)), 201)


async def list_versions(call: Call, name: str) -> Response:
    page = await call.faces.service.listing.versions(call.tenant, call.reference(name).name, *marker_and_limit(call))
    return _answer(call, {"Versions": [configuration(item) for item in page.items], "NextMarker": page.marker or ""})


async def delete_function(call: Call, name: str) -> Response:
    reference = call.reference(name, qualifier(call))
    await call.faces.service.delete(call.tenant, reference.name, reference.qualifier)
    return Response(204, {REQUEST_ID: call.request_id})


_HEADERS = Headers(REQUEST_ID, "x-bce-executed-version", "x-bce-function-error", "x-bce-log-result")


async def invoke(call: Call, name: str) -> Response:
    query = call.request.query
    return await invoking.invoke(
        call,
        name,
        _HEADERS,
        kind=query.get("invocationType") or "RequestResponse",
        qualifier=qualifier(call),
        context=call.request.headers.get("x-bce-client-context"),
        want_log=query.get("logType") == "Tail",
    )


def _answer(call: Call, document: Any, status: int = 200) -> Response:
    return answer(document, status, call.request_id, REQUEST_ID)


_FUNCTIONS = "/v1/functions"
_FUNCTION = _FUNCTIONS + "/{name}"
_QUALIFIERS = ("Qualifier", "qualifier")
_INVOKE = Detail(
    ANYTHING,
    query=("invocationType", "logType", *_QUALIFIERS),
    headers=("x-bce-client-context",),
    answer=ANYTHING,
    also={202: None, 204: None},
    tells=("x-bce-executed-version", "x-bce-function-error", "x-bce-log-result", "X-Alcove-Start"),
)
_CREATE = Detail(shapes.CREATE, status=201, answer=bce_shapes.FUNCTION)
_LIST = Detail(query=(*shapes.PAGE, "FunctionVersion"), answer=bce_shapes.FUNCTIONS)
_GET = Detail(query=_QUALIFIERS, answer=bce_shapes.WHOLE_FUNCTION)
_DELETE = Detail(query=_QUALIFIERS, status=204)
_GET_CONFIGURATION = Detail(query=_QUALIFIERS, answer=bce_shapes.FUNCTION)
_UPDATE_CONFIGURATION = Detail(shapes.UPDATE_CONFIGURATION, answer=bce_shapes.FUNCTION)
_UPDATE_CODE = Detail(shapes.UPDATE_CODE, answer=bce_shapes.FUNCTION)
_PUBLISH = Detail(shapes.PUBLISH, query=("Description",), status=201, answer=bce_shapes.FUNCTION)
_VERSIONS = Detail(query=shapes.PAGE, answer=bce_shapes.VERSIONS)

ROUTES = (
    Route("POST", _FUNCTION + "/invocations", invoke, BCE, INVOKE_BODY, detail=_INVOKE),
    Route("POST", _FUNCTIONS, create_function, BCE, PACKAGE_BODY, detail=_CREATE),
    Route("GET", _FUNCTIONS, list_functions, BCE, detail=_LIST),
    Route("GET", _FUNCTION, get_function, BCE, detail=_GET),
    Route("DELETE", _FUNCTION, delete_function, BCE, detail=_DELETE),
    Route("GET", _FUNCTION + "/configuration", get_configuration, BCE, detail=_GET_CONFIGURATION),
    Route("PUT", _FUNCTION + "/configuration", update_configuration, BCE, detail=_UPDATE_CONFIGURATION),
    Route("PUT", _FUNCTION + "/code", update_code, BCE, PACKAGE_BODY, detail=_UPDATE_CODE),
    Route("POST", _FUNCTION + "/versions", publish_version, BCE, detail=_PUBLISH),
    Route("GET", _FUNCTION + "/versions", list_versions, BCE, detail=_VERSIONS),
)
