"""Which items a mapping's function is handed: those that one of its filters matches. The others are done with unseen.

A filter sees the item's record. What carries the message (a queue's ``body``, RabbitMQ's ``data`` in base64, the values
of a Redis entry's ``fields``) is JSON for it where it holds an object, and text otherwise.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Mapping, Sequence
from itertools import compress
from operator import not_
from typing import Any

from alcove.sources.pattern import Pattern, TooMuchWork, Work
from alcove.sources.source import Item
from alcove.sources.spec import SourceKind

Record = Mapping[str, Any]


class Filters:
    """``patterns`` as ``SourceSpec.filters`` has them; without one everything is wanted."""

    def __init__(self, kind: SourceKind, patterns: Sequence[str]) -> None:
        self._patterns = [Pattern.read(text) for text in patterns]
        self._seen = _VIEWS[kind]

    async def divide(self, items: Sequence[Item]) -> tuple[list[Item], list[Item]]:
        """Return those that are wanted and those that are not, each in order."""
        if not self._patterns:
            return list(items), []
        # Beside the event loop: messages are long, and patterns strangers'.
        wanted = await asyncio.to_thread(lambda: [self.wants(item) for item in items])
        return list(compress(items, wanted)), list(compress(items, map(not_, wanted)))

    def wants(self, item: Item) -> bool:
        record, work = self._seen(item.record), Work()
        try:
            return any(pattern.matches(record, work) for pattern in self._patterns)
        except (TooMuchWork, RecursionError):
            # To be handed too much is no loss, to lose a message is one.
            return True


def _parsed(text: str) -> Any:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return found if isinstance(found, dict) else text


def _queue(record: Record) -> Record:
    return {**record, "body": _parsed(record["body"])}


def _redis(record: Record) -> Record:
    return {**record, "fields": {name: _parsed(text) for name, text in record["fields"].items()}}


def _rabbitmq(record: Record) -> Record:
    try:
        text = base64.b64decode(record["data"]).decode()
    except UnicodeDecodeError:
        return record
    return {**record, "data": _parsed(text)}


_VIEWS: Mapping[SourceKind, Callable[[Record], Record]] = {
    SourceKind.QUEUE: _queue,
    SourceKind.REDIS: _redis,
    SourceKind.RABBITMQ: _rabbitmq,
}
