"""Baidu's BCI API: container instances, for the stock Baidu SDKs (/v1/instance and /v2/instance are the same).

An instance is a pod (``instances``): what is made here is seen by ``alcove ps`` and by /alcove/v1/pods, and the other
way round. What differs from Baidu's service is in docs/bci.md.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from typing import Any

import msgspec

from alcove.api import bci_request as bci
from alcove.api import bci_shapes, bci_view
from alcove.api.bce import REQUEST_ID
from alcove.api.bci_manifest import secrets, to_pod
from alcove.api.body import number, read_object
from alcove.api.context import Call, answer
from alcove.api.dialect import BCE
from alcove.api.router import Route
from alcove.api.schema import Detail
from alcove.errors import InvalidRequest
from alcove.gateway.message import Response
from alcove.instances import listing
from alcove.instances.intake import Order, Token
from alcove.instances.manifest import MANIFEST_LIMIT
from alcove.instances.service import Instance
from alcove.store.instance_lists import Filter

DEFAULT_KEYS = 10
TOKEN_LIMIT = 64


async def create_instance(call: Call) -> Response:
    """Make an instance, or as many as ``replicas`` (ours) says; with the same clientToken only once."""
    document = read_object(call.request)
    asked = bci.convert(document, bci.CreateInstance)
    count = 1 if asked.replicas is None else asked.replicas
    order = Order(
        replicas=count,
        token=_token(call, document),
        secrets=secrets(asked.image_registry_credentials),
        rename=True,
        group=str(uuid.uuid4()) if count > 1 else "",
    )
    service = call.faces.services.instances
    made = await service.create_all(call.tenant, to_pod(asked), order, operator=call.operator)
    told: dict[str, Any] = {"instanceId": made.ids[0]}
    return _answer(call, told if asked.replicas is None else {**told, "instanceIds": list(made.ids)})


def _token(call: Call, document: dict[str, Any]) -> Token | None:
    text = call.request.query.get("clientToken") or document.get("clientToken") or ""
    if not isinstance(text, str) or not text.isascii() or len(text) > TOKEN_LIMIT:
        raise InvalidRequest(f"'clientToken' must be at most {TOKEN_LIMIT} characters of ASCII.")
    if not text:
        return None
    plain = json.dumps({key: value for key, value in document.items() if key != "clientToken"}, sort_keys=True)
    return Token(text, hashlib.sha256(plain.encode()).hexdigest())


async def list_instances(call: Call) -> Response:
    """The newest first, a page at a time; with a keyword those whose name (or id) has it."""
    query = call.request.query
    marker, limit = query.get("marker", ""), min(number(query, "maxKeys", DEFAULT_KEYS) or DEFAULT_KEYS, 1000)
    page = await listing.page(call.faces.services.instances.database, call.tenant, marker, limit, _filter(call))
    document: dict[str, Any] = {
        "marker": marker,
        "isTruncated": bool(page.next_marker),
        "maxKeys": limit,
        "result": [bci_view.summary(row) for row in page.rows],
    }
    if page.next_marker:
        document["nextMarker"] = page.next_marker
    return Response(
        200, {"Content-Type": "application/json", REQUEST_ID: call.request_id}, msgspec.json.encode(document)
    )


def _filter(call: Call) -> Filter:
    kind, keyword = call.request.query.get("keywordType") or "name", call.request.query.get("keyword", "")
    if kind == "name":
        return Filter(name=keyword.lower())
    if kind == "podId":
        return Filter(instance=keyword)
    raise InvalidRequest("'keywordType' must be name or podId.")


async def get_instance(call: Call, instance_id: str) -> Response:
    service = call.faces.services.instances
    (row,) = await listing.find_all(service.database, call.tenant, [instance_id])
    events = await service.events_of(row.uid)
    return _answer(call, {"instance": bci_view.detail(Instance(row), events)})


async def delete_instance(call: Call, instance_id: str) -> Response:
    """Stop and remove an instance; it can be seen until that is done."""
    return await _delete(call, [instance_id])


async def batch_delete_instances(call: Call) -> Response:
    """Delete all that are named, or none where one is not there."""
    return await _delete(call, bci.read(call.request, bci.BatchDelete).instance_ids)


async def _delete(call: Call, ids: list[str]) -> Response:
    service = call.faces.services.instances
    found = await listing.find_all(service.database, call.tenant, ids)
    await service.delete_rows(found)
    return _answer(call, {"instanceIds": [row.instance_id for row in found]})


def _answer(call: Call, document: Any) -> Response:
    return answer(document, 200, call.request_id, REQUEST_ID)


_LIST = Detail(query=("keywordType", "keyword", "marker", "maxKeys"), answer=bci_shapes.INSTANCES)
_CREATE = Detail(bci_shapes.CREATE, query=("clientToken",), answer=bci_shapes.CREATED)
_BATCH = Detail(bci_shapes.BATCH, answer=bci_shapes.DELETED)
_DELETE = Detail(query=("relatedReleaseFlag",), answer=bci_shapes.DELETED)


def _routes(version: str) -> tuple[Route, ...]:
    every = f"/{version}/instance"
    one = f"{every}/{{instance_id}}"
    return (
        Route("POST", every, create_instance, BCE, MANIFEST_LIMIT, detail=_CREATE),
        Route("GET", every, list_instances, BCE, detail=_LIST),
        Route("DELETE", every, batch_delete_instances, BCE, detail=_BATCH),
        Route("POST", f"{every}/batchDel", batch_delete_instances, BCE, detail=_BATCH),
        Route("GET", one, get_instance, BCE, detail=Detail(answer=bci_shapes.INSTANCE)),
        Route("DELETE", one, delete_instance, BCE, detail=_DELETE),
    )


ROUTES = (*_routes("v1"), *_routes("v2"))
