"""The SQS API (2012-11-05, JSON protocol) over Alcove's own queues, for stock AWS SDKs.

One path for all calls; ``X-Amz-Target`` names the call. Messages are in ``sqs_messages``.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from alcove.api import sqs_messages as messages
from alcove.api.audit import perform
from alcove.api.body import field, read_object, text_map, words
from alcove.api.context import Call
from alcove.api.router import Route
from alcove.api.schema import Detail, object_of
from alcove.api.sqs_dialect import CONTENT_TYPE, SQS, TARGET
from alcove.api.sqs_messages import queue_of, whole
from alcove.errors import InvalidRequest
from alcove.functions.keys import PREFIX, SERVICE_ENDPOINT
from alcove.gateway.message import Response
from alcove.queues.attributes import CHOICES, FIFO, NUMBERS, REDRIVE
from alcove.queues.directory import Queue
from alcove.queues.faults import BadAttributeName, NoSuchQueue, Unsupported

# 256 KiB of a batch, with what JSON's escapes make of them.
BODY_LIMIT = 2 << 20
LIST_LIMIT = 1000
_COUNTS = {
    "ApproximateNumberOfMessages": "visible",
    "ApproximateNumberOfMessagesNotVisible": "in_flight",
    "ApproximateNumberOfMessagesDelayed": "delayed",
}
_STAMPS = ("QueueArn", "CreatedTimestamp", "LastModifiedTimestamp", "SqsManagedSseEnabled")
_KNOWN = {*_STAMPS, REDRIVE, FIFO, *CHOICES, *NUMBERS, *_COUNTS}

Operation = Callable[[Call, Mapping[str, Any]], Awaitable[Any]]


def _url(call: Call, queue: Queue) -> str:
    """Some SDKs send to this address: a function's is the one inside."""
    base = SERVICE_ENDPOINT if call.key.startswith(PREFIX) else call.faces.host.endpoint()
    return f"{base}/{queue.tenant}/{queue.name}"


async def create_queue(call: Call, document: Mapping[str, Any]) -> Any:
    name = field(document, "QueueName", str) or ""
    given = text_map(document, "Attributes") or {}
    tags = text_map(document, "tags")
    queue = await call.faces.services.queues.directory.create(call.tenant, name, given, tags)
    return {"QueueUrl": _url(call, queue)}


async def get_queue_url(call: Call, document: Mapping[str, Any]) -> Any:
    owner = field(document, "QueueOwnerAWSAccountId", str)
    if owner not in (None, call.tenant):
        raise NoSuchQueue
    queue = call.faces.services.queues.directory.find(call.tenant, field(document, "QueueName", str) or "")
    return {"QueueUrl": _url(call, queue)}


async def list_queues(call: Call, document: Mapping[str, Any]) -> Any:
    prefix, after = field(document, "QueueNamePrefix", str) or "", field(document, "NextToken", str) or ""
    limit = whole(document, "MaxResults", 1, LIST_LIMIT)
    found = call.faces.services.queues.directory.page(call.tenant, prefix, after, (limit or LIST_LIMIT) + 1)
    page = found[: limit or LIST_LIMIT]
    answer: dict[str, Any] = {"QueueUrls": [_url(call, queue) for queue in page]} if page else {}
    if len(found) > len(page) and limit:
        answer["NextToken"] = page[-1].name
    return answer


async def get_queue_attributes(call: Call, document: Mapping[str, Any]) -> Any:
    queue = queue_of(call, document)
    names = words(document, "AttributeNames")
    unknown = [name for name in names if name != "All" and name not in _KNOWN]
    if unknown:
        raise BadAttributeName(f"Unknown Attribute {str(unknown[0])[:80]}.")
    found = await _attributes(call, queue)
    return {"Attributes": {name: value for name, value in found.items() if "All" in names or name in names}}


