"""Errors as HTTP statuses and names: one table for each dialect.

AWS: "Errors" of each call in the Lambda API reference, and "Common errors". CFC: the same names
(Baidu kept them), and the common error codes of Baidu AI Cloud for signatures. On 500 and 503 stock
bce-python-sdk retries again and again, so in that dialect a failure of ours is 502, which fails at
once.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from alcove import errors
from alcove.functions.records import RevisionMismatch
from alcove.gateway.message import Request, Response

log = logging.getLogger(__name__)


class MalformedDocument(errors.InvalidRequest):
    """The body is not the JSON document that the call takes."""


class PackageTooLarge(errors.TooLarge):
    """The body of a call that uploads code is over its limit."""


class UnknownCall(errors.NotFound):
    """No such path or method in this dialect."""


@dataclass(frozen=True, slots=True)
class Failure:
    status: int
    name: str
    message: str


_Table = Mapping[type[Exception], tuple[int, str]]

# The most specific class that fits counts; see ``_look_up``.
AWS: _Table = {
    MalformedDocument: (400, "InvalidRequestContentException"),
    UnknownCall: (404, "UnknownOperationException"),
    errors.NotFound: (404, "ResourceNotFoundException"),
    RevisionMismatch: (412, "PreconditionFailedException"),
    errors.Conflict: (409, "ResourceConflictException"),
    PackageTooLarge: (413, "RequestEntityTooLargeException"),
    errors.TooLarge: (413, "RequestTooLargeException"),
    errors.InvalidRequest: (400, "InvalidParameterValueException"),
    errors.RetryLater: (429, "TooManyRequestsException"),
    errors.SandboxError: (502, "ServiceException"),
    Exception: (500, "ServiceException"),
}
AWS_ACCESS = {
    "missing": (403, "MissingAuthenticationTokenException"),
    "malformed": (403, "IncompleteSignatureException"),
    "unknown_key": (403, "UnrecognizedClientException"),
    "expired": (403, "InvalidSignatureException"),
    "signature": (403, "InvalidSignatureException"),
}
BCE: _Table = {
    **AWS,
    MalformedDocument: (400, "MalformedJSON"),
    UnknownCall: (404, "InvalidURI"),
    Exception: (502, "InternalError"),
}
BCE_ACCESS = {
    "missing": (403, "AccessDenied"),
    "malformed": (400, "InvalidHTTPAuthHeader"),
    "unknown_key": (403, "InvalidAccessKeyId"),
    # Stock clients take this one to mean "sign afresh and try again", a bounded number of times.
    "expired": (400, "RequestExpired"),
    "signature": (403, "SignatureDoesNotMatch"),
}


def describe(error: Exception, request: Request, request_id: str, bce: bool) -> Failure:
    """Name the failure in the dialect. What only the operator can mend is logged, not shown to
    tenants.
    """
    if isinstance(error, errors.AccessDenied):
        access = BCE_ACCESS if bce else AWS_ACCESS
        status, name = access.get(error.code, access["signature"])
    else:
        status, name = _look_up(error, BCE if bce else AWS)
    if isinstance(error, (errors.RequestError, errors.RetryLater)) or (
        isinstance(error, errors.AlcoveError) and request.peer.is_operator
    ):
        message = f"{error} ({error.hint})" if error.hint else str(error)
    else:
        message = f"The service failed; the operator finds why under {request_id}."
    if status >= 500:
        known = isinstance(error, errors.AlcoveError)
        log.error("request %s failed: %s", request_id, error, exc_info=None if known else error)
    return Failure(status, name, message)


def aws_failure(error: Exception, request: Request, request_id: str) -> Response:
    """``{"Type", "Message"}``; some error shapes of the service model say ``message``."""
    failure = describe(error, request, request_id, bce=False)
    kind = "User" if failure.status < 500 else "Service"
    body = {"Type": kind, "Message": failure.message, "message": failure.message}
    headers = {
        "Content-Type": "application/json",
        "x-amzn-ErrorType": failure.name,
        "x-amzn-RequestId": request_id,
    }
    return Response(failure.status, headers, msgspec.json.encode(body))


def bce_failure(error: Exception, request: Request, request_id: str) -> Response:
    """``{"code", "message", "requestId"}``."""
    failure = describe(error, request, request_id, bce=True)
    body = {"code": failure.name, "message": failure.message, "requestId": request_id}
    headers = {"Content-Type": "application/json", "x-bce-request-id": request_id}
    return Response(failure.status, headers, msgspec.json.encode(body))


def _look_up(error: Exception, table: _Table) -> tuple[int, str]:
    return next(table[kind] for kind in type(error).__mro__ if kind in table)
