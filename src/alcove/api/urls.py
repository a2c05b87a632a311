"""Function URLs in the AWS Lambda API (2021-10-31)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from alcove.api import aws_shapes, shapes
from alcove.api.aws_pages import following, marker_and_limit
from alcove.api.body import field, read_object
from alcove.api.context import Call, answer
from alcove.api.cors_rules import CORS, describe_cors, read_cors
from alcove.api.dialect import AWS
from alcove.api.router import Route
from alcove.api.schema import Detail, object_of, one_of, page
from alcove.api.web import url_of
from alcove.errors import InvalidRequest
from alcove.gateway.message import Response
from alcove.triggers.endpoint import Auth, Mode, check_auth, check_mode
from alcove.triggers.urls import FunctionUrl, UrlChange

_PATH = "/2021-10-31/functions/{name}/url"


def _describe(call: Call, url: FunctionUrl) -> dict[str, Any]:
    document: dict[str, Any] = {
        "FunctionUrl": url_of(url.row.id, call.faces.service.settings.region, call.faces.host.endpoint()),
        "FunctionArn": url.function_arn,
        "AuthType": url.row.auth,
        "InvokeMode": url.row.mode,
        "CreationTime": _moment(url.row.created_ms),
        "LastModifiedTime": _moment(url.row.modified_ms),
    }
    if url.cors is not None:
        document["Cors"] = describe_cors(url.cors)
    return document


def _moment(moment_ms: int) -> str:
    return f"{datetime.fromtimestamp(moment_ms / 1000, UTC):%Y-%m-%dT%H:%M:%S.%fZ}"


def _change(document: Mapping[str, Any]) -> UrlChange:
    auth, mode, given = (field(document, "AuthType", str), field(document, "InvokeMode", str), document.get("Cors"))
    return UrlChange(
        auth=None if auth is None else check_auth(auth),
        mode=None if mode is None else check_mode(mode),
        cors=read_cors(field(document, "Cors", dict)),
        # An empty object takes the rules away.
        no_cors=given is not None and not given,
    )


async def create_url(call: Call, name: str) -> Response:
    document = read_object(call.request)
    change = _change(document)
    if change.auth is None:
        raise InvalidRequest("'AuthType' is required.")
    reference = call.reference(name, call.request.query.get("Qualifier"))
    made = await call.faces.services.urls.create(call.tenant, reference.name, reference.qualifier or "", change)
    return answer(_describe(call, made), 201, call.request_id)


async def get_url(call: Call, name: str) -> Response:
    reference = call.reference(name, call.request.query.get("Qualifier"))
    found = await call.faces.services.urls.get(call.tenant, reference.name, reference.qualifier or "")
    return answer(_describe(call, found), 200, call.request_id)


async def update_url(call: Call, name: str) -> Response:
    change = _change(read_object(call.request))
    reference = call.reference(name, call.request.query.get("Qualifier"))
    changed = await call.faces.services.urls.update(call.tenant, reference.name, reference.qualifier or "", change)
    return answer(_describe(call, changed), 200, call.request_id)


async def delete_url(call: Call, name: str) -> Response:
    reference = call.reference(name, call.request.query.get("Qualifier"))
    await call.faces.services.urls.delete(call.tenant, reference.name, reference.qualifier or "")
    return Response(204, {"x-amzn-RequestId": call.request_id})


async def list_urls(call: Call, name: str) -> Response:
    found, more = await call.faces.services.urls.list(call.tenant, call.reference(name).name, *marker_and_limit(call))
    items = [_describe(call, url) for url in found]
    return answer({"FunctionUrlConfigs": items, **following(more)}, 200, call.request_id)


_URL = {"AuthType": one_of(*Auth), "InvokeMode": one_of(*Mode), "Cors": CORS}
_CREATE = Detail(object_of("AuthType", **_URL), shapes.QUALIFIER, status=201, answer=aws_shapes.URL)
_GET = Detail(query=shapes.QUALIFIER, answer=aws_shapes.URL)
_UPDATE = Detail(object_of(**_URL), shapes.QUALIFIER, answer=aws_shapes.URL)
_LIST = Detail(query=shapes.PAGE, answer=page("FunctionUrlConfigs", aws_shapes.URL))

ROUTES = (
    Route("POST", _PATH, create_url, AWS, detail=_CREATE),
    Route("GET", _PATH, get_url, AWS, detail=_GET),
    Route("PUT", _PATH, update_url, AWS, detail=_UPDATE),
    Route("DELETE", _PATH, delete_url, AWS, detail=Detail(query=shapes.QUALIFIER, status=204)),
    Route("GET", "/2021-10-31/functions/{name}/urls", list_urls, AWS, detail=_LIST),
)
