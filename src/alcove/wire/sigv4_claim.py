"""What a request says of its own SigV4 signature, parsed and checked for form only."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

import msgspec

from alcove.errors import AccessDenied

ALGORITHM = "AWS4-HMAC-SHA256"
# A presigned request lives a week at most (IAM user guide, "X-Amz-Expires").
MAX_EXPIRES_S = 7 * 24 * 3600
# What a client says of itself is the same in each of its requests, and remembered where it is no longer than this.
_KNOWN_LENGTH = 600
_DATE = re.compile(r"\d{8}T\d{6}Z", re.ASCII)
# As nearly all clients write the header; ``_fields`` reads it as it may be written.
_USUAL = re.compile(
    ALGORITHM
    + r" Credential=(?P<Credential>[^,= ]+), ?SignedHeaders=(?P<SignedHeaders>[^,= ]+), ?"
    + r"Signature=(?P<Signature>[^,= ]+)"
)
HEX_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signed: the access key, and the region and service it was signed for."""

    access_key: str
    region: str
    service: str


class Claim(msgspec.Struct, frozen=True):
    """What a request says of its own signature."""

    signer: Signer
    day: str
    date: str
    signed_headers: tuple[str, ...]
    signature: str
    expires_s: int | None  # None: the header form


def parse_claim(headers: Mapping[str, str], raw_query: str) -> Claim:
    """Return the claim, or raise ``AccessDenied`` with code ``missing`` or ``malformed``."""
    authorization = headers.get("authorization")
    if authorization is not None:
        if "X-Amz-Signature=" in raw_query:
            raise AccessDenied("Only one auth mechanism allowed.", code="malformed")
        return _header_claim(authorization, headers)
    if "X-Amz-Signature=" in raw_query:
        return _query_claim(raw_query)
    raise AccessDenied("Missing Authentication Token", code="missing", hint="sign the request with an access key")


def _header_claim(authorization: str, headers: Mapping[str, str]) -> Claim:
    usual = _USUAL.fullmatch(authorization)
    fields = usual.groupdict() if usual else _fields(authorization)
    if "x-amz-date" not in headers:
        raise AccessDenied("Authorization header requires existence of an 'X-Amz-Date' header.", code="malformed")
    return _build_claim(
        fields["Credential"],
        headers["x-amz-date"],
        fields["SignedHeaders"],
        fields["Signature"],
        None,
    )


def _fields(authorization: str) -> dict[str, str]:
    algorithm, _, rest = authorization.partition(" ")
    if algorithm != ALGORITHM:
        raise AccessDenied(f"Authorization header must use the algorithm {ALGORITHM}.", code="malformed")
    fields: dict[str, str] = {}
    for part in rest.split(","):
        name, equals, value = part.strip().partition("=")
        if not equals or name in fields:
            raise AccessDenied("Authorization header is not a list of distinct name=value pairs.", code="malformed")
        fields[name] = value
    missing = {"Credential", "SignedHeaders", "Signature"} - fields.keys()
    if missing:
        raise AccessDenied(f"Authorization header requires {', '.join(sorted(missing))}.", code="malformed")
    return fields


def _query_claim(raw_query: str) -> Claim:
    fields: dict[str, str] = {}
    for name, value in parse_qsl(raw_query, keep_blank_values=True):
        if name.startswith("X-Amz-"):
            if name in fields:
                raise AccessDenied(f"Query parameter {name} appears twice.", code="malformed")
            fields[name] = value
    names = (
        "X-Amz-Algorithm",
        "X-Amz-Credential",
        "X-Amz-Date",
        "X-Amz-Expires",
        "X-Amz-SignedHeaders",
        "X-Amz-Signature",
    )
    missing = [name for name in names if name not in fields]
    if missing:
        raise AccessDenied(f"The query lacks {', '.join(missing)}.", code="malformed")
    if fields["X-Amz-Algorithm"] != ALGORITHM:
        raise AccessDenied(f"X-Amz-Algorithm must be {ALGORITHM}.", code="malformed")
    expires = fields["X-Amz-Expires"]
    if not (expires.isascii() and expires.isdigit() and 1 <= int(expires[:8]) <= MAX_EXPIRES_S):
        raise AccessDenied(f"X-Amz-Expires must be 1 to {MAX_EXPIRES_S} seconds.", code="malformed")
    return _build_claim(
        fields["X-Amz-Credential"],
        fields["X-Amz-Date"],
        fields["X-Amz-SignedHeaders"],
        fields["X-Amz-Signature"],
        int(expires[:8]),
    )


def _build_claim(credential: str, date: str, signed_headers: str, signature: str, expires_s: int | None) -> Claim:
    remembered = len(credential) + len(signed_headers) <= _KNOWN_LENGTH
    signer, day = (_known_signer if remembered else _signer)(credential)
    names = (_known_names if remembered else _names)(signed_headers)
    if not _DATE.fullmatch(date):
        raise AccessDenied("X-Amz-Date must look like 20260131T235959Z.", code="malformed")
    if day != date[:8]:
        raise AccessDenied("Date in Credential scope does not match X-Amz-Date.", code="signature")
    if not HEX_SHA256.fullmatch(signature):
        raise AccessDenied("Signature must be 64 lower-case hexadecimal digits.", code="signature")
    return Claim(signer, day, date, names, signature, expires_s)


def _signer(credential: str) -> tuple[Signer, str]:
    """Return who is said to have signed, and the day."""
    parts = credential.split("/")
    if len(parts) != 5 or parts[4] != "aws4_request" or not all(parts):
        raise AccessDenied("Credential must be KEY/DATE/REGION/SERVICE/aws4_request.", code="malformed")
    return Signer(parts[0], parts[2], parts[3]), parts[1]


def _names(signed_headers: str) -> tuple[str, ...]:
    names = tuple(signed_headers.split(";"))
    if not all(names) or list(names) != sorted(set(names)) or signed_headers.lower() != signed_headers:
        raise AccessDenied("SignedHeaders must be lower-case, sorted and distinct.", code="malformed")
    return names


_known_signer = functools.lru_cache(maxsize=1024)(_signer)
_known_names = functools.lru_cache(maxsize=1024)(_names)
