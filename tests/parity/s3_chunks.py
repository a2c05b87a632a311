"""An ``aws-chunked`` upload made by hand, by botocore's signer; it can be damaged on purpose."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import zlib

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from tests.parity.conftest import Platform

REGION = "eu-central-1"
CHUNK = 64 << 10


class _Signer(S3SigV4Auth):
    def _should_sha256_sign_payload(self, request: AWSRequest) -> bool:
        return True

    def payload(self, request: AWSRequest) -> str:
        return str(request.headers["X-Amz-Content-SHA256"])

    def add_auth(self, request: AWSRequest) -> None:
        request.headers["X-Amz-Content-SHA256"] = request.context["payload"]
        super().add_auth(request)

    def _modify_request_before_signing(self, request: AWSRequest) -> None:
        payload = request.headers["X-Amz-Content-SHA256"]
        super()._modify_request_before_signing(request)
        del request.headers["X-Amz-Content-SHA256"]
        request.headers["X-Amz-Content-SHA256"] = payload


def _hex(key: bytes, text: str) -> str:
    return hmac.digest(key, text.encode(), "sha256").hex()


def put(platform: Platform, bucket: str, key: str, body: bytes, *, signed: bool, damage: str = "") -> tuple[int, bytes]:
    """Return status and body of the answer."""
    payload = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER" if signed else "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
    request = AWSRequest(
        "PUT",
        f"{platform.s3_endpoint()}/{bucket}/{key}",
        headers={
            "content-encoding": "aws-chunked",
            "x-amz-decoded-content-length": str(len(body)),
            "x-amz-trailer": "x-amz-checksum-crc32",
        },
    )
    request.context["payload"] = payload
    _Signer(Credentials(platform.access_key, platform.secret), "s3", REGION).add_auth(request)
    date = request.headers["X-Amz-Date"]
    day = date[:8]
    signing = ("AWS4" + platform.secret).encode()
    for part in (day, REGION, "s3", "aws4_request"):
        signing = hmac.digest(signing, part.encode(), "sha256")
    previous = request.headers["Authorization"].rpartition("Signature=")[2]
    scope = f"{date}\n{day}/{REGION}/s3/aws4_request"
    empty = hashlib.sha256(b"").hexdigest()
    sent = bytearray()
    for start in [*range(0, len(body), CHUNK), len(body)]:
        data = body[start : start + CHUNK]
        head = f"{len(data):x}"
        if signed:
            chain = f"AWS4-HMAC-SHA256-PAYLOAD\n{scope}\n{previous}\n{empty}\n{hashlib.sha256(data).hexdigest()}"
            previous = _hex(signing, chain)
            head += f";chunk-signature={previous}"
        if damage == "data" and start:
            data = data[:-1] + b"!" if data else data
        sent += head.encode() + b"\r\n" + (data + b"\r\n" if data else b"")
    crc = base64.b64encode(zlib.crc32(body if damage != "trailer" else b"?").to_bytes(4, "big")).decode()
    trailer = f"x-amz-checksum-crc32:{crc}"
    sent += trailer.encode() + b"\r\n"
    if signed:
        chain = (
            f"AWS4-HMAC-SHA256-TRAILER\n{scope}\n{previous}\n{hashlib.sha256((trailer + chr(10)).encode()).hexdigest()}"
        )
        sent += f"x-amz-trailer-signature:{_hex(signing, chain)}\r\n".encode()
    sent += b"\r\n"
    if damage == "cut":
        del sent[-200:]
    connection = http.client.HTTPConnection("127.0.0.1", platform.s3_port, timeout=20)
    try:
        connection.request("PUT", f"/{bucket}/{key}", bytes(sent), dict(request.headers))
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
