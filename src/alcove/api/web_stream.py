"""Streamed answers to HTTP requests: the head from the stream's beginning, the body as it comes.

A function that says so by the type ``HTTP_INTEGRATION`` begins its answer with a JSON object (statusCode, headers,
cookies) and eight NULs, as AWS's runtimes do; else the answer is a 200 of the type that the function gave.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing

from alcove.api.web_answer import BadAnswer, make_head
from alcove.functions.streaming import StreamedCall
from alcove.gateway.message import Response

HTTP_INTEGRATION = "application/vnd.awslambda.http-integration-response"
_END_OF_HEAD = bytes(8)
_HEAD_LIMIT = 32 * 1024


class Broken(Exception):
    """The function failed in the midst of its answer."""


def make_whole(content_type: str, payload: bytes) -> Response:
    """Return the response of a streamed answer that was put together. Raises ``BadAnswer``."""
    if content_type != HTTP_INTEGRATION:
        return Response(200, {"Content-Type": content_type}, payload)
    head, found, body = payload.partition(_END_OF_HEAD)
    if not found:
        raise BadAnswer("the answer's head has no end")
    response = _head(head)
    response.body = body
    return response


async def make_streamed(call: StreamedCall) -> Response:
    """Return the response of a call that has begun to stream. Raises ``BadAnswer``."""
    content_type = call.stream.content_type or ""
    source = call.parts()
    if content_type != HTTP_INTEGRATION:
        return Response(200, {"Content-Type": content_type}, parts=_parts(call, b"", source))
    try:
        head, first = await _split(source)
        response = _head(head)
    except BaseException:
        await source.aclose()
        raise
    response.parts = _parts(call, first, source)
    return response


async def _split(source: AsyncGenerator[bytes, None]) -> tuple[bytes, bytes]:
    """Read the head; return it and what came after it."""
    data = bytearray()
    async for part in source:
        data += part
        head, found, rest = bytes(data).partition(_END_OF_HEAD)
        if found:
            return head, rest
        if len(data) > _HEAD_LIMIT:
            break
    raise BadAnswer("the answer's head has no end")


def _head(data: bytes) -> Response:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise BadAnswer("the answer's head is not JSON") from None
    if not isinstance(document, dict):
        raise BadAnswer("the answer's head is not an object")
    return make_head(document)


async def _parts(call: StreamedCall, first: bytes, source: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(source):
        if first:
            yield first
        async for data in source:
            yield data
    result = await call.result()
    if result.error is not None:
        raise Broken("the function failed in the midst of its answer")
