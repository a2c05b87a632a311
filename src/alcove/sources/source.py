"""What every event source does: the Protocol that queues and streams implement, and its data.

Each item is fetched at least once. It is gone after ``done``, and comes again after ``again``, after ``close`` without
either, and after a kill -9. ``tests/contract/test_event_source.py`` is the suite that each implementation passes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from alcove.errors import RetryLater

# What an event may be: that of a synchronous invocation.
EVENT_BYTES = 6 * 1024 * 1024
# One message of an outside source; larger ones are passed over.
ITEM_BYTES = 4 * 1024 * 1024


class SourceUnavailable(RetryLater):
    """The source cannot be reached, or does not do what is asked, now."""


@dataclass(slots=True)
class Item:
    """One message. ``id`` is what a handler names in ``batchItemFailures``; ``record`` is its part of the event;
    ``attempts`` counts the deliveries that failed.
    """

    id: str
    record: dict[str, Any]
    token: Any
    attempts: int = 0
    size: int = field(init=False)

    def __post_init__(self) -> None:
        self.size = len(json.dumps(self.record))


class EventSource(Protocol):
    """One mapping's view of its source: ``open`` to ``close``. One fetch is under way at a time.

    Every method raises ``SourceUnavailable``; the mapping then closes it and opens it again later.
    """

    async def open(self) -> None: ...

    async def fetch(self, limit: int, *, wait_s: float, window_s: float = 0) -> list[Item]:
        """Take at most ``limit`` items, in order: wait at most ``wait_s`` for the first, then ``window_s`` for more."""
        ...

    def event(self, items: Sequence[Item]) -> bytes:
        """Return the event that hands them to a function."""
        ...

    async def done(self, items: Sequence[Item]) -> None:
        """They are gone for good when this returns."""
        ...

    async def again(self, items: Sequence[Item], delay_s: float, *, counted: bool) -> None:
        """Have them fetched again, not before ``delay_s``. ``counted`` where it was their failure."""
        ...

    async def forget(self) -> None:
        """Remove what the mapping left at the source (its place in a stream): the mapping is deleted."""
        ...

    async def close(self) -> None: ...
