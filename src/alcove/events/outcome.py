"""What became of an event, and what follows from it: records for destinations, in AWS's shape ("Adding a destination",
AWS Lambda developer guide), and the event itself for a dead-letter queue.

What follows is accepted in the transaction that removes the event, under ids derived from the event's: no kill -9 loses
it or makes it twice.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

import msgspec

from alcove.events.policy import EVENT_LIMIT
from alcove.events.target import service_of
from alcove.functions import names
from alcove.functions.model import LATEST, FunctionVersion, InvokeResult
from alcove.store.events import EventRow
from alcove.store.invoke_configs import InvokeConfigRow

_IDS = uuid.UUID("5c1f7b54-6ad6-5f0b-9d0c-0f3b2f5f6f0e")
# Lambda stops a chain of requests in which functions call each other after about 16 invocations.
LOOP_LIMIT = 16


class Condition(StrEnum):
    SUCCESS = "Success"
    RETRIES_EXHAUSTED = "RetriesExhausted"
    EVENT_AGE_EXCEEDED = "EventAgeExceeded"
    # Not among AWS's: it tells by mail.
    RECURSION_STOPPED = "RecursiveInvocationStopped"


@dataclass(frozen=True, slots=True)
class Outcome:
    """``result`` is that of the last invocation, None where there was none; ``invocations`` is their number."""

    function: FunctionVersion
    condition: Condition
    invocations: int
    result: InvokeResult | None = None


def follow_ups(row: EventRow, outcome: Outcome, config: InvokeConfigRow | None, moment_ms: int) -> list[EventRow]:
    """Return the events that the outcome makes."""
    failed = outcome.condition is not Condition.SUCCESS
    target = "" if config is None else config.on_failure if failed else config.on_success
    # Beyond the limit a record still goes to a queue, which calls nothing.
    if service_of(target) == "lambda" and row.depth >= LOOP_LIMIT:
        target = ""
    found = []
    if target:
        found.append(_event(row, target, record(row, outcome, moment_ms), moment_ms))
    if failed and outcome.function.dead_letter:
        attributes = json.dumps(_dead_letter_attributes(row, outcome))
        found.append(_event(row, outcome.function.dead_letter, row.payload, moment_ms, "dead-letter", attributes))
    return found


def record(row: EventRow, outcome: Outcome, moment_ms: int) -> bytes:
    """Return the record for a destination. Payloads that make it too large for an event are left out, by name."""
    stamp = datetime.fromtimestamp(moment_ms // 1000, UTC)
    qualifier = row.qualifier or LATEST
    result = outcome.result
    fields = {
        "version": b'"1.0"',
        "timestamp": f'"{stamp:%Y-%m-%dT%H:%M:%S}.{moment_ms % 1000:03d}Z"'.encode(),
        "requestContext": msgspec.json.encode(
            {
                "requestId": row.request_id,
                "functionArn": f"{outcome.function.function_arn}:{qualifier}",
                "condition": outcome.condition,
                "approximateInvokeCount": outcome.invocations,
            }
        ),
        "requestPayload": as_json(row.payload),
    }
    if result is not None:
        context: dict[str, object] = {"statusCode": 200, "executedVersion": result.executed_version}
        if result.error is not None:
            context["functionError"] = result.error
        fields["responseContext"] = msgspec.json.encode(context)
        fields["responsePayload"] = as_json(result.payload)
    return _bounded(fields)


def _bounded(fields: dict[str, bytes]) -> bytes:
    omitted: list[str] = []
    for name in ("responsePayload", "requestPayload"):
        # Names, quotes and what names the omitted ones.
        if sum(map(len, fields.values())) + 400 > EVENT_LIMIT and name in fields:
            omitted.append(name)
            fields = {**fields, name: b"null", "omitted": msgspec.json.encode(omitted)}
    return b"{" + b",".join(f'"{name}":'.encode() + value for name, value in fields.items()) + b"}"


def as_json(payload: bytes) -> bytes:
    """Return the payload as it can stand in a document: as it is, or as a string where it is not JSON."""
    try:
        msgspec.json.decode(payload, type=msgspec.Raw)
        payload.decode()
        return payload
    except (msgspec.DecodeError, ValueError, RecursionError):
        return json.dumps(payload.decode(errors="replace")).encode()


def _event(
    row: EventRow, target: str, payload: bytes, moment_ms: int, role: str = "destination", attributes: str = ""
) -> EventRow:
    function, qualifier = target, ""
    if service_of(target) == "lambda":
        reference = names.parse(target)
        function, qualifier = reference.name, reference.qualifier or ""
    return EventRow(
        request_id=str(uuid.uuid5(_IDS, f"{role} {row.request_id}")),
        tenant_id=row.tenant_id,
        function=function,
        qualifier=qualifier,
        payload=payload,
        source=role,
        trace_id=row.trace_id,
        client_context=attributes,
        accepted_ms=moment_ms,
        due_ms=moment_ms,
        depth=row.depth + 1,
    )


def _dead_letter_attributes(row: EventRow, outcome: Outcome) -> dict[str, str | int]:
    """As of "Dead-letter queues", AWS Lambda developer guide."""
    message = str(outcome.condition)
    if outcome.result is not None:
        try:
            document = json.loads(outcome.result.payload)
            message = str(document["errorMessage"])
        except (ValueError, KeyError, TypeError, RecursionError):
            pass
    return {"RequestID": row.request_id, "ErrorCode": 200, "ErrorMessage": message[:1024]}
