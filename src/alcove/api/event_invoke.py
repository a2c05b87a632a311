"""What becomes of asynchronous invocations, in AWS's API (2019-09-25)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alcove.api import aws_shapes, shapes
from alcove.api.aws_pages import following, marker_and_limit
from alcove.api.body import field, read_object
from alcove.api.context import Call, answer
from alcove.api.dialect import AWS
from alcove.api.router import Route
from alcove.api.schema import NUMBER, TEXT, Detail, object_of, page
from alcove.errors import InvalidRequest
from alcove.events.invoke_configs import InvokeConfig, KnownConfig
from alcove.gateway.message import Response


def destination(document: Mapping[str, Any], name: str) -> str | None:
    """Return the ARN at ``DestinationConfig``.``name``; "" where it is there and empty, None where it is not."""
    outer = field(document, "DestinationConfig", dict)
    inner = None if outer is None else field(outer, name, dict)
    return None if inner is None else field(inner, "Destination", str) or ""


def _config(document: Mapping[str, Any]) -> InvokeConfig:
    return InvokeConfig(
        retries=field(document, "MaximumRetryAttempts", int),
        max_age_s=field(document, "MaximumEventAgeInSeconds", int),
        on_success=destination(document, "OnSuccess"),
        on_failure=destination(document, "OnFailure"),
    )


def _describe(known: KnownConfig) -> dict[str, Any]:
    row = known.row
    document: dict[str, Any] = {
        "LastModified": row.modified_ms / 1000,
        "FunctionArn": f"{known.function.function_arn}:{row.qualifier}",
        "DestinationConfig": {
            "OnSuccess": {"Destination": row.on_success} if row.on_success else {},
            "OnFailure": {"Destination": row.on_failure} if row.on_failure else {},
        },
    }
    if row.retries is not None:
        document["MaximumRetryAttempts"] = row.retries
    if row.max_age_s is not None:
        document["MaximumEventAgeInSeconds"] = row.max_age_s
    return document


async def put_config(call: Call, name: str) -> Response:
    config = _config(read_object(call.request))
    reference = call.reference(name, call.request.query.get("Qualifier"))
    known = await call.faces.services.invoke_configs.put(call.tenant, reference, config)
    return answer(_describe(known), 200, call.request_id)


async def update_config(call: Call, name: str) -> Response:
    config = _config(read_object(call.request))
    if config == InvokeConfig():
        raise InvalidRequest("At least one of the configurations must be given.")
    reference = call.reference(name, call.request.query.get("Qualifier"))
    known = await call.faces.services.invoke_configs.put(call.tenant, reference, config, merge=True)
    return answer(_describe(known), 200, call.request_id)


async def get_config(call: Call, name: str) -> Response:
    reference = call.reference(name, call.request.query.get("Qualifier"))
    return answer(_describe(await call.faces.services.invoke_configs.get(call.tenant, reference)), 200, call.request_id)


async def delete_config(call: Call, name: str) -> Response:
    reference = call.reference(name, call.request.query.get("Qualifier"))
    await call.faces.services.invoke_configs.delete(call.tenant, reference)
    return Response(204, {"x-amzn-RequestId": call.request_id})


async def list_configs(call: Call, name: str) -> Response:
    found, marker = await call.faces.services.invoke_configs.list(
        call.tenant, call.reference(name).name, *marker_and_limit(call)
    )
    items = [_describe(known) for known in found]
    return answer({"FunctionEventInvokeConfigs": items, **following(marker)}, 200, call.request_id)


_PATH = "/2019-09-25/functions/{name}/event-invoke-config"
_DESTINATION = object_of(Destination=TEXT)
_CONFIG = object_of(
    MaximumRetryAttempts=NUMBER,
    MaximumEventAgeInSeconds=NUMBER,
    DestinationConfig=object_of(OnSuccess=_DESTINATION, OnFailure=_DESTINATION),
)
_PUT = Detail(_CONFIG, query=shapes.QUALIFIER, answer=aws_shapes.EVENT_INVOKE)
_LIST = Detail(query=shapes.PAGE, answer=page("FunctionEventInvokeConfigs", aws_shapes.EVENT_INVOKE))

ROUTES = (
    Route("PUT", _PATH, put_config, AWS, detail=_PUT),
    Route("POST", _PATH, update_config, AWS, detail=_PUT),
    Route("GET", _PATH, get_config, AWS, detail=Detail(query=shapes.QUALIFIER, answer=aws_shapes.EVENT_INVOKE)),
    Route("DELETE", _PATH, delete_config, AWS, detail=Detail(query=shapes.QUALIFIER, status=204)),
    Route("GET", _PATH + "/list", list_configs, AWS, detail=_LIST),
)
