"""What went wrong, as documents: FAILURE for the host, answers with a status for the bootstrap."""

from __future__ import annotations

import base64
import json

from alcove.guest.runtimes.provided_http import Request

# Status, body, headers.
Response = tuple[int, bytes, dict[str, str]]
JSON = {"Content-Type": "application/json"}
ERROR_TYPE = "lambda-runtime-function-error-type"
_ERROR_BODY = "lambda-runtime-function-error-body"
_MOST_TEXT = 65536


def failure(kind: str, message: str) -> bytes:
    return json.dumps({"errorType": kind, "errorMessage": message, "stackTrace": []}).encode()


def refusal(status: int, kind: str, message: str) -> Response:
    return status, json.dumps({"errorMessage": message, "errorType": kind}).encode(), JSON


def reported(request: Request) -> bytes:
    """Return an error that the bootstrap has reported, completed where it lacks what AWS's have."""
    kind = request.headers.get(ERROR_TYPE) or "Runtime.Unknown"
    try:
        document = json.loads(request.body)
    except ValueError:
        document = None
    if isinstance(document, dict):
        if "errorType" in document and "errorMessage" in document:
            return request.body
        return json.dumps({"errorType": kind, "errorMessage": "", **document}).encode()
    return failure(kind, request.body[:_MOST_TEXT].decode(errors="replace"))


def reported_in_trailers(request: Request) -> bytes:
    """Return the error that ended a streamed response; its document is base64 in a trailer."""
    try:
        request.body = base64.b64decode(request.headers.get(_ERROR_BODY, ""))
    except ValueError:
        request.body = b""
    return reported(request)
