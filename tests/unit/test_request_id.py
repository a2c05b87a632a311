"""Ids of requests are version 4 UUIDs, each its own."""

from __future__ import annotations

import uuid

from alcove.wire.request_id import new_request_id


def test_ids_are_random_uuids_over_more_than_one_pool() -> None:
    made = [new_request_id() for _ in range(1000)]
    assert len(set(made)) == 1000
    for text in made:
        found = uuid.UUID(text)
        assert str(found) == text
        assert (found.version, found.variant) == (4, uuid.RFC_4122)
    # All variants and digits come up: nothing is fixed that is to be random.
    assert {text[19] for text in made} == set("89ab")
    assert all(len({text[at] for text in made}) == 16 for at in range(36) if at not in (8, 13, 14, 18, 19, 23))
