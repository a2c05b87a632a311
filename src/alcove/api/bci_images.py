"""Baidu's BCI API: caches of images (/v1/imageCache and /v2/imageCache are the same)."""

from __future__ import annotations

from typing import Any

from alcove.api import bci_request as bci
from alcove.api import bci_shapes
from alcove.api.bce import REQUEST_ID
from alcove.api.bci_manifest import secrets
from alcove.api.body import number
from alcove.api.context import Call, answer
from alcove.api.dialect import BCE
from alcove.api.router import Route
from alcove.api.schema import Detail
from alcove.errors import InvalidRequest
from alcove.gateway.message import Response
from alcove.instances.status import moment
from alcove.store.image_caches import CREATING, FAILED, READY, CacheRow

PAGE_LIMIT = 1000
_DEFAULT = 10
_NAME_LIMIT = 252
# The service tells a cache's state in these words: made, failed, being made.
STATES = {READY: "创建成功", FAILED: "创建失败", CREATING: "创建中"}


async def create_image_cache(call: Call) -> Response:
    """Fetch images ahead of the instances that will use them."""
    asked = bci.read(call.request, bci.CreateImageCache)
    if not 1 <= len(asked.image_cache_name) <= _NAME_LIMIT:
        raise InvalidRequest(f"'imageCacheName' must have 1 to {_NAME_LIMIT} characters.")
    images = [_image(one) for one in asked.origin_images]
    made = await call.faces.services.instances.caches.create(
        call.tenant, asked.image_cache_name, images, secrets(asked.image_registry_secrets)
    )
    return _answer(call, {"imageCacheId": made.cache_id})


def _image(one: bci.OriginImage) -> str:
    version = one.origin_image_version
    if not version:
        return one.origin_image_address
    return f"{one.origin_image_address}{'@' if version.startswith('sha256:') else ':'}{version}"


async def list_image_caches(call: Call) -> Response:
    """The newest first; ``pageNo`` from 1 on, of ``pageSize`` caches."""
    query = call.request.query
    size = min(number(query, "pageSize", _DEFAULT) or _DEFAULT, PAGE_LIMIT)
    page = number(query, "pageNo", 1) or 1
    found, total = await call.faces.services.instances.caches.list(call.tenant, skip=(page - 1) * size, limit=size)
    document = {"totalCount": total, "pageNo": page, "pageSize": size, "result": [_describe(row) for row in found]}
    return _answer(call, document)


def _describe(row: CacheRow) -> dict[str, Any]:
    return {
        "imageCacheId": row.cache_id,
        "imageCacheName": row.name,
        "originImages": row.names,
        "status": STATES[row.state],
        "message": row.message,
        "progress": 100 * row.done // len(row.names),
        "expiredTime": "",
        "createdTime": moment(row.created_ms),
        "lastestMatchedTime": moment(row.matched_ms) if row.matched_ms else "",
    }


async def batch_delete_image_caches(call: Call) -> Response:
    """Delete all that are named, or none where one is not there."""
    ids = bci.read(call.request, bci.BatchDeleteCaches).image_cache_ids
    await call.faces.services.instances.caches.delete(call.tenant, ids)
    return _answer(call, {"imageCacheIds": ids})


def _answer(call: Call, document: Any) -> Response:
    return answer(document, 200, call.request_id, REQUEST_ID)


_CREATE = Detail(bci_shapes.CREATE_CACHE, answer=bci_shapes.CREATED_CACHE)
_LIST = Detail(query=("pageNo", "pageSize"), answer=bci_shapes.CACHES)
_DELETE = Detail(bci_shapes.BATCH_CACHES, answer=bci_shapes.DELETED_CACHES)


def _routes(version: str) -> tuple[Route, ...]:
    every = f"/{version}/imageCache"
    return (
        Route("POST", every, create_image_cache, BCE, detail=_CREATE),
        Route("GET", every, list_image_caches, BCE, detail=_LIST),
        Route("POST", f"{every}/batchDel", batch_delete_image_caches, BCE, detail=_DELETE),
    )


ROUTES = (*_routes("v1"), *_routes("v2"))
