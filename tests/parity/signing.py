"""Requests that a stock SDK would not send, signed all the same."""

from __future__ import annotations

import http.client

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials


def send(
    port: int, method: str, path: str, body: bytes = b"", *, access_key: str, secret: str, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Send one request with a SigV4 signature; return status, headers (lower case) and body."""
    request = AWSRequest(method, f"http://127.0.0.1:{port}{path}", headers, body)
    SigV4Auth(Credentials(access_key, secret), "lambda", "eu-central-1").add_auth(request)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, body, dict(request.headers.items()))
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()
