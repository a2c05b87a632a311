"""Batches: what fits into an event, and what a function says of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sources import FakeSource

from alcove.sources import batch as batches
from alcove.sources.source import EVENT_BYTES, Item


@pytest.mark.parametrize(
    ("answer", "failed"),
    [
        (b"", []),
        (b"null", []),
        (b"{}", []),
        (b'{"batchItemFailures": []}', []),
        (b'{"batchItemFailures": null}', []),
        (b'{"batchItemFailures": [{"itemIdentifier": "1"}]}', [1]),
        (b'{"batchItemFailures": [{"itemIdentifier": ""}]}', [0, 1, 2]),
        (b'{"batchItemFailures": [{"itemIdentifier": null}]}', [0, 1, 2]),
        (b'{"batchItemFailures": [{"itemIdentifier": "9"}]}', [0, 1, 2]),
        (b'{"batchItemFailures": [{"other": "1"}]}', [0, 1, 2]),
        (b'{"batchItemFailures": [{"itemIdentifier": ["1"]}]}', [0, 1, 2]),
        (b'{"batchItemFailures": 1}', [0, 1, 2]),
        (b"not json", [0, 1, 2]),
    ],
)
def test_what_makes_no_sense_is_a_failure_of_all(answer: bytes, failed: list[int]) -> None:
    batch = list(FakeSource(3).left.values())
    assert [item.token for item in batches.failed_items(answer, batch)] == failed


@given(st.lists(st.integers(0, EVENT_BYTES + 10)))
def test_divided_batches_are_whole_and_fit(sizes: list[int]) -> None:
    items = [Item(str(number), {}, number) for number in range(len(sizes))]
    for item, size in zip(items, sizes, strict=True):
        item.size = size
    found = list(batches.split(items))
    assert [item for batch in found for item in batch] == items
    assert all(len(batch) == 1 or batches.fits(batch) for batch in found)
