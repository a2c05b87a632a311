"""From what a function returns to an HTTP response: format 2.0 of API Gateway, as function URLs read it.

An object with ``statusCode`` is the response; anything else is the body of a 200 ("Response payload format" in the
AWS Lambda developer guide). The function is hostile: a name or value that is no header of HTTP/1.1 makes the whole
answer a 502; headers that frame the message or the connection are ours and are renamed, as API Gateway does.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from typing import Any

from alcove.gateway.message import Response
from alcove.triggers.endpoint import TOKEN

# API Gateway quotas: all headers together have 10,240 bytes.
HEADER_BYTES = 10_240
HEADER_COUNT = 100
JSON = "application/json"
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_OURS = frozenset(
    {
        *("connection", "content-length", "date", "keep-alive", "proxy-authenticate", "proxy-connection", "te"),
        *("trailer", "transfer-encoding", "upgrade"),
    }
)


class BadAnswer(Exception):
    """The function's answer is no HTTP response."""


def refuse(status: int, message: str) -> Response:
    """The answer that API Gateway gives by itself."""
    name = "Message" if status == 403 else "message"
    return Response(status, {"Content-Type": JSON}, json.dumps({name: message}).encode())


def make_response(payload: bytes) -> Response:
    """Return the response. Raises ``BadAnswer``."""
    document = None
    if b"statusCode" in payload:
        try:
            document = json.loads(payload)
        except (ValueError, RecursionError):
            raise BadAnswer("the answer is not JSON") from None
    if not isinstance(document, dict) or "statusCode" not in document:
        return Response(200, {"Content-Type": JSON}, payload)
    response = make_head(document)
    response.body = _body(document)
    return response


def make_head(document: Mapping[str, Any]) -> Response:
    """Return a response without its body. Raises ``BadAnswer``."""
    headers = _headers(document.get("headers"))
    cookies = document.get("cookies") or []
    if not isinstance(cookies, list) or not all(isinstance(one, str) for one in cookies):
        raise BadAnswer("cookies must be a list of strings")
    if not any(name.lower() == "content-type" for name in headers):
        headers["Content-Type"] = JSON
    _check(headers, cookies)
    return Response(_status(document.get("statusCode", 200)), headers, b"", tuple(cookies))


def _status(value: Any) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) == 3:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 200 <= value <= 599:
        raise BadAnswer("statusCode must be 200 to 599")
    return value


def _headers(given: Any) -> dict[str, str]:
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise BadAnswer("headers must be an object")
    headers: dict[str, str] = {}
    for name, value in given.items():
        if isinstance(value, bool):
            text = "true" if value else "false"
        elif isinstance(value, str | int | float):
            text = str(value)
        else:
            raise BadAnswer(f"header {name!r} must be a string")
        headers[f"x-amzn-remapped-{name}" if name.lower() in _OURS else name] = text
    return headers


def _check(headers: Mapping[str, str], cookies: list[str]) -> None:
    pairs = [*headers.items(), *(("set-cookie", cookie) for cookie in cookies)]
    if len(pairs) > HEADER_COUNT or sum(len(name) + len(value) for name, value in pairs) > HEADER_BYTES:
        raise BadAnswer("the headers are too large")
    for name, value in pairs:
        if not TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
            raise BadAnswer("a header is not valid")


def _body(document: Mapping[str, Any]) -> bytes:
    body = document.get("body")
    if body is None:
        return b""
    if not isinstance(body, str):
        raise BadAnswer("body must be a string")
    try:
        if document.get("isBase64Encoded") is True:
            return base64.b64decode(body, validate=True)
        return body.encode()
    except (binascii.Error, ValueError) as error:
        raise BadAnswer("the body is not what it says") from error
