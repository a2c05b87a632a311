"""Instances, in Alcove's own API: /alcove/v1/pods. Manifests and status are as Kubernetes' Pods."""

from __future__ import annotations

from typing import Any

import msgspec

from alcove.api.body import field, read_object
from alcove.api.context import Call, answer
from alcove.api.dialect import AWS
from alcove.api.router import Route
from alcove.api.schema import NUMBER, TEXT, Detail, Schema, list_of, object_of, one_of, or_null, record
from alcove.errors import InvalidRequest
from alcove.gateway.message import Response
from alcove.instances import manifest, replicas
from alcove.instances.manifest import MANIFEST_LIMIT
from alcove.instances.status import moment
from alcove.instances.tier import PodTier
from alcove.store.instances import PodRow


class _Outline(msgspec.Struct):
    """Of a manifest; what is told as it stands is not read."""

    spec: msgspec.Raw
    metadata: dict[str, Any] = {}


_OUTLINE = msgspec.json.Decoder(_Outline)
_PENDING = msgspec.Raw(b'{"phase":"Pending"}')


def describe(row: PodRow) -> dict[str, Any]:
    """Return an instance as kubectl would show it, and our own facts in ``alcove``; for msgspec's encoder."""
    document = _OUTLINE.decode(row.manifest)
    metadata = {
        **document.metadata,
        "name": row.name,
        "namespace": row.tenant_id,
        "uid": row.uid,
        "creationTimestamp": moment(row.created_ms),
    }
    if row.deleted_ms:
        metadata["deletionTimestamp"] = moment(row.deleted_ms)
        metadata["deletionGracePeriodSeconds"] = row.grace_s
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": document.spec,
        "status": _PENDING if row.status == "{}" else msgspec.Raw(row.status.encode()),
        "alcove": {"isolation": row.isolation},
    }


async def create_pod(call: Call) -> Response:
    """Make an instance of a Kubernetes Pod manifest; it is written down when this is answered."""
    pod = manifest.read(read_object(call.request))
    chosen = call.request.query.get("isolation", "")
    if chosen and chosen not in list(PodTier):
        raise InvalidRequest(f"The isolation must be one of {', '.join(PodTier)}.")
    made = await call.faces.services.instances.create(
        call.tenant, pod, operator=call.operator, isolation=PodTier(chosen) if chosen else None
    )
    return _answer(call, describe(made.row), 201)


async def list_pods(call: Call) -> Response:
    """Instances by name, a page at a time."""
    query = call.request.query
    limit = whole(query.get("limit", ""), "limit") or 100
    found = await call.faces.services.instances.list(call.tenant, after=query.get("after", ""), limit=limit)
    return _answer(call, {"items": [describe(one.row) for one in found]})


def _answer(call: Call, document: Any, status: int = 200) -> Response:
    headers = {"Content-Type": "application/json", "x-amzn-RequestId": call.request_id}
    return Response(status, headers, msgspec.json.encode(document))


async def get_pod(call: Call, name: str) -> Response:
    """An instance; the operator is told too how far the fetch of its image is."""
    service = call.faces.services.instances
    one = await service.get(call.tenant, name)
    document = describe(one.row)
    if call.operator and (pulling := service.pulling(one)) is not None:
        image, progress = pulling
        document["alcove"]["pulling"] = {"image": image, "done": progress.done, "total": progress.total}
    return _answer(call, document)


async def delete_pod(call: Call, name: str) -> Response:
    """Have an instance stopped and removed; it can be seen until that is done."""
    grace_s = whole(call.request.query.get("grace", ""), "grace")
    gone = await call.faces.services.instances.delete(call.tenant, name, grace_s=grace_s)
    return _answer(call, describe(gone.row), 202)


async def pod_events(call: Call, name: str) -> Response:
    """What happened to an instance, the oldest first."""
    found = await call.faces.services.instances.events(call.tenant, name)
    items = [
        {
            "type": one.type,
            "reason": one.reason,
            "message": one.message,
            "count": one.count,
            "firstTimestamp": moment(one.first_ms),
            "lastTimestamp": moment(one.last_ms),
        }
        for one in found
    ]
    return answer({"items": items}, 200, call.request_id)


async def pod_stats(call: Call, name: str) -> Response:
    """What an instance's containers use now, and what went through its interface."""
    found = await call.faces.services.instances.stats(call.tenant, name)
    items = [
        {
            "name": one.name,
            "cpuNanoseconds": one.cpu_ns,
            "memoryBytes": one.memory_bytes,
            "diskBytes": one.disk_bytes,
        }
        for one in found.containers
    ]
    network = {"receivedBytes": found.traffic.received_bytes, "sentBytes": found.traffic.sent_bytes}
    return answer({"items": items, "network": network}, 200, call.request_id)


async def scale_pod(call: Call, name: str) -> Response:
    """Make copies of an instance, or delete some of them, until there are ``replicas``."""
    count = field(read_object(call.request), "replicas", int)
    if count is None:
        raise InvalidRequest("'replicas' is required.")
    service = call.faces.services.instances
    found = await replicas.scale(service, call.tenant, name, count, operator=call.operator)
    return _answer(call, {"items": [describe(row) for row in found]})


def whole(text: str, name: str) -> int | None:
    """Return a number of the query, None where it is not there. Raises ``InvalidRequest``."""
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise InvalidRequest(f"'{name}' must be a whole number.")
    return int(text)


_OBJECT: Schema = {"type": "object"}
POD = record(
    apiVersion=TEXT,
    kind=one_of("Pod"),
    metadata=_OBJECT,
    spec=_OBJECT,
    status=object_of(phase=TEXT, podIP=or_null(TEXT)),
    alcove=record(
        {"pulling": record(image=TEXT, done=NUMBER, total=NUMBER)},
        isolation=one_of(*PodTier),
    ),
)
_EVENT = record(type=TEXT, reason=TEXT, message=TEXT, count=NUMBER, firstTimestamp=TEXT, lastTimestamp=TEXT)
_MANIFEST = object_of("spec", apiVersion=TEXT, kind=TEXT, metadata=_OBJECT, spec=_OBJECT)
_STATS = record(name=TEXT, cpuNanoseconds=NUMBER, memoryBytes=NUMBER, diskBytes=NUMBER)
_USED = record(items=list_of(_STATS), network=record(receivedBytes=NUMBER, sentBytes=NUMBER))
_PODS = "/alcove/v1/pods"

ROUTES = (
    Route(
        "POST",
        _PODS,
        create_pod,
        AWS,
        MANIFEST_LIMIT,
        detail=Detail(_MANIFEST, query=("isolation",), status=201, answer=POD),
    ),
    Route("GET", _PODS, list_pods, AWS, detail=Detail(query=("after", "limit"), answer=record(items=list_of(POD)))),
    Route("GET", f"{_PODS}/{{name}}", get_pod, AWS, detail=Detail(answer=POD)),
    Route("DELETE", f"{_PODS}/{{name}}", delete_pod, AWS, detail=Detail(query=("grace",), status=202, answer=POD)),
    Route(
        "PUT",
        f"{_PODS}/{{name}}/replicas",
        scale_pod,
        AWS,
        detail=Detail(object_of("replicas", replicas=NUMBER), answer=record(items=list_of(POD))),
    ),
    Route("GET", f"{_PODS}/{{name}}/stats", pod_stats, AWS, detail=Detail(answer=_USED)),
    Route("GET", f"{_PODS}/{{name}}/events", pod_events, AWS, detail=Detail(answer=record(items=list_of(_EVENT)))),
)