async def _attributes(call: Call, queue: Queue) -> dict[str, str]:
    counts = await call.faces.services.queues.counts(queue)
    of_fifo = {FIFO: "true", **{name: queue.attributes.choice(name) for name in CHOICES}}
    return {
        "QueueArn": queue.arn,
        "CreatedTimestamp": str(queue.created_ms // 1000),
        "LastModifiedTimestamp": str(queue.modified_ms // 1000),
        "SqsManagedSseEnabled": "false",
        **{name: str(queue.attributes.number(name)) for name in NUMBERS},
        **{name: str(getattr(counts, part)) for name, part in _COUNTS.items()},
        **{name: value for name, value in queue.attributes.given.items() if name == REDRIVE},
        **(of_fifo if queue.attributes.fifo else {}),
    }


async def set_queue_attributes(call: Call, document: Mapping[str, Any]) -> Any:
    given = text_map(document, "Attributes")
    if not given:
        raise InvalidRequest("The request must contain the parameter Attributes.")
    await call.faces.services.queues.directory.set_attributes(queue_of(call, document), given)


async def delete_queue(call: Call, document: Mapping[str, Any]) -> Any:
    await call.faces.services.queues.delete_queue(queue_of(call, document))


async def purge_queue(call: Call, document: Mapping[str, Any]) -> Any:
    await call.faces.services.queues.purge(queue_of(call, document))


async def list_dead_letter_sources(call: Call, document: Mapping[str, Any]) -> Any:
    arn = queue_of(call, document).arn
    every = call.faces.services.queues.directory.page(call.tenant)
    sources = [one for one in every if one.attributes.redrive is not None and one.attributes.redrive.target == arn]
    return {"queueUrls": [_url(call, queue) for queue in sources]}


async def list_queue_tags(call: Call, document: Mapping[str, Any]) -> Any:
    tags = queue_of(call, document).tags
    return {"Tags": dict(tags)} if tags else {}


async def tag_queue(call: Call, document: Mapping[str, Any]) -> Any:
    queue = queue_of(call, document)
    tags = {**queue.tags, **(text_map(document, "Tags") or {})}
    await call.faces.services.queues.directory.set_tags(queue, tags)


async def untag_queue(call: Call, document: Mapping[str, Any]) -> Any:
    queue = queue_of(call, document)
    gone = set(words(document, "TagKeys"))
    tags = {name: value for name, value in queue.tags.items() if name not in gone}
    await call.faces.services.queues.directory.set_tags(queue, tags)


OPERATIONS: Mapping[str, Operation] = {
    "CreateQueue": create_queue,
    "GetQueueUrl": get_queue_url,
    "ListQueues": list_queues,
    "GetQueueAttributes": get_queue_attributes,
    "SetQueueAttributes": set_queue_attributes,
    "DeleteQueue": delete_queue,
    "PurgeQueue": purge_queue,
    "ListDeadLetterSourceQueues": list_dead_letter_sources,
    "ListQueueTags": list_queue_tags,
    "TagQueue": tag_queue,
    "UntagQueue": untag_queue,
    "SendMessage": messages.send_message,
    "SendMessageBatch": messages.send_message_batch,
    "ReceiveMessage": messages.receive_message,
    "DeleteMessage": messages.delete_message,
    "DeleteMessageBatch": messages.delete_message_batch,
    "ChangeMessageVisibility": messages.change_visibility,
    "ChangeMessageVisibilityBatch": messages.change_visibility_batch,
}


# What the audit tells of; messages come and go without.
CHANGES = frozenset({create_queue, set_queue_attributes, delete_queue, purge_queue, tag_queue, untag_queue})


async def act(call: Call) -> Response:
    """Carry out a call of the SQS API: X-Amz-Target names it."""
    target = call.request.headers.get("x-amz-target", "")
    operation = OPERATIONS.get(target.removeprefix(TARGET)) if target.startswith(TARGET) else None
    if operation is None:
        raise Unsupported(
            f"There is no operation {target[:80]!r} here.", hint="SQS's JSON protocol is spoken: update the SDK"
        )
    document = read_object(call.request)
    if operation not in CHANGES:
        return await _carry_out(call, operation, document)

    async def change(call: Call, queue: str) -> Response:
        return await _carry_out(call, operation, document)

    change.__name__ = operation.__name__
    named = field(document, "QueueName", str) or field(document, "QueueUrl", str) or ""
    return await perform(call, Route("POST", "/", change, SQS), {"queue": named.rpartition("/")[2]})


async def _carry_out(call: Call, operation: Operation, document: Mapping[str, Any]) -> Response:
    found = await operation(call, document)
    headers = {"Content-Type": CONTENT_TYPE, "x-amzn-RequestId": call.request_id}
    return Response(200, headers, b"" if found is None else json.dumps(found).encode())


_DETAIL = Detail(object_of(), headers=("X-Amz-Target",))
ROUTES = (Route("POST", "/", act, SQS, BODY_LIMIT, service="sqs", detail=_DETAIL, audited=False),)
