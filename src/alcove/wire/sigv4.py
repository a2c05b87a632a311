"""AWS Signature Version 4, the server's side: is this request signed by the holder of this secret?

Source of the rules: "Create a signed AWS API request" in the IAM user guide. Both forms are known:
the ``Authorization`` header and the presigned query. What travelled is what is checked: the caller
passes the raw path and raw query, undecoded. Stricter than some clients expect, on purpose:

* ``host`` and every ``x-amz-*`` header present must be signed, so that nothing that changes the
  meaning of a request can be added to it;
* the payload must be signed (``UNSIGNED-PAYLOAD`` and the streaming forms are refused unless the
  caller allows the former: we serve plain HTTP);
* the date may be off by ``MAX_SKEW_S`` either way, or lie within ``X-Amz-Expires`` of a presigned
  request;
* the date must be in ``x-amz-date``; the plain ``date`` header is not enough.

Pure: no I/O, no clock of its own.
"""

from __future__ import annotations

import calendar
import functools
import hashlib
import hmac
import re
import time
from collections.abc import Callable, Mapping
from urllib.parse import quote, unquote_to_bytes

from alcove.errors import AccessDenied
from alcove.wire.sigv4_claim import ALGORITHM, HEX_SHA256, Claim, Signer, parse_claim

__all__ = ["ALGORITHM", "Signer", "is_signed", "signing_key", "verify"]

MAX_SKEW_S = 300
# Busy paths are few: those up to this length are remembered with their canonical form.
KNOWN_PATH = 256
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
# What ``quote`` leaves as it is.
_PLAIN_PATH = re.compile(r"[A-Za-z0-9_.~/-]+")


def is_signed(headers: Mapping[str, str], raw_query: str) -> bool:
    """Tell whether the request claims a SigV4 signature, valid or not."""
    return headers.get("authorization", "").startswith(ALGORITHM) or "X-Amz-Signature=" in raw_query


def verify(
    *,
    method: str,
    raw_path: str,
    raw_query: str,
    headers: Mapping[str, str],
    body_sha256: Callable[[], str],
    secret_of: Callable[[str], str | None],
    now_s: float,
    service: str = "lambda",
    region: str | None = None,
    allow_unsigned_payload: bool = False,
    payload_hash: str | None = None,
) -> Signer:
    """Return who signed the request, or raise ``AccessDenied``.

    ``headers`` has lower-case names; the values of a repeated header are joined by a comma, in
    order. ``body_sha256`` gives the lower-case hex digest of the body that arrived; a
    ``payload_hash`` is taken as it is, and the caller holds the body against it. ``region`` None
    accepts any. Codes: ``missing`` (no signature), ``malformed``, ``unknown_key``, ``expired``,
    ``signature``.
    """
    claim = parse_claim(headers, raw_query)
    if claim.signer.service != service:
        raise AccessDenied(f"Credential should be scoped to correct service: '{service}'.", code="signature")
    if region is not None and claim.signer.region != region:
        raise AccessDenied(f"Credential should be scoped to a valid region: '{region}'.", code="signature")
    secret = secret_of(claim.signer.access_key)
    if secret is None:
        raise AccessDenied("The security token included in the request is invalid.", code="unknown_key")
    _check_date(claim, now_s)
    _check_signed_headers(claim, headers)
    canonical = "\n".join(
        (
            method.upper(),
            # S3 keys are no paths: they are encoded once and never normalised.
            single_path(raw_path) if service == "s3" else _path(raw_path),
            canonical_query(raw_query, without_signature=claim.expires_s is not None),
            *[f"{name}:{' '.join(headers[name].split())}" for name in claim.signed_headers],
            "",
            ";".join(claim.signed_headers),
            payload_hash or _payload_hash(headers, body_sha256, allow_unsigned_payload),
        )
    )
    to_sign = "\n".join(
        (
            ALGORITHM,
            claim.date,
            f"{claim.day}/{claim.signer.region}/{claim.signer.service}/aws4_request",
            hashlib.sha256(canonical.encode("latin-1", "replace")).hexdigest(),
        )
    )
    mac = _mac(secret, claim.day, claim.signer.region, claim.signer.service).copy()
    mac.update(to_sign.encode())
    if not hmac.compare_digest(mac.hexdigest(), claim.signature):
        raise AccessDenied(
            "The request signature we calculated does not match the signature you provided. "
            "Check your AWS Secret Access Key and signing method.",
            code="signature",
        )
    return claim.signer


