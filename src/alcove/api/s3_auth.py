"""Who signed a request to the object store, and its body as it was before it was encoded.

Known are SigV4 in headers and in presigned URLs, and SigV2 in presigned URLs. The body may be signed as a whole, in
chunks (``aws-chunked``, with or without trailers), or not at all: S3's clients choose that over TLS, so operators who
serve plain HTTP beyond this machine put a proxy in front. A body that does not match raises at its end, when nothing
has been made of it yet.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass

from alcove.api.s3_address import Address
from alcove.buckets.checksums import known
from alcove.buckets.contents import Arrival, Expected, Late
from alcove.buckets.errors import BadArgument, BadRequest, MissingLength
from alcove.errors import AccessDenied
from alcove.gateway.streaming import StreamRequest
from alcove.wire import sigv2_query, sigv4
from alcove.wire.aws_chunked import AwsChunkedDecoder, ChunkSigner
from alcove.wire.sigv4_claim import HEX_SHA256, parse_claim

UNSIGNED = "UNSIGNED-PAYLOAD"
_SIGNED_CHUNKS = ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER")
_UNSIGNED_CHUNKS = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
_CHECKSUM = "x-amz-checksum-"
SecretOf = Callable[[str], str | None]


@dataclass(frozen=True, slots=True)
class Signature:
    """Who signed (empty: the operator, who does not), and how the body is to be read."""

    access_key: str = ""
    payload: str = UNSIGNED
    chunks: ChunkSigner | None = None


def verify(request: StreamRequest, address: Address, secret_of: SecretOf) -> Signature:
    """Raises ``AccessDenied``. The body is not looked at yet."""
    headers, query = request.headers, request.raw_query
    if "authorization" not in headers and sigv2_query.is_signed(query):
        key = sigv2_query.verify(
            method=request.method,
            resource=address.resource,
            raw_query=query,
            headers=headers,
            secret_of=secret_of,
            now_s=time.time(),
        )
        return Signature(key)
    payload = headers.get("x-amz-content-sha256", "")
    claim = parse_claim(headers, query)
    if not payload:
        if claim.expires_s is None:
            raise AccessDenied("Missing required header for this request: x-amz-content-sha256", code="malformed")
        payload = UNSIGNED
    if payload not in (UNSIGNED, _UNSIGNED_CHUNKS, *_SIGNED_CHUNKS) and not HEX_SHA256.fullmatch(payload):
        raise BadArgument("x-amz-content-sha256 must be UNSIGNED-PAYLOAD, a STREAMING form, or a SHA-256 in hex.")
    signer = sigv4.verify(
        method=request.method,
        raw_path=request.raw_path,
        raw_query=query,
        headers=headers,
        body_sha256=str,
        secret_of=secret_of,
        now_s=time.time(),
        service="s3",
        payload_hash=payload,
    )
    chunks = None
    if payload in _SIGNED_CHUNKS:
        signing = sigv4.signing_key(secret_of(signer.access_key) or "", claim.day, signer.region, "s3")
        scope = f"{claim.day}/{signer.region}/s3/aws4_request"
        chunks = ChunkSigner(signing, claim.date, scope, claim.signature)
    return Signature(signer.access_key, payload, chunks)


def arrival(request: StreamRequest, signature: Signature) -> Arrival:
    """The body, decoded and checked as it is read. Raises ``MissingLength``, ``BadArgument``."""
    headers = request.headers
    late = Late()
    chunked = signature.payload.startswith("STREAMING-") or "aws-chunked" in headers.get("content-encoding", "")
    size = _length(headers, "x-amz-decoded-content-length" if chunked else "content-length")
    announced = frozenset(
        known(name.strip().lower().removeprefix(_CHECKSUM))
        for name in headers.get("x-amz-trailer", "").split(",")
        if name
    )
    if chunked:
        content = _decoded(request.content, AwsChunkedDecoder(signature.chunks), late)
    elif HEX_SHA256.fullmatch(signature.payload):
        content = _hashed(request.content, signature.payload)
    else:
        content = aiter(request.content)
    expected = Expected(size, headers.get("content-md5", ""), checksums(headers))
    coming = Arrival(content, expected, announced, late)
    check_algorithm(coming.named, headers.get("x-amz-sdk-checksum-algorithm", "").lower())
    return coming


def checksums(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the values that a request's headers give, by algorithm. Raises ``BadRequest``."""
    found = {name.removeprefix(_CHECKSUM): headers[name] for name in headers if name.startswith(_CHECKSUM)}
    return {known(name): value for name, value in found.items() if name not in ("algorithm", "type", "mode")}


def check_algorithm(named: frozenset[str], algorithm: str) -> None:
    """A client sends one checksum, and that which it says. Raises ``BadRequest``."""
    if len(named) > 1:
        raise BadRequest("Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")
    if algorithm and named != {algorithm}:
        raise BadRequest(
            "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers "
            "were found."
        )


def _length(headers: Mapping[str, str], name: str) -> int:
    text = headers.get(name, "" if name.startswith("x-amz") or "transfer-encoding" in headers else "0")
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise MissingLength("You must provide the Content-Length HTTP header.")
    return int(text)


async def _hashed(content: AsyncIterator[bytes], sha256: str) -> AsyncIterator[bytes]:
    digest = hashlib.sha256()
    async for data in content:
        digest.update(data)
        yield data
    if digest.hexdigest() != sha256:
        raise AccessDenied(
            "The provided 'x-amz-content-sha256' header does not match what was computed.", code="payload"
        )


async def _decoded(content: AsyncIterator[bytes], decoder: AwsChunkedDecoder, late: Late) -> AsyncIterator[bytes]:
    async for data in content:
        for piece in decoder.feed(data):
            yield piece
    for name, value in decoder.close().items():
        if name.startswith(_CHECKSUM):
            late.checksums[name.removeprefix(_CHECKSUM)] = value
