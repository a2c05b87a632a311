"""S3's calls on objects: put, get, copied, removed."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from email.utils import formatdate
from typing import Any
from urllib.parse import unquote

from alcove.api import s3_conditions, s3_xml
from alcove.api.s3_call import S3Call
from alcove.buckets import names
from alcove.buckets.contents import Expected, Late
from alcove.buckets.errors import BadArgument, InvalidRange, MetadataTooLarge
from alcove.buckets.model import METADATA_LIMIT, Attributes, StoredObject
from alcove.buckets.service import Arrival, Opened
from alcove.gateway.message import Response
from alcove.gateway.streaming import StreamResponse

_KEPT = ("content-type", "content-encoding", "content-language", "content-disposition", "cache-control", "expires")
_META = "x-amz-meta-"
_DEFAULT_TYPE = "binary/octet-stream"


async def put_object(call: S3Call) -> Response:
    if_none = call.header("if-none-match")
    if if_none not in ("", "*"):
        raise BadArgument("If-None-Match of a PUT must be *")
    made = await call.service.put(
        call.tenant,
        call.bucket,
        call.key,
        call.arrival(),
        attributes(call.request.headers),
        call.cause,
        if_none_match=bool(if_none),
        if_match=call.header("if-match").strip('"'),
    )
    return Response(200, {"ETag": f'"{made.etag}"', **_checksums(made)})


async def get_object(call: S3Call) -> Response:
    """The answer keeps the object open until it is sent."""
    stack = AsyncExitStack()
    try:
        opened = await stack.enter_async_context(call.service.open_object(call.tenant, call.bucket, call.key))
        response, span = _described(call, opened.object)
    except BaseException:
        await stack.aclose()
        raise

    response.content, response.close = opened.read(*span), stack.aclose
    return response


async def head_object(call: S3Call) -> Response:
    return _described(call, await call.service.head(call.tenant, call.bucket, call.key))[0]


async def delete_object(call: S3Call) -> Response:
    await call.service.delete(call.tenant, call.bucket, [names.check_key(call.key)], call.cause)
    return Response(204)


async def copy_object(call: S3Call) -> Response:
    directive = call.header("x-amz-metadata-directive", "COPY")
    async with AsyncExitStack() as stack:
        source = await open_source(call, stack)
        kept = source.object.attributes if directive == "COPY" else attributes(call.request.headers)
        made = await call.service.put(
            call.tenant,
            call.bucket,
            call.key,
            again(source, 0, source.object.size),
            kept,
            call.cause,
            event="s3:ObjectCreated:Copy",
        )
    fields = [("LastModified", s3_xml.stamp(made.modified_ms)), ("ETag", f'"{made.etag}"')]
    return s3_xml.document("CopyObjectResult", fields)


async def open_source(call: S3Call, stack: AsyncExitStack) -> Opened:
    """The object that ``x-amz-copy-source`` names, one of the caller's own; ``stack`` lets go of it."""
    bucket, _, key = unquote(call.header("x-amz-copy-source").partition("?")[0]).removeprefix("/").partition("/")
    if not bucket or not key:
        raise BadArgument("Copy Source must mention the source bucket and key: sourcebucket/sourcekey")
    opened = await stack.enter_async_context(call.service.open_object(call.tenant, bucket, key))
    s3_conditions.check(call.request.headers, opened.object, prefix="x-amz-copy-source-")
    return opened


def again(source: Opened, start: int, length: int) -> Arrival:
    """What is stored, as if a client sent it."""
    return Arrival(source.read(start, length), Expected(length), frozenset(), Late())


def attributes(headers: Mapping[str, str]) -> Attributes:
    """What is kept of a request's headers. Raises ``MetadataTooLarge``."""
    kept = {name: headers[name] for name in _KEPT if name in headers}
    encodings = [one.strip() for one in kept.pop("content-encoding", "").split(",")]
    encoding = ",".join(one for one in encodings if one and one != "aws-chunked")
    if encoding:
        kept["content-encoding"] = encoding
    metadata = {name.removeprefix(_META): headers[name] for name in headers if name.startswith(_META)}
    size = sum(len(name) + len(value) for name, value in metadata.items())
    if size > METADATA_LIMIT or sum(map(len, kept.values())) > 2 * METADATA_LIMIT:
        raise MetadataTooLarge("Your metadata headers exceed the maximum allowed metadata size")
    return Attributes(kept, metadata)


def _described(call: S3Call, found: StoredObject) -> tuple[StreamResponse, tuple[int, int]]:
    """The head of an answer, and which part of the object (start, length) it carries."""
    s3_conditions.check(call.request.headers, found)
    headers = {
        "Content-Type": _DEFAULT_TYPE,
        "ETag": f'"{found.etag}"',
        "Last-Modified": formatdate(found.modified_ms // 1000, usegmt=True),
        "Accept-Ranges": "bytes",
        **{name.title(): value for name, value in found.attributes.headers.items()},
        **{f"x-amz-meta-{name}": value for name, value in found.attributes.metadata.items()},
        **_overridden(call),
    }
    part = None
    if "range" in call.request.headers:
        try:
            part = s3_conditions.parse_range(call.header("range"), found.size)
        except InvalidRange:
            raise InvalidRange(f"The requested range is not satisfiable: the object has {found.size} bytes") from None
    if part is None:
        if call.header("x-amz-checksum-mode").upper() == "ENABLED":
            headers |= _checksums(found)
        return StreamResponse(200, headers, length=found.size), (0, found.size)
    start, length = part
    headers["Content-Range"] = f"bytes {start}-{start + length - 1}/{found.size}"
    return StreamResponse(206, headers, length=length), part


def _overridden(call: S3Call) -> dict[str, str]:
    """Headers that the query of a signed request asks for, such as ``response-content-type``."""
    query: Mapping[str, Any] = call.request.query
    return {name.title(): query[f"response-{name}"] for name in _KEPT if f"response-{name}" in query}


def _checksums(found: StoredObject) -> dict[str, str]:
    return {f"x-amz-checksum-{name}": value for name, value in found.attributes.checksums.items()}
