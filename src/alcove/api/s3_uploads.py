"""S3's calls on uploads in parts."""

from __future__ import annotations

from contextlib import AsyncExitStack
from email.utils import formatdate
from typing import Any
from xml.etree.ElementTree import Element

from alcove.api import s3_auth, s3_conditions, s3_xml
from alcove.api.s3_call import S3Call
from alcove.api.s3_objects import again, attributes, checksum_fields, conditions, open_source
from alcove.buckets import checksums
from alcove.buckets.assembly import Completion, NamedPart
from alcove.buckets.errors import BadArgument, BadRequest, MalformedXML
from alcove.buckets.model import PART_COUNT, Upload
from alcove.buckets.upload_listing import UploadListing
from alcove.gateway.message import Response
from alcove.host.clock import now_ms

_PAGE = 1000
_CHECKSUMS = {name: f"Checksum{name.upper()}" for name in checksums.ALGORITHMS}


def _where(call: S3Call) -> tuple[str, str, str]:
    return call.bucket, call.key, call.query("uploadId")


async def create(call: S3Call) -> Response:
    plan = checksums.plan(call.header("x-amz-checksum-algorithm"), call.header("x-amz-checksum-type"))
    kept = attributes(call.request.headers)
    upload = await call.service.uploads.begin(call.tenant, call.bucket, call.key, kept, plan)
    fields = [("Bucket", call.bucket), ("Key", call.key), ("UploadId", upload)]
    response = s3_xml.document("InitiateMultipartUploadResult", fields)
    response.headers["x-amz-checksum-algorithm"] = plan.algorithm.upper()
    response.headers["x-amz-checksum-type"] = plan.kind
    response.headers |= _end(call, now_ms())
    return response


async def put_part(call: S3Call) -> Response:
    number = call.number("partNumber", 0, PART_COUNT + 1)
    part, written = await call.service.uploads.put_part(call.tenant, _where(call), number, call.arrival())
    computed = {f"x-amz-checksum-{name}": value for name, value in written.checksums.items()}
    return Response(200, {"ETag": f'"{part.etag}"', **computed})


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
        part, written = await call.service.uploads.put_part(call.tenant, _where(call), number, again(source, *span))
    fields = [("LastModified", s3_xml.stamp(part.modified_ms)), ("ETag", f'"{part.etag}"')]
    fields += [(f"Checksum{name.upper()}", value) for name, value in written.checksums.items()]
    return s3_xml.document("CopyPartResult", fields)


async def complete(call: S3Call) -> Response:
    root = s3_xml.parse(await call.document(whole=False), "CompleteMultipartUpload")
    given = s3_auth.checksums(call.request.headers)
    size = call.header("x-amz-mp-object-size")
    if size and not (size.isascii() and size.isdigit() and len(size) < 16):
        raise BadRequest("Value for x-amz-mp-object-size header is invalid.")
    wanted = Completion(
        tuple(_named(part) for part in s3_xml.children(root, "Part")),
        next(iter(given.items()), ("", "")),
        call.header("x-amz-checksum-type"),
        int(size) if size else None,
        **conditions(call),
    )
    made = await call.service.uploads.complete(call.tenant, _where(call), wanted, call.cause)
    location = f"http://{call.header('host')}/{call.bucket}/{call.key}"
    fields = [("Location", location), ("Bucket", call.bucket), ("Key", call.key), ("ETag", f'"{made.etag}"')]
    return s3_xml.document("CompleteMultipartUploadResult", [*fields, *checksum_fields(made)])


def _named(part: Element) -> NamedPart:
    """Raises ``MalformedXML``."""
    # Once through: there are ten thousand of them.
    fields = {s3_xml.local_name(child): child.text or "" for child in part}
    number = fields.get("PartNumber", "")
    if not (number.isascii() and number.isdigit() and len(number) < 6):
        raise MalformedXML("PartNumber must be a number.")
    given = {name: fields[element] for name, element in _CHECKSUMS.items() if fields.get(element)}
    return NamedPart(int(number), fields.get("ETag", ""), given)


