"""S3's calls on uploads in parts."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

from alcove.api import s3_conditions, s3_xml
from alcove.api.s3_call import S3Call
from alcove.api.s3_objects import again, attributes, open_source
from alcove.buckets.errors import BadArgument, MalformedXML
from alcove.buckets.model import PART_COUNT
from alcove.gateway.message import Response

_PAGE = 1000


def _where(call: S3Call) -> tuple[str, str, str]:
    return call.bucket, call.key, call.query("uploadId")


async def create(call: S3Call) -> Response:
    upload = await call.service.begin_upload(call.tenant, call.bucket, call.key, attributes(call.request.headers))
    fields = [("Bucket", call.bucket), ("Key", call.key), ("UploadId", upload)]
    return s3_xml.document("InitiateMultipartUploadResult", fields)


async def put_part(call: S3Call) -> Response:
    number = call.number("partNumber", 0, PART_COUNT + 1)
    part, written = await call.service.put_part(call.tenant, _where(call), number, call.arrival())
    checksums = {f"x-amz-checksum-{name}": value for name, value in written.checksums.items()}
    return Response(200, {"ETag": f'"{part.etag}"', **checksums})


async def copy_part(call: S3Call) -> Response:
    number = call.number("partNumber", 0, PART_COUNT + 1)
    async with AsyncExitStack() as stack:
        source = await open_source(call, stack)
        span = (0, source.object.size)
        if "x-amz-copy-source-range" in call.request.headers:
            found = s3_conditions.parse_range(call.header("x-amz-copy-source-range"), source.object.size)
            if found is None:
                raise BadArgument("The x-amz-copy-source-range value must be of the form bytes=first-last")
            span = found
        part, _ = await call.service.put_part(call.tenant, _where(call), number, again(source, *span))
    fields = [("LastModified", s3_xml.stamp(part.modified_ms)), ("ETag", f'"{part.etag}"')]
    return s3_xml.document("CopyPartResult", fields)


async def complete(call: S3Call) -> Response:
    root = s3_xml.parse(await call.document(), "CompleteMultipartUpload")
    wanted = []
    for part in s3_xml.children(root, "Part"):
        number = s3_xml.text(part, "PartNumber")
        if not (number.isascii() and number.isdigit() and len(number) < 6):
            raise MalformedXML("PartNumber must be a number.")
        wanted.append((int(number), s3_xml.text(part, "ETag")))
    made = await call.service.complete_upload(call.tenant, _where(call), wanted, call.cause)
    location = f"http://{call.header('host')}/{call.bucket}/{call.key}"
    fields = [("Location", location), ("Bucket", call.bucket), ("Key", call.key), ("ETag", f'"{made.etag}"')]
    return s3_xml.document("CompleteMultipartUploadResult", fields)


async def abort(call: S3Call) -> Response:
    await call.service.abort_upload(call.tenant, _where(call))
    return Response(204)


async def list_parts(call: S3Call) -> Response:
    after, limit = call.number("part-number-marker", 0, PART_COUNT), call.number("max-parts", _PAGE, _PAGE)
    found = await call.service.parts(call.tenant, _where(call), after, limit + 1)
    shown = found[:limit]
    fields: list[tuple[str, Any]] = [
        ("Bucket", call.bucket),
        ("Key", call.key),
        ("UploadId", call.query("uploadId")),
        ("PartNumberMarker", after),
        ("NextPartNumberMarker", shown[-1].number if shown else after),
        ("MaxParts", limit),
        ("IsTruncated", len(found) > len(shown)),
    ]
    for part in shown:
        described = [("PartNumber", part.number), ("LastModified", s3_xml.stamp(part.modified_ms))]
        fields.append(("Part", [*described, ("ETag", f'"{part.etag}"'), ("Size", part.segment.size)]))
    return s3_xml.document("ListPartsResult", fields)


async def list_uploads(call: S3Call) -> Response:
    prefix = call.query("prefix")
    found = [one for one in await call.service.uploads(call.tenant, call.bucket) if one.key.startswith(prefix)]
    fields: list[tuple[str, Any]] = [("Bucket", call.bucket), ("Prefix", prefix), ("IsTruncated", False)]
    for one in found:
        described = [("Key", one.key), ("UploadId", one.id), ("Initiated", s3_xml.stamp(one.created_ms))]
        fields.append(("Upload", described))
    return s3_xml.document("ListMultipartUploadsResult", fields)
