"""What is refused of queues, by the names that SQS gives it.

RequestError
├── NotFound
│   └── NoSuchQueue
├── Conflict
│   ├── QueueExists            with other attributes
│   └── PurgeInProgress
└── InvalidRequest
    ├── BadAttributeName, BadAttributeValue
    ├── BadContents            a message's characters or size
    ├── BadReceipt, NotInFlight
    ├── MissingParameter
    ├── Unsupported            a kind of queue, or a call, that is not offered
    └── EmptyBatch, LargeBatch, LongBatch, SameIds, BadEntryId

ThrottledError
├── QueueFull                  the tenant's limit of messages or bytes
└── QueueThrottled             more than so many messages a second in FIFO queues
"""

from __future__ import annotations

from alcove.errors import Conflict, InvalidRequest, NotFound, ThrottledError


class NoSuchQueue(NotFound):
    def __init__(self) -> None:
        super().__init__("The specified queue does not exist.", hint="`alcove queue list` shows what there is")


class QueueExists(Conflict):
    pass


class PurgeInProgress(Conflict):
    pass


class BadAttributeName(InvalidRequest):
    pass


class BadAttributeValue(InvalidRequest):
    pass


class BadContents(InvalidRequest):
    pass


class BadReceipt(InvalidRequest):
    pass


class NotInFlight(InvalidRequest):
    pass


class MissingParameter(InvalidRequest):
    pass


class Unsupported(InvalidRequest):
    pass


class EmptyBatch(InvalidRequest):
    pass


class LargeBatch(InvalidRequest):
    """Too many entries."""


class LongBatch(InvalidRequest):
    """Too many bytes."""


class SameIds(InvalidRequest):
    """Two entries of a batch have one id."""


class BadEntryId(InvalidRequest):
    pass


class QueueFull(ThrottledError):
    pass


class QueueThrottled(ThrottledError):
    pass
