"""S3's calls on objects: put, get, copied, removed."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from email.utils import formatdate
from typing import Any
from urllib.parse import unquote

from alcove.api import s3_conditions, s3_xml
from alcove.api.s3_call import S3Call
from alcove.buckets import names
from alcove.buckets.checksums import DEFAULT, known
from alcove.buckets.contents import Arrival, Expected, Late
from alcove.buckets.errors import (
    BadArgument,
    BadRequest,
    InvalidPartNumber,
    InvalidRange,
    MetadataTooLarge,
    PreconditionFailed,
)
from alcove.buckets.model import DEFAULT_TYPE, METADATA_LIMIT, PART_COUNT, Attributes, StoredObject
from alcove.buckets.service import Opened
from alcove.gateway.message import Response
from alcove.gateway.streaming import StreamResponse

KEPT = ("content-type", "content-encoding", "content-language", "content-disposition", "cache-control", "expires")
_META = "x-amz-meta-"


async def put_object(call: S3Call) -> Response:
    made = await call.service.put(
        call.tenant,
        call.bucket,
        call.key,
        call.arrival(),
        attributes(call.request.headers),
        call.cause,
        **conditions(call),
    )
    return Response(200, {"ETag": f'"{made.etag}"', **checksum_headers(made)})


def conditions(call: S3Call) -> dict[str, Any]:
    """What must hold of the object that is there, for one to be put in its place. Raises ``BadArgument``."""
    if_none = call.header("if-none-match")
    if if_none not in ("", "*"):
        raise BadArgument("If-None-Match of a PUT must be *")
    return {"if_none_match": bool(if_none), "if_match": call.header("if-match").strip('"')}


async def get_object(call: S3Call) -> Response:
    """The answer keeps the object open until it is sent."""
    stack = AsyncExitStack()
    try:
        opened = await stack.enter_async_context(call.service.open_object(call.tenant, call.bucket, call.key))
        response, span = _described(call, opened)
    except BaseException:
        await stack.aclose()
        raise

    response.content, response.close = opened.read(*span), stack.aclose
    return response


async def head_object(call: S3Call) -> Response:
    async with call.service.open_object(call.tenant, call.bucket, call.key) as opened:
        return _described(call, opened)[0]


async def delete_object(call: S3Call) -> Response:
    only = {call.key: call.header("if-match").strip('"')} if "if-match" in call.request.headers else {}
    key = names.check_key(call.key)
    if await call.service.delete(call.tenant, call.bucket, [key], call.cause, only):
        raise PreconditionFailed("At least one of the pre-conditions you specified did not hold")
    return Response(204)


async def copy_object(call: S3Call) -> Response:
    directive = call.header("x-amz-metadata-directive", "COPY")
    if directive not in ("COPY", "REPLACE"):
        raise BadArgument("Unknown metadata directive.")
    algorithm = call.header("x-amz-checksum-algorithm")
    async with AsyncExitStack() as stack:
        source = await open_source(call, stack)
        kept = source.object.attributes if directive == "COPY" else attributes(call.request.headers)
        if (source.bucket, source.object.key) == (call.bucket, call.key) and directive == "COPY" and not algorithm:
            raise BadRequest(
                "This copy request is illegal because it is trying to copy an object to itself without changing it."
            )
        default = known(algorithm) if algorithm else next(iter(source.object.attributes.checksums), DEFAULT)
        made = await call.service.put(
            call.tenant,
            call.bucket,
            call.key,
            replace(again(source, 0, source.object.size), default=default),
            kept,
            replace(call.cause, copied_from=(source.bucket, source.object.key)),
            event="s3:ObjectCreated:Copy",
            **conditions(call),
        )
    fields = [("LastModified", s3_xml.stamp(made.modified_ms)), ("ETag", f'"{made.etag}"'), *checksum_fields(made)]
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
    kept = {name: headers[name] for name in KEPT if name in headers}
    encodings = [one.strip() for one in kept.pop("content-encoding", "").split(",")]
    encoding = ",".join(one for one in encodings if one and one != "aws-chunked")
    if encoding:
        kept["content-encoding"] = encoding
    metadata = {name.removeprefix(_META): headers[name] for name in headers if name.startswith(_META)}
    size = sum(len(name) + len(value) for name, value in metadata.items())
    if size > METADATA_LIMIT or sum(map(len, kept.values())) > 2 * METADATA_LIMIT:
        raise MetadataTooLarge("Your metadata headers exceed the maximum allowed metadata size")
    return Attributes(kept, metadata)


def _described(call: S3Call, opened: Opened) -> tuple[StreamResponse, tuple[int, int]]:
    """The head of an answer, and which part of the object (start, length) it carries."""
    found = opened.object
    s3_conditions.check(call.request.headers, found)
    headers = {
        "Content-Type": DEFAULT_TYPE,
        "ETag": f'"{found.etag}"',
        "Last-Modified": last_modified(found),
        "Accept-Ranges": "bytes",
        **{name.title(): value for name, value in found.attributes.headers.items()},
        **{f"x-amz-meta-{name}": value for name, value in found.attributes.metadata.items()},
        **_overridden(call),
    }
    part = _span(call, opened, headers)
    if part is None:
        if call.header("x-amz-checksum-mode").upper() == "ENABLED":
            headers |= checksum_headers(found)
        return StreamResponse(200, headers, length=found.size), (0, found.size)
    start, length = part
    if length:
        headers["Content-Range"] = f"bytes {start}-{start + length - 1}/{found.size}"
    return StreamResponse(206, headers, length=length), part


def _span(call: S3Call, opened: Opened, headers: dict[str, str]) -> tuple[int, int] | None:
    """Which part of the object is asked for, by its number or in bytes; None for all. Raises ``InvalidRange``."""
    size = opened.object.size
    if "partNumber" in call.request.query:
        if "range" in call.request.headers:
            raise BadRequest("Cannot specify both Range header and partNumber query parameter.")
        number, count = call.number("partNumber", 1, PART_COUNT + 1), len(opened.segments)
        if not 1 <= number <= count:
            raise InvalidPartNumber("The requested partnumber is not satisfiable")
        if opened.object.in_parts:
            headers["x-amz-mp-parts-count"] = str(count)
        return sum(one.size for one in opened.segments[: number - 1]), opened.segments[number - 1].size
    if "range" not in call.request.headers:
        return None
    try:
        return s3_conditions.parse_range(call.header("range"), size)
    except InvalidRange:
        raise InvalidRange(f"The requested range is not satisfiable: the object has {size} bytes") from None


def last_modified(found: StoredObject) -> str:
    return formatdate(found.modified_ms // 1000, usegmt=True)


def _overridden(call: S3Call) -> dict[str, str]:
    """Headers that the query of a signed request asks for, such as ``response-content-type``."""
    query: Mapping[str, Any] = call.request.query
    return {name.title(): query[f"response-{name}"] for name in KEPT if f"response-{name}" in query}


def checksum_headers(found: StoredObject) -> dict[str, str]:
    headers = {f"x-amz-checksum-{name}": value for name, value in found.attributes.checksums.items()}
    return {**headers, "x-amz-checksum-type": found.attributes.checksum_kind} if headers else {}


def checksum_fields(found: StoredObject) -> list[tuple[str, Any]]:
    """Elements that tell of an object's checksum."""
    fields: list[tuple[str, Any]] = [
        (f"Checksum{name.upper()}", value) for name, value in found.attributes.checksums.items()
    ]
    return [*fields, ("ChecksumType", found.attributes.checksum_kind)] if fields else []
