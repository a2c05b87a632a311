"""What containerd says, in our errors: what can be tried again is told from what cannot."""

from __future__ import annotations

import pytest
from grpclib.const import Status

from alcove.errors import Conflict, InvalidRequest, NotFound
from alcove.instances import fetching
from alcove.instances.cri import CriError, Unavailable, _error


@pytest.mark.parametrize(
    ("status", "words", "kind"),
    [
        (Status.NOT_FOUND, "x", NotFound),
        (Status.ALREADY_EXISTS, "x", Conflict),
        (Status.INVALID_ARGUMENT, "x", InvalidRequest),
        (Status.UNAVAILABLE, "x", Unavailable),
        (Status.UNKNOWN, "x", CriError),
        # One that has just started looks through what it has first.
        (Status.UNKNOWN, "server is not initialized yet", Unavailable),
    ],
)
def test_each_has_its_kind(status: Status, words: str, kind: type[Exception]) -> None:
    assert type(_error("Version", status, words)) is kind


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("failed to authorize: unexpected status: 401 Unauthorized", "--registry-auth"),
        ("pull access denied, authorization failed: no basic auth credentials", "--registry-auth"),
        ("failed commit on ref: unexpected commit digest sha256:1, expected sha256:2: failed precondition", "digest"),
        ('failed to resolve reference "a:1": not found', "name and tag"),
        ("dial tcp 127.0.0.1:1: connect: connection refused", "check the registry"),
        ("something else", ""),
    ],
)
def test_what_to_do_is_said(words: str, says: str) -> None:
    assert says in fetching.hint(words)
    assert bool(says) == bool(fetching.hint(words))
