"""What is set of a queue: read from the strings that SQS has for it, checked, written again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from alcove.errors import InvalidRequest
from alcove.queues.faults import BadAttributeName, BadAttributeValue

# "SetQueueAttributes" in the SQS API reference: name: (lowest, highest, default).
NUMBERS: Mapping[str, tuple[int, int, int]] = {
    "VisibilityTimeout": (0, 43_200, 30),
    "DelaySeconds": (0, 900, 0),
    "MessageRetentionPeriod": (60, 1_209_600, 345_600),
    "ReceiveMessageWaitTimeSeconds": (0, 20, 0),
    "MaximumMessageSize": (1024, 262_144, 262_144),
}
REDRIVE = "RedrivePolicy"
FIFO = "FifoQueue"
# Of FIFO queues: what each may be, its default first.
CHOICES: Mapping[str, tuple[str, ...]] = {
    "ContentBasedDeduplication": ("false", "true"),
    "DeduplicationScope": ("queue", "messageGroup"),
    "FifoThroughputLimit": ("perQueue", "perMessageGroupId"),
}
MAX_RECEIVES = range(1, 1001)
TAG_LIMIT = 50


@dataclass(frozen=True, slots=True)
class Redrive:
    """After ``max_receives`` receives without a deletion a message goes to the queue ``target`` (an ARN)."""

    target: str
    max_receives: int


@dataclass(frozen=True, slots=True)
class Attributes:
    """``given`` are the strings that were set."""

    given: Mapping[str, str]
    redrive: Redrive | None = None

    def number(self, name: str) -> int:
        return int(self.given.get(name, NUMBERS[name][2]))

    def choice(self, name: str) -> str:
        return self.given.get(name, CHOICES[name][0])

    @property
    def fifo(self) -> bool:
        return FIFO in self.given

    @property
    def content_based(self) -> bool:
        return self.choice("ContentBasedDeduplication") == "true"

    @property
    def by_group(self) -> bool:
        """Whether a deduplication id counts within its group only."""
        return self.choice("DeduplicationScope") == "messageGroup"

    @property
    def visibility_s(self) -> int:
        return self.number("VisibilityTimeout")

    @property
    def delay_s(self) -> int:
        return self.number("DelaySeconds")

    @property
    def retention_s(self) -> int:
        return self.number("MessageRetentionPeriod")

    @property
    def wait_s(self) -> int:
        return self.number("ReceiveMessageWaitTimeSeconds")

    @property
    def max_bytes(self) -> int:
        return self.number("MaximumMessageSize")

    def changed(self, change: Mapping[str, str]) -> Attributes:
        """Raises ``BadAttributeName`` and ``BadAttributeValue``. An empty value unsets."""
        return parse({name: value for name, value in {**self.given, **change}.items() if value != ""})


def parse(given: Mapping[str, str]) -> Attributes:
    """Raises ``BadAttributeName`` and ``BadAttributeValue``."""
    for name, text in given.items():
        if name in NUMBERS:
            in_range(name, text, *NUMBERS[name][:2])
        elif FIFO in given and name in (FIFO, *CHOICES):
            _check_choice(name, text)
        elif name != REDRIVE:
            raise BadAttributeName(f"Unknown Attribute {name[:80]}.")
    if given.get("FifoThroughputLimit") == "perMessageGroupId" and given.get("DeduplicationScope") != "messageGroup":
        raise BadAttributeValue("The FifoThroughputLimit perMessageGroupId needs the DeduplicationScope messageGroup.")
    redrive = parse_redrive(given[REDRIVE]) if REDRIVE in given else None
    return Attributes(dict(given), redrive)


def _check_choice(name: str, text: str) -> None:
    allowed = CHOICES.get(name, ("true",))
    if text not in allowed:
        raise BadAttributeValue(f"Invalid value for the parameter {name}: it must be {' or '.join(allowed)}.")


def in_range(name: str, text: str, low: int, high: int) -> int:
    number = text.isascii() and text.isdigit() and len(text) < 10
    if not number or not low <= int(text) <= high:
        raise BadAttributeValue(f"Invalid value for the parameter {name}: it must be {low} to {high}.")
    return int(text)


def parse_redrive(text: str) -> Redrive:
    try:
        document = json.loads(text)
        target, receives = document["deadLetterTargetArn"], int(document["maxReceiveCount"])
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
        target, receives = None, 0
    if not isinstance(target, str) or receives not in MAX_RECEIVES:
        raise BadAttributeValue(
            "Invalid value for the parameter RedrivePolicy.",
            hint='such as {"deadLetterTargetArn": "arn:aws:sqs:...", "maxReceiveCount": 5}; receives are 1 to 1000',
        )
    return Redrive(target, receives)


def check_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Raises ``InvalidRequest``: "TagQueue" in the SQS API reference."""
    if len(tags) > TAG_LIMIT:
        raise InvalidRequest(f"A queue has at most {TAG_LIMIT} tags.")
    for name, value in tags.items():
        if not 1 <= len(name) <= 128 or len(value) > 256:
            raise InvalidRequest("A tag has 1 to 128 characters, and 256 at most in its value.")
    return dict(tags)
