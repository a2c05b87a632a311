"""Images of containers, in Alcove's own API: the operator's, for all tenants share them."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from alcove.api.body import field, read_object
from alcove.api.context import Call, answer, require_operator
from alcove.api.dialect import AWS
from alcove.api.router import Route
from alcove.api.schema import ANYTHING, EMPTY, NUMBER, TEXT, TEXTS, Detail, list_of, object_of, record
from alcove.errors import AlcoveError, InvalidRequest
from alcove.gateway.message import Response
from alcove.instances.fetching import Progress
from alcove.instances.images import ImageStore


def _store(call: Call) -> ImageStore:
    require_operator(call)
    return ImageStore(call.faces.services.instances.runtime)


async def list_images(call: Call) -> Response:
    """Images that are here, and the disk that they and containers take."""
    store = _store(call)
    items = [
        {"id": one["id"], "tags": one["repo_tags"], "digests": one["repo_digests"], "size": one["size"]}
        for one in await store.list()
    ]
    return answer({"items": items, "disk": await store.disk_bytes()}, 200, call.request_id)


async def pull_image(call: Call) -> Response:
    """Fetch an image; a line of JSON tells now and then how far it has come, the last one how it ended."""
    store = _store(call)
    name = field(read_object(call.request), "image", str)
    if not name:
        raise InvalidRequest("'image' is required.")
    headers = {"Content-Type": "application/x-ndjson", "x-amzn-RequestId": call.request_id}
    return Response(200, headers, parts=_lines(store.pull(name)))


async def _lines(steps: AsyncGenerator[Progress | str, None]) -> AsyncGenerator[bytes, None]:
    def line(**document: Any) -> bytes:
        return json.dumps(document).encode() + b"\n"

    async with aclosing(steps):
        try:
            async for step in steps:
                if isinstance(step, Progress):
                    yield line(done=step.done, total=step.total)
                else:
                    yield line(id=step)
        except AlcoveError as error:
            # There is no status left to say it with.
            yield line(error=str(error), hint=error.hint)


async def remove_image(call: Call, name: str) -> Response:
    await _store(call).remove(name)
    return Response(204, {"x-amzn-RequestId": call.request_id})


_IMAGE = record(id=TEXT, tags=TEXTS, digests=TEXTS, size=NUMBER)
_PULL = Detail(object_of("image", image=TEXT), answer=ANYTHING, media="application/x-ndjson")

ROUTES = (
    Route(
        "GET", "/alcove/v1/images", list_images, AWS, detail=Detail(answer=record(items=list_of(_IMAGE), disk=NUMBER))
    ),
    Route("POST", "/alcove/v1/images", pull_image, AWS, detail=_PULL),
    Route("DELETE", "/alcove/v1/images/{name*}", remove_image, AWS, detail=EMPTY),
)
