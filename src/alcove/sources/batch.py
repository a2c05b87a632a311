"""Batches: how many items an event can hold, and which of them a function says that it failed at."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from alcove.sources.source import EVENT_BYTES, Item

# The event around its records.
_FRAME_BYTES = 4096


def split(items: Sequence[Item]) -> Iterator[list[Item]]:
    """Yield batches, in order, that each fit into an event; what alone is too large is a batch of its own."""
    batch: list[Item] = []
    size = _FRAME_BYTES
    for item in items:
        if batch and size + item.size > EVENT_BYTES:
            yield batch
            batch, size = [], _FRAME_BYTES
        batch.append(item)
        size += item.size + 2
    if batch:
        yield batch


def fits(batch: Sequence[Item]) -> bool:
    return _FRAME_BYTES + sum(item.size + 2 for item in batch) <= EVENT_BYTES


def failed_items(answer: bytes, batch: Sequence[Item]) -> list[Item]:
    """Return those that ``ReportBatchItemFailures`` names: none for an empty answer or list, all where the answer makes
    no sense ("Reporting batch item failures", AWS Lambda developer guide).
    """
    try:
        document = json.loads(answer or b"null")
    except (ValueError, RecursionError):
        return list(batch)
    if document is None or document == {}:
        return []
    failures = document.get("batchItemFailures") if isinstance(document, dict) else []
    if failures is None or failures == []:
        return []
    try:
        named = {one["itemIdentifier"] for one in failures}
    except (TypeError, KeyError):
        return list(batch)
    failed = [item for item in batch if item.id in named]
    return failed if len(failed) == len(named) else list(batch)
