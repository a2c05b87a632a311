"""NFS volumes in the guest: options, versions, answers that come later."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alcove.guest import nfs
from alcove.guest.nfs import NfsMounts, options, try_each
from alcove.guest.refused import Refused


def request(**fields: Any) -> dict[str, Any]:
    return {"name": "v", "server": "10.0.0.1", "path": "/data", "options": [], "read_only": False, **fields}


class Replies:
    def __init__(self) -> None:
        self.given: dict[int, object] = {}

    def answer(self, id: int, reply: dict[str, Any]) -> None:
        self.given[id] = reply

    def refuse(self, id: int, code: str, message: str) -> None:
        self.given[id] = code


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(nfs, "NFS", str(tmp_path))
    return tmp_path


def reap(mounts: NfsMounts) -> None:
    (pid,) = mounts._children
    _, status = os.waitpid(pid, 0)
    assert mounts.ended(pid, status)
    assert not mounts.ended(pid, status)


def succeed(source: str, target: str, kind: str, flags: int, data: str) -> None:
    pass


def deny(source: str, target: str, kind: str, flags: int, data: str) -> None:
    raise OSError(errno.EACCES, "no")


def test_who_asks_is_answered_when_it_is_mounted(place: Path) -> None:
    replies = Replies()
    mounts = NfsMounts(replies, succeed)
    for id in (1, 2):
        mounts.mount(id, request())
    assert replies.given == {}
    reap(mounts)
    mounts.mount(3, request())
    assert replies.given == {1: {}, 2: {}, 3: {}}
    assert [path.name for path in place.iterdir()] == ["v"]


def test_what_cannot_be_mounted_leaves_nothing(place: Path) -> None:
    replies = Replies()
    mounts = NfsMounts(replies, deny)
    mounts.mount(1, request())
    reap(mounts)
    assert replies.given == {1: "failed"}
    assert not list(place.iterdir())
    assert not mounts.ended(1, 0)


def test_a_server_that_does_not_answer_is_given_up(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setattr(nfs, "TIMEOUT_S", 1)
    replies = Replies()
    mounts = NfsMounts(replies, lambda *arguments: time.sleep(60))
    mounts.mount(1, request())
    reap(mounts)
    assert replies.given == {1: "timeout"}


def test_the_newest_version_that_the_server_speaks_is_taken() -> None:
    tried = []

    def mount(source: str, target: str, kind: str, flags: int, data: str) -> None:
        tried.append(data)
        if "4.2" in data:
            raise OSError(errno.EPROTONOSUPPORT, "old")

    assert try_each(mount, "10.0.0.1:/data", "/x", 0, options(request(options=["hard"]))) == 0
    assert tried == [f"vers={version},hard,addr=10.0.0.1,clientaddr=0.0.0.0,proto=tcp" for version in ("4.2", "4.1")]
    tried.clear()
    assert try_each(deny, "10.0.0.1:/data", "/x", 0, options(request())) == errno.EACCES
    assert try_each(mount, "[fd00::1]:/data", "/x", 0, options(request(options=["nfsvers=3"]))) == 0
    assert tried == ["vers=3,addr=fd00::1,proto=tcp6"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "../v"},
        {"server": "server.example"},
        {"server": "10.0.0.1,x"},
        {"path": "data"},
        {"path": "/" + "a" * 2000},
        {"options": ["addr=10.0.0.2"]},
        {"options": ["hard,addr=10.0.0.2"]},
        {"options": "hard"},
        {"options": ["hard"] * 100},
    ],
)
def test_what_is_no_volume_is_refused(place: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        NfsMounts(Replies(), succeed).mount(1, request(**wrong))
    assert not list(place.iterdir())


@given(st.lists(st.text()))
def test_no_option_says_where_to(texts: list[str]) -> None:
    try:
        attempts = options(request(options=texts))
    except Refused:
        return
    for attempt in attempts:
        assert not any(part.startswith(("addr", "mountaddr", "clientaddr")) for part in attempt.split(","))
