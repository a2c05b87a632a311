"""Concurrency in AWS's API: reserved for a function, provisioned for a version or alias."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from alcove.api import aws_shapes, concurrency, shapes
from alcove.api.body import number
from alcove.api.context import Call, answer
from alcove.api.dialect import AWS
from alcove.api.router import Route
from alcove.api.schema import EMPTY, NUMBER, Detail, object_of
from alcove.functions.concurrency import NoProvisionedConcurrency
from alcove.functions.provisioning import Allocation
from alcove.gateway.message import Response


async def put_reserved(call: Call, name: str) -> Response:
    return answer(await concurrency.reserve(call, name), 200, call.request_id)


async def get_reserved(call: Call, name: str) -> Response:
    return answer(await concurrency.reserved(call, name), 200, call.request_id)


async def delete_reserved(call: Call, name: str) -> Response:
    await concurrency.unreserve(call, name)
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
    calls = concurrency.asked(call, "ProvisionedConcurrentExecutions")
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


_RESERVED = "/2017-10-31/functions/{name}/concurrency"
_PROVISIONED = "/2019-09-30/functions/{name}/provisioned-concurrency"
_PUT = Detail(
    object_of("ProvisionedConcurrentExecutions", ProvisionedConcurrentExecutions=NUMBER),
    needs=shapes.QUALIFIER,
    status=202,
    answer=aws_shapes.PROVISIONED,
)
_GET = Detail(query=("Qualifier", "List", *shapes.PAGE), answer=aws_shapes.PROVISIONED_OR_PAGE)

ROUTES = (
    Route("PUT", _RESERVED, put_reserved, AWS, detail=Detail(shapes.RESERVE, answer=shapes.RESERVED)),
    Route("GET", "/2019-09-30/functions/{name}/concurrency", get_reserved, AWS, detail=Detail(answer=shapes.RESERVED)),
    Route("DELETE", _RESERVED, delete_reserved, AWS, detail=EMPTY),
    Route("PUT", _PROVISIONED, put_provisioned, AWS, detail=_PUT),
    Route("GET", _PROVISIONED, get_provisioned, AWS, detail=_GET),
    Route("DELETE", _PROVISIONED, delete_provisioned, AWS, detail=Detail(needs=shapes.QUALIFIER, status=204)),
)
