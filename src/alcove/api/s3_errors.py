"""Errors in S3's XML shape."""

from __future__ import annotations

from alcove.api import s3_xml
from alcove.buckets.errors import BucketError
from alcove.errors import (
    AccessDenied,
    AlcoveError,
    CapacityError,
    Conflict,
    InvalidRequest,
    NotFound,
    RequestError,
    RetryLater,
    TooLarge,
)
from alcove.gateway.message import Response

_DENIED = {
    "missing": (403, "AccessDenied"),
    "malformed": (400, "AuthorizationHeaderMalformed"),
    "unknown_key": (403, "InvalidAccessKeyId"),
    "expired": (403, "RequestTimeTooSkewed"),
    "payload": (400, "XAmzContentSHA256Mismatch"),
}
_KINDS: tuple[tuple[type[AlcoveError], int, str], ...] = (
    (NotFound, 404, "NoSuchKey"),
    (Conflict, 409, "OperationAborted"),
    (TooLarge, 400, "EntityTooLarge"),
    (InvalidRequest, 400, "InvalidRequest"),
    (CapacityError, 507, "InsufficientStorage"),
    (RetryLater, 503, "SlowDown"),
    (RequestError, 400, "InvalidRequest"),
)
_BY_STATUS = {408: "RequestTimeout", 413: "EntityTooLarge", 429: "SlowDown", 431: "RequestHeaderSectionTooLarge"}


def answer(error: AlcoveError, resource: str, request_id: str) -> Response:
    status, code = _place(error)
    return _render(status, code, str(error), error.hint, resource, request_id)


def refuse(status: int, message: str, request_id: str) -> Response:
    return _render(status, _BY_STATUS.get(status, "InvalidRequest"), message, "", "", request_id)


def break_down(request_id: str) -> Response:
    message = f"We encountered an internal error. Its details are in the server's log under {request_id}."
    return _render(500, "InternalError", message, "", "", request_id)


def _place(error: AlcoveError) -> tuple[int, str]:
    if isinstance(error, BucketError):
        return error.status, error.code
    if isinstance(error, AccessDenied):
        return _DENIED.get(error.code, (403, "SignatureDoesNotMatch"))
    for kind, status, code in _KINDS:
        if isinstance(error, kind):
            return status, code
    return 500, "InternalError"


def _render(status: int, code: str, message: str, hint: str, resource: str, request_id: str) -> Response:
    if status == 304:
        return Response(304, {"x-amz-request-id": request_id})
    fields = [("Code", code), ("Message", message), ("Resource", resource or None), ("RequestId", request_id)]
    response = s3_xml.document("Error", [*fields, ("Hint", hint or None)], status=status, bare=True)
    response.headers["x-amz-request-id"] = request_id
    return response
