"""How each client is told that something went wrong: one table for each dialect."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from alcove.errors import (
    AccessDenied,
    AlcoveError,
    CapacityError,
    Conflict,
    HostError,
    InvalidRequest,
    NotFound,
    QuotaExceeded,
    RequestError,
    ThrottledError,
    TooLarge,
)
from alcove.functions.concurrency import NoProvisionedConcurrency
from alcove.functions.records import RevisionMismatch
from alcove.functions.statements import PolicyTooLong
from alcove.gateway.message import Response
from alcove.instances.intake import OtherParameters


class MalformedDocument(InvalidRequest):
    """The body is not the JSON that the call takes."""


class PayloadTooLarge(TooLarge):
    """An event over its limit; AWS has a name of its own for it."""


class NoCodeSigningConfig(NotFound):
    """Code signing is not offered, so there is none."""


Render = Callable[[int, str, str, str, str, str], Response]


@dataclass(frozen=True, slots=True)
class Dialect:
    """``codes`` maps an error's class (and the code that some errors carry) to status and code; first match wins."""

    codes: tuple[tuple[type[AlcoveError], str, int, str], ...]
    fallback: tuple[int, str]
    internal: tuple[int, str]
    by_status: dict[int, str]
    render: Render

    def answer(self, error: AlcoveError, request_id: str) -> Response:
        status, code = self._code(error)
        reason = error.reason if isinstance(error, ThrottledError) else ""
        response = self.render(status, code, str(error), error.hint, request_id, reason)
        if isinstance(error, ThrottledError):
            response.headers["Retry-After"] = str(error.retry_after_s)
        return response

    def _code(self, error: AlcoveError) -> tuple[int, str]:
        reason = error.code if isinstance(error, AccessDenied | QuotaExceeded) else ""
        for kind, wanted, status, code in self.codes:
            if isinstance(error, kind) and wanted in ("", reason):
                return status, code
        return self.fallback

    def refuse(self, status: int, message: str, request_id: str) -> Response:
        code = self.by_status.get(status, self.fallback[1])
        return self.render(status, code, message, "", request_id, "")

    def break_down(self, request_id: str) -> Response:
        """A fault of ours: no detail leaves the server."""
        status, code = self.internal
        message = f"An internal error occurred. Its details are in the server's log under {request_id}."
        return self.render(status, code, message, "", request_id, "")


def _aws(status: int, code: str, message: str, hint: str, request_id: str, reason: str) -> Response:
    kind = "User" if status < 500 else "Service"
    document = {"Type": kind, "Message": message, "message": message}
    if reason:
        document["Reason"] = reason
    if hint:
        document["hint"] = hint
    headers = {
        "Content-Type": "application/json",
        "x-amzn-ErrorType": code,
        "x-amzn-RequestId": request_id,
    }
    return Response(status, headers, json.dumps(document).encode())


def _bce(status: int, code: str, message: str, hint: str, request_id: str, reason: str) -> Response:
    document = {"code": code, "message": message, "requestId": request_id}
    if hint:
        document["hint"] = hint
    headers = {"Content-Type": "application/json", "x-bce-request-id": request_id}
    return Response(status, headers, json.dumps(document).encode())


# Codes of the AWS Lambda API reference ("Common Errors" and each call's own).
AWS = Dialect(
    codes=(
        (AccessDenied, "operator", 403, "AccessDeniedException"),
        (AccessDenied, "missing", 403, "MissingAuthenticationTokenException"),
        (AccessDenied, "malformed", 403, "IncompleteSignatureException"),
        (AccessDenied, "unknown_key", 403, "UnrecognizedClientException"),
        (AccessDenied, "expired", 403, "InvalidSignatureException"),
        (AccessDenied, "", 403, "InvalidSignatureException"),
        (NoProvisionedConcurrency, "", 404, "ProvisionedConcurrencyConfigNotFoundException"),
        (NoCodeSigningConfig, "", 404, "CodeSigningConfigNotFoundException"),
        (NotFound, "", 404, "ResourceNotFoundException"),
        (RevisionMismatch, "", 412, "PreconditionFailedException"),
        (Conflict, "", 409, "ResourceConflictException"),
        (PayloadTooLarge, "", 413, "RequestTooLargeException"),
        (TooLarge, "", 413, "RequestEntityTooLargeException"),
        (QuotaExceeded, "code_bytes", 400, "CodeStorageExceededException"),
        (QuotaExceeded, "functions", 400, "TooManyFunctionsException"),
        (QuotaExceeded, "", 400, "LimitExceededException"),
        (MalformedDocument, "", 400, "InvalidRequestContentException"),
        (PolicyTooLong, "", 400, "PolicyLengthExceededException"),
        (InvalidRequest, "", 400, "InvalidParameterValueException"),
        (ThrottledError, "", 429, "TooManyRequestsException"),
        (CapacityError, "", 502, "EC2ThrottledException"),
        (HostError, "", 502, "EC2UnexpectedException"),
        (RequestError, "", 400, "InvalidParameterValueException"),
    ),
    fallback=(502, "EC2UnexpectedException"),
    internal=(500, "ServiceException"),
    by_status={
        400: "InvalidRequestContentException",
        404: "ResourceNotFoundException",
        405: "InvalidRequestContentException",
        408: "RequestTimeoutException",
        413: "RequestEntityTooLargeException",
        429: "TooManyRequestsException",
        431: "InvalidRequestContentException",
        503: "ServiceUnavailableException",
    },
    render=_aws,
)

# The Python SDK retries 500 and 503 for ever, so what will not pass by itself is never answered
# with them.
BCE = Dialect(
    codes=(
        (AccessDenied, "unknown_key", 403, "InvalidAccessKeyId"),
        (AccessDenied, "expired", 403, "RequestExpired"),
        (AccessDenied, "missing", 403, "AccessDenied"),
        (AccessDenied, "operator", 403, "AccessDenied"),
        (AccessDenied, "malformed", 400, "InvalidHTTPAuthHeader"),
        (AccessDenied, "", 403, "SignatureDoesNotMatch"),
        (NotFound, "", 404, "ResourceNotFoundException"),
        (OtherParameters, "", 409, "IdempotentParameterMismatch"),
        (Conflict, "", 409, "ResourceConflictException"),
        (TooLarge, "", 413, "RequestTooLargeException"),
        (QuotaExceeded, "code_bytes", 400, "CodeStorageExceededException"),
        (QuotaExceeded, "functions", 400, "TooManyFunctionsException"),
        (QuotaExceeded, "", 400, "LimitExceededException"),
        (InvalidRequest, "", 400, "InvalidParameterValueException"),
        (ThrottledError, "", 429, "TooManyRequestsException"),
        (CapacityError, "", 502, "InsufficientCapacity"),
        (RequestError, "", 400, "InvalidParameterValueException"),
    ),
    fallback=(502, "HostError"),
    internal=(502, "InternalError"),
    by_status={
        400: "InvalidRequestContentException",
        404: "ResourceNotFoundException",
        408: "RequestTimeout",
        413: "RequestTooLargeException",
        429: "TooManyRequestsException",
        431: "InvalidRequestContentException",
    },
    render=_bce,
)
