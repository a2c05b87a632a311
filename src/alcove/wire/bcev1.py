"""BCE authentication version 1 (Baidu AI Cloud), the server's side.

``Authorization: bce-auth-v1/{access key}/{timestamp}/{expiry s}/{signed headers}/{hex signature}``.
Source of the rules: "Generate an authentication string" of Baidu AI Cloud, and what its Python SDK
does where the two differ: every ``x-bce-*`` header with a value is signed, whether listed or not,
and headers without a value are not. The Go SDK signs the path with each segment encoded, whatever it sends, and leaves
its request id out: that one may be signed or not. The body is bound only by ``x-bce-content-sha256`` or
``content-md5``, where a client sends them; they are then checked against what arrived.

Pure: no I/O, no clock of its own.
"""

from __future__ import annotations

import calendar
import hashlib
import hmac
import re
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from urllib.parse import quote, unquote_to_bytes

from alcove.errors import AccessDenied

PREFIX = "bce-auth-v1"
MAX_SKEW_S = 300
REQUEST_ID = "x-bce-request-id"
# Signed where the request lists none.
DEFAULT_HEADERS = frozenset({"host", "content-md5", "content-length", "content-type"})
_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
_HEX_SHA256 = re.compile(r"[0-9a-f]{64}")


def is_signed(headers: Mapping[str, str]) -> bool:
    """Tell whether the request claims a BCE signature, valid or not."""
    return headers.get("authorization", "").startswith(PREFIX)


def verify(
    *,
    method: str,
    raw_path: str,
    raw_query: str,
    headers: Mapping[str, str],
    body: bytes,
    secret_of: Callable[[str], str | None],
    now_s: float,
) -> str:
    """Return the access key that signed the request, or raise ``AccessDenied``.

    ``headers`` has lower-case names. Codes: ``missing``, ``malformed``, ``unknown_key``,
    ``expired``, ``signature``.
    """
    authorization = headers.get("authorization")
    if authorization is None:
        raise AccessDenied(
            "The request carries no Authorization header.",
            code="missing",
            hint="sign the request with an access key",
        )
    parts = authorization.split("/")
    if len(parts) != 6 or parts[0] != PREFIX:
        raise AccessDenied(
            f"Authorization must be {PREFIX}/key/timestamp/expiry/headers/signature.",
            code="malformed",
        )
    _, access_key, timestamp, expiry, listed, signature = parts
    secret = secret_of(access_key)
    if secret is None:
        raise AccessDenied("The access key does not exist.", code="unknown_key")
    _check_date(timestamp, expiry, now_s)
    key = hmac.new(secret.encode(), f"{PREFIX}/{access_key}/{timestamp}/{expiry}".encode(), hashlib.sha256).hexdigest()
    start = (method.upper(), canonical_path(raw_path), canonical_query(raw_query))
    messages = ("\n".join((*start, canonical_headers(one, listed))) for one in _readings(headers, listed))
    if not any(_fits(key, message, signature) for message in messages):
        raise AccessDenied(
            "The signature does not match the request.",
            code="signature",
            hint="check the secret key",
        )
    _check_body(headers, body)
    return access_key


def _readings(headers: Mapping[str, str], listed: str) -> tuple[Mapping[str, str], ...]:
    """Return the headers as they may be meant: with the request id, and without it where it is not listed."""
    if REQUEST_ID not in headers or REQUEST_ID in listed.lower().split(";"):
        return (headers,)
    return ({name: value for name, value in headers.items() if name != REQUEST_ID}, headers)


def _fits(key: str, message: str, signature: str) -> bool:
    expected = hmac.new(key.encode(), message.encode("latin-1", "replace"), hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected.encode(), signature.encode())


def canonical_path(raw_path: str) -> str:
    """Each segment encoded afresh."""
    return "/".join(_encode(unquote_to_bytes(segment)) for segment in raw_path.split("/"))


def canonical_query(raw_query: str) -> str:
    """Each pair encoded afresh, sorted as ``name=value`` text; ``authorization`` left out."""
    if not raw_query:
        return ""
    pairs = []
    for part in raw_query.split("&"):
        name, _, value = part.partition("=")
        if part and name.lower() != "authorization":
            pairs.append(f"{_encode(unquote_to_bytes(name))}={_encode(unquote_to_bytes(value))}")
    return "&".join(sorted(pairs))


def canonical_headers(headers: Mapping[str, str], listed: str) -> str:
    """``name:value`` lines, both encoded. Raises ``AccessDenied`` where ``host`` is not among
    the signed ones, or one is absent.
    """
    wanted = frozenset(name.strip().lower() for name in listed.split(";")) if listed else DEFAULT_HEADERS
    if "host" not in wanted:
        raise AccessDenied("The host header must be signed.", code="signature")
    if listed and not wanted <= headers.keys():
        raise AccessDenied(
            f"Signed headers are not in the request: {', '.join(sorted(wanted - headers.keys()))}.",
            code="signature",
        )
    lines = []
    for name, value in headers.items():
        value = value.strip()
        if value and (name in wanted or name.startswith("x-bce-")):
            lines.append(":".join(_encode(text.encode("latin-1", "replace")) for text in (name, value)))
    return "\n".join(sorted(lines))


def _encode(data: bytes) -> str:
    return quote(data, safe="-_.~")


def _check_date(timestamp: str, expiry: str, now_s: float) -> None:
    if not (expiry.isascii() and expiry.isdigit() and 0 < len(expiry) < 10):
        raise AccessDenied("The expiry must be a number of seconds.", code="malformed")
    if not _DATE.fullmatch(timestamp):
        raise AccessDenied("The timestamp must look like 2026-01-31T23:59:59Z.", code="malformed")
    try:
        signed_s = calendar.timegm(time.strptime(timestamp, "%Y-%m-%dT%H:%M:%SZ"))
    except ValueError:
        raise AccessDenied("The timestamp is not a date.", code="malformed") from None
    if now_s > signed_s + int(expiry):
        raise AccessDenied(
            f"The request expired: {timestamp} with {expiry} s.",
            code="expired",
            hint="check the clock of the client",
        )
    if signed_s > now_s + MAX_SKEW_S:
        raise AccessDenied(
            f"The request is not yet valid: {timestamp}.",
            code="expired",
            hint="check the clock of the client",
        )


def _check_body(headers: Mapping[str, str], body: bytes) -> None:
    declared = headers.get("x-bce-content-sha256")
    if declared is not None and _HEX_SHA256.fullmatch(declared):
        matches = hmac.compare_digest(declared, hashlib.sha256(body).hexdigest())
    elif headers.get("content-md5"):
        digest = b64encode(hashlib.md5(body, usedforsecurity=False).digest())
        matches = hmac.compare_digest(headers["content-md5"].strip().encode("latin-1", "replace"), digest)
    else:
        return
    if not matches:
        raise AccessDenied("The body is not the one that was signed.", code="signature")
