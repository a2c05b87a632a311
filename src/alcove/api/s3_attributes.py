"""GetObjectAttributes, and what else is told of an object beside its content: tags, of which there are none."""

from __future__ import annotations

from typing import Any

from alcove.api import s3_xml
from alcove.api.s3_call import S3Call
from alcove.api.s3_objects import checksum_fields, last_modified
from alcove.buckets.errors import BadArgument
from alcove.buckets.model import Segment, StoredObject
from alcove.gateway.message import Response

_KNOWN = frozenset(("ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"))
_PARTS = 1000


async def get_attributes(call: S3Call) -> Response:
    wanted = {one.strip() for one in call.header("x-amz-object-attributes").split(",")}
    if not wanted <= _KNOWN:
        raise BadArgument("Invalid attribute name specified.")
    async with call.service.open_object(call.tenant, call.bucket, call.key) as opened:
        found, segments = opened.object, opened.segments
    fields: list[tuple[str, Any]] = []
    if "ETag" in wanted:
        fields.append(("ETag", found.etag))
    if "Checksum" in wanted and found.attributes.checksums:
        fields.append(("Checksum", checksum_fields(found)))
    if "ObjectParts" in wanted and found.in_parts:
        fields.append(("ObjectParts", _parts(call, found, segments)))
    if "StorageClass" in wanted:
        fields.append(("StorageClass", "STANDARD"))
    if "ObjectSize" in wanted:
        fields.append(("ObjectSize", found.size))
    response = s3_xml.document("GetObjectAttributesResponse", fields)
    response.headers["Last-Modified"] = last_modified(found)
    return response


def _parts(call: S3Call, found: StoredObject, segments: tuple[Segment, ...]) -> list[tuple[str, Any]]:
    after, most = _number(call, "x-amz-part-number-marker", 0), _number(call, "x-amz-max-parts", _PARTS)
    shown = list(enumerate(segments, 1))[after : after + min(most, _PARTS)]
    fields: list[tuple[str, Any]] = [
        ("PartsCount", len(segments)),
        ("PartNumberMarker", after),
        ("NextPartNumberMarker", shown[-1][0] if shown else after),
        ("MaxParts", min(most, _PARTS)),
        ("IsTruncated", after + len(shown) < len(segments)),
    ]
    names = [f"Checksum{name.upper()}" for name in found.attributes.checksums]
    for number, segment in shown:
        checks = [(name, segment.checksum or None) for name in names]
        fields.append(("Part", [("PartNumber", number), ("Size", segment.size), *checks]))
    return fields


def _number(call: S3Call, header: str, default: int) -> int:
    text = call.header(header, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise BadArgument(f"Provided {header} not an integer or within integer range")
    return int(text)


async def get_tagging(call: S3Call) -> Response:
    """Clients ask before they copy; nothing that could set tags is accepted."""
    await call.service.head(call.tenant, call.bucket, call.key)
    return s3_xml.document("Tagging", [("TagSet", [])])
