"""S3's calls on buckets: made, listed, removed; the objects in them listed and removed by the thousand."""

from __future__ import annotations

import base64
import binascii
from typing import Any
from xml.etree.ElementTree import Element

from alcove.api import s3_xml
from alcove.api.s3_call import S3Call
from alcove.buckets import names
from alcove.buckets.errors import BadArgument, BucketError, MalformedXML, NotImplementedHere, PreconditionFailed
from alcove.buckets.listing import MOST, Listing
from alcove.buckets.model import Page, StoredObject
from alcove.gateway.message import Response


async def list_buckets(call: S3Call) -> Response:
    found = await call.service.buckets(call.tenant)
    prefix = call.query("prefix")
    shown = [
        ("Bucket", [("Name", one.name), ("CreationDate", s3_xml.stamp(one.created_ms))])
        for one in found
        if one.name.startswith(prefix)
    ]
    owner = [("ID", call.tenant), ("DisplayName", call.tenant)]
    return s3_xml.document("ListAllMyBucketsResult", [("Owner", owner), ("Buckets", shown)])


async def create_bucket(call: S3Call) -> Response:
    body = await call.document()
    if body:
        s3_xml.parse(body, "CreateBucketConfiguration")
    made = await call.service.create_bucket(call.tenant, call.bucket)
    return Response(200, {"Location": f"/{made.name}"})


async def head_bucket(call: S3Call) -> Response:
    await call.service.bucket(call.tenant, call.bucket)
    return Response(200, {"x-amz-bucket-region": call.service.region, "Content-Type": "application/xml"})


async def delete_bucket(call: S3Call) -> Response:
    await call.service.delete_bucket(call.tenant, call.bucket)
    return Response(204)


async def get_location(call: S3Call) -> Response:
    await call.service.bucket(call.tenant, call.bucket)
    region = call.service.region
    response = s3_xml.document("LocationConstraint", [])
    if region != "us-east-1":
        response.body = response.body.replace(b" />", b">" + region.encode() + b"</LocationConstraint>")
    return response


async def get_versioning(call: S3Call) -> Response:
    """No bucket has versions: S3's answer for one in which they were never switched on."""
    await call.service.bucket(call.tenant, call.bucket)
    return s3_xml.document("VersioningConfiguration", [])


async def list_objects(call: S3Call) -> Response:
    """Version 1."""
    after = call.query("marker")
    page = await _page(call, after)
    more = page.after if call.query("delimiter") or page.after is None else None
    head = [
        ("Marker", s3_xml.shown(call.query, after)),
        ("NextMarker", None if more is None else s3_xml.shown(call.query, more)),
    ]
    return _listed(call, page, head, owner=True)


async def list_objects_v2(call: S3Call) -> Response:
    token = call.query("continuation-token")
    after = _from_token(token) if token else call.query("start-after")
    page = await _page(call, after)
    head = [
        ("KeyCount", len(page.objects) + len(page.prefixes)),
        ("ContinuationToken", token or None),
        ("NextContinuationToken", None if page.after is None else _to_token(page.after)),
        ("StartAfter", s3_xml.shown(call.query, call.query("start-after")) or None),
    ]
    return _listed(call, page, head, owner=call.query("fetch-owner") == "true")


async def delete_objects(call: S3Call) -> Response:
    root = s3_xml.parse(await call.document(), "Delete")
    wanted = s3_xml.children(root, "Object")
    if not 1 <= len(wanted) <= MOST:
        raise MalformedXML(f"Delete takes 1 to {MOST} objects.")
    good, failed, only = [], {}, {}
    for one in wanted:
        key = s3_xml.text(one, "Key")
        try:
            good.append(_deletable(one, key))
        except BucketError as error:
            failed[key] = error
        if etag := s3_xml.text(one, "ETag"):
            only[key] = etag.strip('"')
    for key in await call.service.delete(call.tenant, call.bucket, good, call.cause, only):
        failed[key] = PreconditionFailed("At least one of the pre-conditions you specified did not hold")
    fields = [("Error", [("Key", key), ("Code", error.code), ("Message", str(error))]) for key, error in failed.items()]
    if s3_xml.text(root, "Quiet") != "true":
        fields += [("Deleted", [("Key", key)]) for key in good if key not in failed]
    return s3_xml.document("DeleteResult", fields)


def _deletable(one: Element, key: str) -> str:
    """Return the key. Raises ``BucketError``."""
    for name in ("VersionId", "LastModifiedTime", "Size"):
        if s3_xml.text(one, name) not in ("", "null"):
            raise NotImplementedHere(f"{name} implies functionality that is not implemented.")
    return names.check_key(key)


async def _page(call: S3Call, after: str) -> Page:
    limit = call.number("max-keys", MOST, MOST)
    if call.query("encoding-type") not in ("", "url"):
        raise BadArgument("Invalid Encoding Method specified in Request")
    if not limit:
        await call.service.bucket(call.tenant, call.bucket)
        return Page((), (), None)
    listing = Listing(call.query("prefix"), call.query("delimiter"), after, limit)
    return await call.service.page(call.tenant, call.bucket, listing)


def _listed(call: S3Call, page: Page, head: list[tuple[str, Any]], *, owner: bool) -> Response:
    fields: list[tuple[str, Any]] = [
        ("Name", call.bucket),
        ("Prefix", s3_xml.shown(call.query, call.query("prefix"))),
        *head,
        ("MaxKeys", call.number("max-keys", MOST, MOST)),
        ("Delimiter", s3_xml.shown(call.query, call.query("delimiter")) or None),
        ("EncodingType", call.query("encoding-type") or None),
        ("IsTruncated", page.after is not None),
        *(("Contents", _contents(call, one, owner=owner)) for one in page.objects),
        *(("CommonPrefixes", [("Prefix", s3_xml.shown(call.query, prefix))]) for prefix in page.prefixes),
    ]
    return s3_xml.document("ListBucketResult", fields)


def _contents(call: S3Call, one: StoredObject, *, owner: bool) -> list[tuple[str, Any]]:
    return [
        ("Key", s3_xml.shown(call.query, one.key)),
        ("LastModified", s3_xml.stamp(one.modified_ms)),
        ("ETag", f'"{one.etag}"'),
        *_checksum(one),
        ("Size", one.size),
        ("StorageClass", "STANDARD"),
        ("Owner", [("ID", call.tenant), ("DisplayName", call.tenant)] if owner else None),
    ]


def _checksum(one: StoredObject) -> list[tuple[str, str]]:
    """Which checksum the object has, not its value: "Object" in the Amazon S3 API reference."""
    names = [("ChecksumAlgorithm", name.upper()) for name in one.attributes.checksums]
    return [*names, ("ChecksumType", one.attributes.checksum_kind)] if names else []


def _to_token(after: str) -> str:
    return base64.urlsafe_b64encode(after.encode()).decode()


def _from_token(token: str) -> str:
    try:
        return base64.b64decode(token.encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise BadArgument("The continuation token provided is incorrect") from None