@functools.lru_cache(maxsize=1024)
def signing_key(secret: str, day: str, region: str, service: str) -> bytes:
    """Derive the key for one day, region and service; cached, for four HMACs cost as much as the
    rest of a check.
    """
    key = ("AWS4" + secret).encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


@functools.lru_cache(maxsize=1024)
def _mac(secret: str, day: str, region: str, service: str) -> hmac.HMAC:
    """The key, made ready: a copy of it costs half of what a new one does."""
    return hmac.new(signing_key(secret, day, region, service), digestmod="sha256")


def canonical_path(raw_path: str) -> str:
    """Normalise (RFC 3986 section 5.2.4, empty segments dropped) and encode once more what the
    client encoded already.
    """
    if "//" in raw_path or "/." in raw_path:
        segments: list[str] = []
        for segment in raw_path.split("/"):
            if segment == "..":
                if segments:
                    segments.pop()
            elif segment not in ("", "."):
                segments.append(segment)
        raw_path = "/" + "/".join(segments) + ("/" if raw_path.endswith("/") and segments else "")
    if _PLAIN_PATH.fullmatch(raw_path):
        return raw_path
    return quote(raw_path or "/", safe="/~")


def _path(raw_path: str) -> str:
    return _known_path(raw_path) if len(raw_path) <= KNOWN_PATH else canonical_path(raw_path)


_known_path = functools.lru_cache(maxsize=4096)(canonical_path)


def single_path(raw_path: str) -> str:
    """Encode afresh what the path decodes to."""
    return quote(unquote_to_bytes(raw_path or "/"), safe="/~")


def canonical_query(raw_query: str, *, without_signature: bool = False) -> str:
    """Sort by encoded name, then encoded value; each encoded afresh from what it decodes to. A
    plus sign is a plus sign.
    """
    if not raw_query:
        return ""
    pairs = []
    for part in raw_query.split("&"):
        name, _, value = part.partition("=")
        if without_signature and name == "X-Amz-Signature":
            continue
        pairs.append((_encode(name), _encode(value)))
    pairs.sort()
    return "&".join(f"{name}={value}" for name, value in pairs)


def _encode(text: str) -> str:
    return quote(unquote_to_bytes(text), safe="-_.~")


def _check_date(claim: Claim, now_s: float) -> None:
    try:
        signed_s = _seconds(claim.date)
    except ValueError:
        raise AccessDenied("X-Amz-Date is not a date.", code="malformed") from None
    lifetime_s = MAX_SKEW_S if claim.expires_s is None else claim.expires_s
    if now_s > signed_s + lifetime_s:
        raise AccessDenied(
            f"Signature expired: {claim.date} is older than {lifetime_s} s.",
            code="expired",
            hint="check the clock of the client",
        )
    if signed_s > now_s + MAX_SKEW_S:
        raise AccessDenied(
            f"Signature not yet current: {claim.date} lies ahead.",
            code="expired",
            hint="check the clock of the client",
        )


@functools.lru_cache(maxsize=64)
def _seconds(date: str) -> int:
    """Return Unix time; cached, for the requests of one second all name it."""
    return calendar.timegm(time.strptime(date, "%Y%m%dT%H%M%SZ"))


def _check_signed_headers(claim: Claim, headers: Mapping[str, str]) -> None:
    signed = claim.signed_headers
    absent = [name for name in signed if name not in headers]
    if absent:
        raise AccessDenied(f"Signed headers are not in the request: {', '.join(absent)}.", code="signature")
    unsigned = [name for name in headers if name.startswith("x-amz-") and name not in signed]
    if "host" not in signed:
        unsigned.append("host")
    if unsigned:
        raise AccessDenied(f"Headers must be signed: {', '.join(sorted(unsigned))}.", code="signature")


def _payload_hash(headers: Mapping[str, str], body_sha256: Callable[[], str], allow_unsigned: bool) -> str:
    declared = headers.get("x-amz-content-sha256")
    if declared is None:
        return body_sha256()
    if declared == UNSIGNED_PAYLOAD:
        if not allow_unsigned:
            raise AccessDenied("The payload must be signed over plain HTTP.", code="signature")
        return declared
    # It is known to who sent it: no secret is compared.
    if declared == body_sha256():
        return declared
    if not HEX_SHA256.fullmatch(declared):
        raise AccessDenied("x-amz-content-sha256 must be the hex SHA-256 of the body.", code="signature")
    raise AccessDenied("The provided x-amz-content-sha256 does not match what was received.", code="signature")
