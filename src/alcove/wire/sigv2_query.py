"""Presigned URLs in S3's older form (``AWSAccessKeyId``, ``Expires``, ``Signature``), which boto3 still makes for
us-east-1 unless it is told otherwise.

Source: "Signing and authenticating REST requests" in the Amazon S3 developer guide, query-string authentication. Only
that form is known here: it has an end, and it carries no header of ours. Pure: no I/O, no clock of its own.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable, Mapping
from urllib.parse import parse_qsl, quote

from alcove.errors import AccessDenied

_FIELDS = ("AWSAccessKeyId", "Expires", "Signature")
# Query parameters that name what is asked for, hence are signed.
_SIGNED = frozenset(
    (
        *("acl", "cors", "delete", "lifecycle", "location", "logging", "notification", "partNumber", "policy"),
        *("requestPayment", "restore", "tagging", "torrent", "uploadId", "uploads", "versionId", "versioning"),
        *("versions", "website", "response-cache-control", "response-content-disposition"),
        *("response-content-encoding", "response-content-language", "response-content-type", "response-expires"),
    )
)
MAX_EXPIRES_S = 7 * 24 * 3600


def is_signed(raw_query: str) -> bool:
    return "AWSAccessKeyId=" in raw_query and "Signature=" in raw_query


def verify(
    *,
    method: str,
    resource: str,
    raw_query: str,
    headers: Mapping[str, str],
    secret_of: Callable[[str], str | None],
    now_s: float,
) -> str:
    """Return the access key, or raise ``AccessDenied``. ``resource`` is ``/BUCKET/KEY`` as the client encoded it."""
    pairs = parse_qsl(raw_query, keep_blank_values=True)
    fields = {name: value for name, value in pairs if name in _FIELDS}
    if len(fields) != len(_FIELDS) or sum(name in _FIELDS for name, _ in pairs) != len(_FIELDS):
        raise AccessDenied("The query must have AWSAccessKeyId, Expires and Signature, once each.", code="malformed")
    _check_expiry(fields["Expires"], now_s)
    secret = secret_of(fields["AWSAccessKeyId"])
    if secret is None:
        raise AccessDenied("The AWS Access Key Id you provided does not exist in our records.", code="unknown_key")
    to_sign = _string_to_sign(method, resource, pairs, headers, fields["Expires"])
    expected = base64.b64encode(hmac.digest(secret.encode(), to_sign.encode("utf-8", "replace"), "sha1"))
    if not hmac.compare_digest(expected, fields["Signature"].encode()):
        raise AccessDenied("The request signature we calculated does not match the signature you provided.")
    return fields["AWSAccessKeyId"]


def _check_expiry(expires: str, now_s: float) -> None:
    if not (expires.isascii() and expires.isdigit() and len(expires) < 12):
        raise AccessDenied("Expires must be Unix time in seconds.", code="malformed")
    if int(expires) < now_s:
        raise AccessDenied("Request has expired.", code="expired", hint="sign a new URL")
    if int(expires) > now_s + MAX_EXPIRES_S:
        raise AccessDenied(f"Expires must be less than {MAX_EXPIRES_S} seconds ahead.", code="malformed")


def _string_to_sign(
    method: str, resource: str, pairs: list[tuple[str, str]], headers: Mapping[str, str], expires: str
) -> str:
    amz = sorted(name for name in headers if name.startswith("x-amz-"))
    named = sorted((name, value) for name, value in pairs if name in _SIGNED)
    query = "&".join(f"{name}={value}" if value else name for name, value in named)
    return "\n".join(
        (
            method.upper(),
            headers.get("content-md5", ""),
            headers.get("content-type", ""),
            expires,
            *(f"{name}:{headers[name]}" for name in amz),
            quote(resource, safe="/~%-_.!*'()") + (f"?{query}" if query else ""),
        )
    )
