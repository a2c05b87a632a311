from __future__ import annotations

from alcove.gateway.shares import Shares


def test_an_owner_has_its_share_and_no_more() -> None:
    owners = {"10.0.0.1": "a", "10.0.0.2": "a", "10.0.0.3": "b"}
    shares = Shares(owners.get, 2)
    first, second, third = object(), object(), object()
    assert shares.take(first, "10.0.0.1")
    assert shares.take(second, "10.0.0.2")
    assert not shares.take(third, "10.0.0.1")
    assert shares.take(third, "10.0.0.3")
    assert not shares.take(object(), "10.0.0.4"), "an address that is nobody's"
    # What was refused gives nothing back; who moves meanwhile gives back to the same.
    shares.give(object())
    del owners["10.0.0.1"]
    shares.give(first)
    assert shares.take(object(), "10.0.0.2")
    assert not shares.take(object(), "10.0.0.2")
