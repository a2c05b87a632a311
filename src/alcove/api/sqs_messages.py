"""Messages in the SQS API: sent, received, hidden, deleted, one by one and in batches."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from alcove.api.body import field, words
from alcove.api.context import Call
from alcove.api.sqs_dialect import code_of
from alcove.errors import InvalidRequest
from alcove.queues import faults
from alcove.queues.directory import Queue
from alcove.queues.message import (
    MESSAGE_LIMIT,
    Draft,
    check_attributes,
    check_body,
    check_fifo_id,
    digest_of_attributes,
    digest_of_body,
    sequence_number,
)
from alcove.queues.sending import Accepted, check_kind
from alcove.queues.service import RECEIVE_LIMIT, fifo_attributes, handle_of
from alcove.store.queues import MessageRow

_ENTRY_ID = re.compile(r"[A-Za-z0-9_-]{1,80}")
VISIBILITY_MOST_S = 43_200


def queue_of(call: Call, document: Mapping[str, Any]) -> Queue:
    """Return the queue that ``QueueUrl`` names: its path is /TENANT/NAME, or only a name. Raises ``NoSuchQueue``."""
    try:
        parts = urlsplit(field(document, "QueueUrl", str) or "").path.strip("/").split("/")
    except ValueError:
        raise faults.NoSuchQueue from None
    if len(parts) > 2 or (len(parts) == 2 and parts[0] != call.tenant):
        raise faults.NoSuchQueue
    return call.faces.services.queues.directory.find(call.tenant, parts[-1])


def whole(document: Mapping[str, Any], name: str, low: int, high: int) -> int | None:
    value = field(document, name, int)
    if value is not None and not low <= value <= high:
        raise InvalidRequest(f"Value {value} for parameter {name} is invalid. Reason: Must be {low} to {high}.")
    return value


def _draft(document: Mapping[str, Any]) -> Draft:
    return Draft(
        check_body(document.get("MessageBody")),
        check_attributes(document.get("MessageAttributes")),
        whole(document, "DelaySeconds", 0, 900),
        group_id=check_fifo_id("MessageGroupId", document.get("MessageGroupId")),
        deduplication_id=check_fifo_id("MessageDeduplicationId", document.get("MessageDeduplicationId")),
    )


def _sent(draft: Draft, accepted: Accepted) -> dict[str, str]:
    answer = {"MessageId": accepted.message_id, "MD5OfMessageBody": digest_of_body(draft.body)}
    if draft.group_id:
        answer["SequenceNumber"] = sequence_number(accepted.sequence)
    if draft.attributes:
        answer["MD5OfMessageAttributes"] = digest_of_attributes(draft.attributes)
    return answer


async def send_message(call: Call, document: Mapping[str, Any]) -> Any:
    queue, draft = queue_of(call, document), _draft(document)
    (accepted,) = await call.faces.services.queues.accept(queue, [draft])
    return _sent(draft, accepted)


async def send_message_batch(call: Call, document: Mapping[str, Any]) -> Any:
    queue, good = queue_of(call, document), {}
    failed: list[dict[str, Any]] = []
    for entry_id, entry in entries(document).items():
        try:
            draft = _draft(entry)
            if draft.size > queue.attributes.max_bytes:
                raise InvalidRequest(f"A message has at most {queue.attributes.max_bytes} bytes.")
            check_kind(queue, draft)
            good[entry_id] = draft
        except InvalidRequest as error:
            failed.append(failure(entry_id, error))
    if sum(draft.size for draft in good.values()) > MESSAGE_LIMIT:
        raise faults.LongBatch(f"Batch requests cannot be longer than {MESSAGE_LIMIT} bytes.")
    accepted = await call.faces.services.queues.accept(queue, list(good.values())) if good else []
    done = [
        {"Id": entry_id, **_sent(draft, one)} for (entry_id, draft), one in zip(good.items(), accepted, strict=True)
    ]
    return {"Successful": done, "Failed": failed}


async def receive_message(call: Call, document: Mapping[str, Any]) -> Any:
    queue = queue_of(call, document)
    wait_s = whole(document, "WaitTimeSeconds", 0, 20)
    found = await call.faces.services.queues.receive(
        queue,
        whole(document, "MaxNumberOfMessages", 1, RECEIVE_LIMIT) or 1,
        wait_s=queue.attributes.wait_s if wait_s is None else wait_s,
        visibility_s=whole(document, "VisibilityTimeout", 0, VISIBILITY_MOST_S),
        attempt=check_fifo_id("ReceiveRequestAttemptId", document.get("ReceiveRequestAttemptId")),
    )
    system = {*words(document, "AttributeNames"), *words(document, "MessageSystemAttributeNames")}
    wanted = words(document, "MessageAttributeNames")
    messages = [_received(call, message, system, wanted) for message in found]
    return {"Messages": messages} if messages else {}


def system_attributes(message: MessageRow, sender: str) -> dict[str, str]:
    found = {
        "SenderId": sender,
        "SentTimestamp": str(message.sent_ms),
        "ApproximateReceiveCount": str(message.received),
        "ApproximateFirstReceiveTimestamp": str(message.first_ms),
    }
    if message.dead_letter_of:
        found["DeadLetterQueueSourceArn"] = message.dead_letter_of
    return {**found, **fifo_attributes(message)}


def _received(call: Call, message: MessageRow, system: set[Any], wanted: tuple[str, ...]) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "MessageId": message.message_id,
        "ReceiptHandle": handle_of(message),
        "MD5OfBody": digest_of_body(message.body),
        "Body": message.body,
    }
    chosen = system_attributes(message, call.tenant)
    if "All" not in system:
        chosen = {name: value for name, value in chosen.items() if name in system}
    if chosen:
        answer["Attributes"] = chosen
    given = json.loads(message.attributes)
    attributes = {name: value for name, value in given.items() if any(_asked(name, one) for one in wanted)}
    if attributes:
        answer["MessageAttributes"] = attributes
        answer["MD5OfMessageAttributes"] = digest_of_attributes(attributes)
    return answer


def _asked(name: str, pattern: Any) -> bool:
    text = str(pattern)
    return text in ("All", ".*", name) or (text.endswith(".*") and name.startswith(text[:-1]))


async def delete_message(call: Call, document: Mapping[str, Any]) -> Any:
    handle = field(document, "ReceiptHandle", str) or ""
    await call.faces.services.queues.delete(queue_of(call, document), [handle])


async def delete_message_batch(call: Call, document: Mapping[str, Any]) -> Any:
    queue = queue_of(call, document)

    async def delete(entry: Mapping[str, Any]) -> None:
        await call.faces.services.queues.delete(queue, [field(entry, "ReceiptHandle", str) or ""])

    return await _each(document, delete)


async def change_visibility(call: Call, document: Mapping[str, Any]) -> Any:
    await _hide(call, queue_of(call, document), document)


async def change_visibility_batch(call: Call, document: Mapping[str, Any]) -> Any:
    queue = queue_of(call, document)
    return await _each(document, lambda entry: _hide(call, queue, entry))


async def _hide(call: Call, queue: Queue, entry: Mapping[str, Any]) -> None:
    visibility_s = whole(entry, "VisibilityTimeout", 0, VISIBILITY_MOST_S)
    if visibility_s is None:
        raise InvalidRequest("The request must contain the parameter VisibilityTimeout.")
    handle = field(entry, "ReceiptHandle", str) or ""
    (in_flight,) = await call.faces.services.queues.set_visibility(queue, [(handle, visibility_s, True)])
    if not in_flight:
        raise faults.NotInFlight("The message referred to is not in flight.")


async def _each(document: Mapping[str, Any], work: Callable[[Mapping[str, Any]], Awaitable[None]]) -> Any:
    done, failed = [], []
    for entry_id, entry in entries(document).items():
        try:
            await work(entry)
            done.append({"Id": entry_id})
        except InvalidRequest as error:
            failed.append(failure(entry_id, error))
    return {"Successful": done, "Failed": failed}


def entries(document: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return a batch's entries by their ids. Raises what SQS has for batches."""
    found = field(document, "Entries", list) or []
    if not found:
        raise faults.EmptyBatch("There should be at least one entry in the request.")
    if len(found) > RECEIVE_LIMIT:
        raise faults.LargeBatch(f"Maximum number of entries per request are {RECEIVE_LIMIT}.")
    if not all(isinstance(entry, dict) for entry in found):
        raise InvalidRequest("The entries of a batch must be objects.")
    ids = [entry.get("Id") for entry in found]
    if not all(isinstance(one, str) and _ENTRY_ID.fullmatch(one) for one in ids):
        raise faults.BadEntryId("An Id has 1 to 80 letters, digits, hyphens or underscores.")
    if len(set(ids)) < len(ids):
        raise faults.SameIds("The Ids of a batch must be distinct.")
    return dict(zip(ids, found, strict=True))


def failure(entry_id: str, error: InvalidRequest) -> dict[str, Any]:
    return {"Id": entry_id, "SenderFault": True, "Code": code_of(error), "Message": str(error)}
