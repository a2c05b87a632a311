"""What a browser is answered whose form has made an object: nothing, a document, or where it is to go next.

Source: "POST Object" in the Amazon S3 API reference. Where to go was signed with the policy.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote, urlencode, urlsplit

from alcove.api import s3_xml
from alcove.api.s3_address import SUFFIX, Address
from alcove.api.s3_objects import checksum_headers
from alcove.buckets.model import StoredObject
from alcove.gateway.message import Response

_STATUSES = ("200", "201", "204")


def answer(host: str, address: Address, made: StoredObject, fields: Mapping[str, str]) -> Response:
    """``fields`` are the form's; a status or a place to go to that cannot be is passed over, as S3 does."""
    etag = f'"{made.etag}"'
    location = f"http://{host}/{_path(host, address)}"
    headers = {"ETag": etag, "Location": location, **checksum_headers(made)}
    target = fields.get("success_action_redirect") or fields.get("redirect", "")
    if _is_url(target):
        told = urlencode({"bucket": address.bucket, "key": address.key, "etag": etag})
        return Response(303, {**headers, "Location": _with_query(target, told)})
    status = fields.get("success_action_status", "")
    if status != "201":
        return Response(int(status) if status in _STATUSES else 204, headers)
    shown = [("Location", location), ("Bucket", address.bucket), ("Key", address.key), ("ETag", etag)]
    response = s3_xml.document("PostResponse", shown, status=201, bare=True)
    response.headers |= headers
    return response


def _path(host: str, address: Address) -> str:
    """Where the object is below the host, which may name the bucket already. All is escaped, as S3 does it."""
    key = quote(address.key, safe="")
    return key if host.partition(":")[0].lower().endswith(SUFFIX) else f"{address.bucket}/{key}"


def _with_query(target: str, more: str) -> str:
    parts = urlsplit(target)
    return parts._replace(query=f"{parts.query}&{more}" if parts.query else more).geturl()


def _is_url(text: str) -> bool:
    """Whether a browser can be sent there, and nowhere but there: no script, no line break."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc) and text.isascii() and text.isprintable()