async def abort(call: S3Call) -> Response:
    await call.service.uploads.abort(call.tenant, _where(call))
    return Response(204)


async def list_parts(call: S3Call) -> Response:
    after, limit = call.number("part-number-marker", 0, PART_COUNT), call.number("max-parts", _PAGE, _PAGE)
    upload, found = await call.service.uploads.parts(call.tenant, _where(call), after, limit + 1)
    shown = found[:limit]
    fields: list[tuple[str, Any]] = [
        ("Bucket", call.bucket),
        ("Key", call.key),
        ("UploadId", upload.id),
        *_owners(call, upload),
        ("PartNumberMarker", after),
        ("NextPartNumberMarker", shown[-1].number if shown else after),
        ("MaxParts", limit),
        ("IsTruncated", len(found) > len(shown)),
    ]
    for part in shown:
        described = [("PartNumber", part.number), ("LastModified", s3_xml.stamp(part.modified_ms))]
        check = (f"Checksum{upload.plan.algorithm.upper()}", part.segment.checksum or None)
        fields.append(("Part", [*described, ("ETag", f'"{part.etag}"'), ("Size", part.segment.size), check]))
    response = s3_xml.document("ListPartsResult", fields)
    response.headers |= _end(call, upload.created_ms)
    return response


async def list_uploads(call: S3Call) -> Response:
    limit = call.number("max-uploads", _PAGE, _PAGE)
    if call.query("encoding-type") not in ("", "url"):
        raise BadArgument("Invalid Encoding Method specified in Request")
    uploads = await call.service.uploads.list(call.tenant, call.bucket)
    listing = UploadListing(
        call.query("prefix"), call.query("delimiter"), call.query("key-marker"), call.query("upload-id-marker"), limit
    )
    page = listing.page(uploads)
    fields: list[tuple[str, Any]] = [
        ("Bucket", call.bucket),
        ("KeyMarker", s3_xml.shown(call.query, listing.key)),
        ("UploadIdMarker", listing.id),
        ("NextKeyMarker", s3_xml.shown(call.query, page.after[0]) if page.after else None),
        ("NextUploadIdMarker", page.after[1] if page.after else None),
        ("Prefix", s3_xml.shown(call.query, listing.prefix)),
        ("Delimiter", s3_xml.shown(call.query, listing.delimiter) or None),
        ("EncodingType", call.query("encoding-type") or None),
        ("MaxUploads", limit),
        ("IsTruncated", page.after is not None),
    ]
    for one in page.uploads:
        described = [("Key", s3_xml.shown(call.query, one.key)), ("UploadId", one.id), *_owners(call, one)]
        fields.append(("Upload", [*described, ("Initiated", s3_xml.stamp(one.created_ms))]))
    fields += [("CommonPrefixes", [("Prefix", s3_xml.shown(call.query, one))]) for one in page.prefixes]
    return s3_xml.document("ListMultipartUploadsResult", fields)


def _owners(call: S3Call, upload: Upload) -> list[tuple[str, Any]]:
    owner = [("ID", call.tenant), ("DisplayName", call.tenant)]
    plan = [("ChecksumAlgorithm", upload.plan.algorithm.upper()), ("ChecksumType", upload.plan.kind)]
    return [("Initiator", owner), ("Owner", owner), ("StorageClass", "STANDARD"), *plan]


def _end(call: S3Call, began_ms: int) -> dict[str, str]:
    """When the upload is aborted if it is not completed, as S3 tells it of a bucket with such a rule."""
    moment = formatdate((began_ms + call.service.uploads.kept_ms) // 1000, usegmt=True)
    return {"x-amz-abort-date": moment, "x-amz-abort-rule-id": "uploads-expire"}
