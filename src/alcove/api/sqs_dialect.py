"""How clients of SQS are told that something went wrong: JSON, with the older codes in a header of their own."""

from __future__ import annotations

import json

from alcove.api.dialect import Dialect, MalformedDocument
from alcove.errors import (
    AccessDenied,
    AlcoveError,
    CapacityError,
    HostError,
    InvalidRequest,
    RequestError,
    TooLarge,
)
from alcove.gateway.message import Response
from alcove.queues import faults

# In front of an operation's name, in X-Amz-Target.
TARGET = "AmazonSQS."
CONTENT_TYPE = "application/x-amz-json-1.0"
# Shapes of the JSON protocol whose code in the query protocol is another ("Error responses", SQS API reference).
_QUERY_CODES = {
    "QueueDoesNotExist": "AWS.SimpleQueueService.NonExistentQueue",
    "QueueNameExists": "QueueAlreadyExists",
    "PurgeQueueInProgress": "AWS.SimpleQueueService.PurgeQueueInProgress",
    "MessageNotInflight": "AWS.SimpleQueueService.MessageNotInflight",
    "UnsupportedOperation": "AWS.SimpleQueueService.UnsupportedOperation",
    "EmptyBatchRequest": "AWS.SimpleQueueService.EmptyBatchRequest",
    "TooManyEntriesInBatchRequest": "AWS.SimpleQueueService.TooManyEntriesInBatchRequest",
    "BatchRequestTooLong": "AWS.SimpleQueueService.BatchRequestTooLong",
    "BatchEntryIdsNotDistinct": "AWS.SimpleQueueService.BatchEntryIdsNotDistinct",
    "InvalidBatchEntryId": "AWS.SimpleQueueService.InvalidBatchEntryId",
    "InvalidParameterValueException": "InvalidParameterValue",
    "MissingRequiredParameterException": "MissingParameter",
}


def _render(status: int, code: str, message: str, hint: str, request_id: str, reason: str) -> Response:
    document = {"__type": f"com.amazonaws.sqs#{code}", "message": message}
    if hint:
        document["hint"] = hint
    fault = "Sender" if status < 500 else "Receiver"
    headers = {
        "Content-Type": CONTENT_TYPE,
        "x-amzn-RequestId": request_id,
        "x-amzn-query-error": f"{_QUERY_CODES.get(code, code)};{fault}",
    }
    return Response(status, headers, json.dumps(document).encode())


SQS = Dialect(
    codes=(
        (AccessDenied, "missing", 403, "MissingAuthenticationToken"),
        (AccessDenied, "malformed", 403, "IncompleteSignature"),
        (AccessDenied, "unknown_key", 403, "InvalidClientTokenId"),
        (AccessDenied, "expired", 403, "RequestExpired"),
        (AccessDenied, "", 403, "SignatureDoesNotMatch"),
        (faults.NoSuchQueue, "", 400, "QueueDoesNotExist"),
        (faults.QueueExists, "", 400, "QueueNameExists"),
        (faults.PurgeInProgress, "", 403, "PurgeQueueInProgress"),
        (faults.BadAttributeName, "", 400, "InvalidAttributeName"),
        (faults.BadAttributeValue, "", 400, "InvalidAttributeValue"),
        (faults.BadContents, "", 400, "InvalidMessageContents"),
        (faults.BadReceipt, "", 400, "ReceiptHandleIsInvalid"),
        (faults.NotInFlight, "", 400, "MessageNotInflight"),
        (faults.MissingParameter, "", 400, "MissingRequiredParameterException"),
        (faults.Unsupported, "", 400, "UnsupportedOperation"),
        (faults.EmptyBatch, "", 400, "EmptyBatchRequest"),
        (faults.LargeBatch, "", 400, "TooManyEntriesInBatchRequest"),
        (faults.LongBatch, "", 400, "BatchRequestTooLong"),
        (faults.SameIds, "", 400, "BatchEntryIdsNotDistinct"),
        (faults.BadEntryId, "", 400, "InvalidBatchEntryId"),
        (MalformedDocument, "", 400, "SerializationException"),
        (TooLarge, "", 400, "InvalidParameterValueException"),
        (InvalidRequest, "", 400, "InvalidParameterValueException"),
        (RequestError, "", 400, "InvalidParameterValueException"),
        (faults.QueueFull, "", 403, "OverLimit"),
        (faults.QueueThrottled, "", 403, "RequestThrottled"),
        (CapacityError, "", 503, "ServiceUnavailable"),
        (HostError, "", 500, "InternalFailure"),
    ),
    fallback=(500, "InternalFailure"),
    internal=(500, "InternalFailure"),
    by_status={400: "SerializationException", 404: "InvalidAction", 413: "InvalidParameterValueException"},
    render=_render,
)


def code_of(error: AlcoveError) -> str:
    """Return the code of one entry's failure in a batch."""
    for kind, _, _, code in SQS.codes:
        if isinstance(error, kind):
            return _QUERY_CODES.get(code, code)
    return SQS.fallback[1]
