"""Concurrency in AWS's API: reserved for a function, provisioned for a version or alias."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from alcove.api.body import field, number, read_object
from alcove.api.context import Call, answer
from alcove.api.dialect import AWS
from alcove.api.router import Route
from alcove.api.schema import NUMBER, Detail, object_of
from alcove.errors import InvalidRequest
from alcove.functions.concurrency import NoProvisionedConcurrency
from alcove.functions.provisioning import Allocation
from alcove.gateway.message import Response


async def put_reserved(call: Call, name: str) -> Response:
    calls = field(read_object(call.request), "ReservedConcurrentExecutions", int)
    if calls is None:
        raise InvalidRequest("'ReservedConcurrentExecutions' is required.")
    await call.faces.services.concurrency.reserve(call.tenant, call.reference(name).name, calls)
    return answer({"ReservedConcurrentExecutions": calls}, 200, call.request_id)


async def get_reserved(call: Call, name: str) -> Response:
    calls = await call.faces.services.concurrency.reserved(call.tenant, call.reference(name).name)
    return answer({} if calls is None else {"ReservedConcurrentExecutions": calls}, 200, call.request_id)


async def delete_reserved(call: Call, name: str) -> Response:
    await call.faces.services.concurrency.reserve(call.tenant, call.reference(name).name, None)
    return Response(204, {"x-amzn-RequestId": call.request_id})


def _describe(found: Allocation) -> dict[str, Any]:
    moment = datetime.fromtimestamp(found.modified_ms / 1000, UTC)
    document = {
        "RequestedProvisionedConcurrentExecutions": found.requested,
        "AllocatedProvisionedConcurrentExecutions": found.allocated,
        "AvailableProvisionedConcurrentExecutions": found.available,
        "Status": found.status,
        "LastModified": f"{moment:%Y-%m-%dT%H:%M:%S}+0000",
    }
    if found.reason:
        document["StatusReason"] = found.reason
    return document


async def put_provisioned(call: Call, name: str) -> Response:
    calls = field(read_object(call.request), "ProvisionedConcurrentExecutions", int)
    if calls is None:
        raise InvalidRequest("'ProvisionedConcurrentExecutions' is required.")
    reference = call.reference(name, call.request.query.get("Qualifier"))
    found = await call.faces.services.concurrency.provision(
        call.tenant, reference.name, reference.qualifier or "", calls
    )
    return answer(_describe(found), 202, call.request_id)


async def get_provisioned(call: Call, name: str) -> Response:
    """One configuration, or with ``List=ALL`` a page of the function's."""
    query = call.request.query
    if query.get("List") == "ALL":
        return await _list_provisioned(call, name)
    reference = call.reference(name, query.get("Qualifier"))
    found = await call.faces.services.concurrency.provisioned(call.tenant, reference.name)
    one = found.get(reference.qualifier or "")
    if one is None:
        raise NoProvisionedConcurrency("No Provisioned Concurrency Config found for this function")
    return answer(_describe(one), 200, call.request_id)


async def _list_provisioned(call: Call, name: str) -> Response:
    query, reference = call.request.query, call.reference(name)
    function = await call.function(reference.name)
    found = sorted((await call.faces.services.concurrency.provisioned(call.tenant, reference.name)).items())
    limit = max(1, min(50, number(query, "MaxItems", 50)))
    page = [(qualifier, one) for qualifier, one in found if qualifier > query.get("Marker", "")]
    configs = [
        {"FunctionArn": f"{function.function_arn}:{qualifier}", **_describe(one)} for qualifier, one in page[:limit]
    ]
    document: dict[str, Any] = {"ProvisionedConcurrencyConfigs": configs}
    if len(page) > limit:
        document["NextMarker"] = page[limit - 1][0]
    return answer(document, 200, call.request_id)


async def delete_provisioned(call: Call, name: str) -> Response:
    reference = call.reference(name, call.request.query.get("Qualifier"))
    await call.faces.services.concurrency.unprovision(call.tenant, reference.name, reference.qualifier or "")
    return Response(204, {"x-amzn-RequestId": call.request_id})


_RESERVED = object_of("ReservedConcurrentExecutions", ReservedConcurrentExecutions=NUMBER)
_PROVISIONED = object_of("ProvisionedConcurrentExecutions", ProvisionedConcurrentExecutions=NUMBER)
_QUALIFIER = ("Qualifier",)
_PATH = "/2019-09-30/functions/{name}/provisioned-concurrency"
_PAGE = ("Qualifier", "List", "Marker", "MaxItems")

ROUTES = (
    Route("PUT", "/2017-10-31/functions/{name}/concurrency", put_reserved, AWS, detail=Detail(_RESERVED)),
    Route("GET", "/2019-09-30/functions/{name}/concurrency", get_reserved, AWS),
    Route("DELETE", "/2017-10-31/functions/{name}/concurrency", delete_reserved, AWS, detail=Detail(status=204)),
    Route("PUT", _PATH, put_provisioned, AWS, detail=Detail(_PROVISIONED, _QUALIFIER, status=202)),
    Route("GET", _PATH, get_provisioned, AWS, detail=Detail(query=_PAGE)),
    Route("DELETE", _PATH, delete_provisioned, AWS, detail=Detail(query=_QUALIFIER, status=204)),
)
