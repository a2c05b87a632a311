"""NFS volumes in the guest: options, versions, answers that come later."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alcove.guest import nfs
from alcove.guest.nfs import NfsMounts
from alcove.guest.nfs_volume import Volume, options, volume_in
from alcove.guest.refused import Refused


def request(**fields: Any) -> dict[str, Any]:
    return {"name": "v", "server": "10.0.0.1", "path": "/data", "options": [], "read_only": False, **fields}


class Replies:
    def __init__(self) -> None:
        self.given: dict[int, object] = {}

    def answer(self, id: int, reply: dict[str, Any]) -> None:
        self.given[id] = reply

    def refuse(self, id: int, code: str, message: str) -> None:
        self.given[id] = f"{code}: {message}"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where it is all mounted; beside it is what the kernel is told of the client, and what finds names."""
    (tmp_path / "nfs").mkdir()
    (tmp_path / "machine-id").write_text("0123abcd\n")
    monkeypatch.setattr(nfs, "NFS", str(tmp_path / "nfs"))
    for name, file in (("_MACHINE_ID", "machine-id"), ("_IDENTIFIER", "identifier"), ("_RESOLVER", "resolver")):
        monkeypatch.setattr(nfs, name, str(tmp_path / file))
    return tmp_path / "nfs"


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
    assert replies.given == {1: {}, 2: {}}
    assert [path.name for path in place.iterdir()] == ["v"]
    # By which the server tells it from the clones of its template.
    assert (place.parent / "identifier").read_text() == "0123abcd"


def test_what_cannot_be_mounted_leaves_nothing(place: Path) -> None:
    replies = Replies()
    mounts = NfsMounts(replies, deny)
    mounts.mount(1, request())
    reap(mounts)
    assert replies.given == {1: "failed: 10.0.0.1:/data: Permission denied"}
    assert not list(place.iterdir())
    assert not mounts.ended(1, 0)


def test_a_kernel_that_is_no_client_is_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nfs, "_IDENTIFIER", str(place / "none/identifier"))
    with pytest.raises(Refused, match="no NFS client"):
        NfsMounts(Replies(), succeed).mount(1, request())


def test_a_server_that_does_not_answer_is_given_up(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nfs, "TIMEOUT_S", 1)
    replies = Replies()
    mounts = NfsMounts(replies, lambda *arguments: time.sleep(60))
    mounts.mount(1, request())
    reap(mounts)
    assert replies.given == {1: "timeout: 10.0.0.1:/data: the server did not answer within 1 s"}
    assert not list(place.iterdir())


def test_one_that_is_mounted_is_asked_before_it_is_used(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a child: crun, for which the agent and all containers wait, would wait for the server."""
    monkeypatch.setattr(nfs, "TIMEOUT_S", 1)
    replies = Replies()
    mounts = NfsMounts(replies, succeed)
    for id in (1, 2):
        mounts.mount(id, request())
        reap(mounts)
    monkeypatch.setattr(nfs, "look", lambda folder: time.sleep(60))
    mounts.mount(3, request())
    assert replies.given == {1: {}, 2: {}}
    reap(mounts)
    assert "did not answer" in str(replies.given[3])
    # It stays mounted: the server may come back.
    assert list(place.iterdir())


def test_there_are_no_more_than_a_pod_may_have(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nfs, "MOST", 1)
    mounts = NfsMounts(Replies(), succeed)
    mounts.mount(1, request())
    with pytest.raises(Refused, match="at most 1"):
        mounts.mount(2, request(name="w"))
    reap(mounts)
    with pytest.raises(Refused, match="at most 1"):
        mounts.mount(3, request(name="w"))


class Server:
    """mount(2), of a server that speaks some versions."""

    def __init__(self, *versions: str) -> None:
        self.versions = versions
        self.tried: list[tuple[str, str]] = []

    def mount(self, source: str, target: str, kind: str, flags: int, data: str) -> None:
        self.tried.append((source, data))
        if data.partition(",")[0] not in self.versions:
            raise OSError(errno.EPROTONOSUPPORT, "another version")


def volume(**fields: Any) -> Volume:
    return volume_in(request(**fields))


def test_the_newest_version_that_the_server_speaks_is_taken() -> None:
    server = Server("vers=4.1", "vers=3")
    assert nfs.mount_volume(server.mount, volume(options=["hard"]), "/x") == 0
    assert server.tried == [
        ("10.0.0.1:/data", f"vers={version},hard,proto=tcp,addr=10.0.0.1,clientaddr=0.0.0.0") for version in (4.2, 4.1)
    ]
    server.tried.clear()
    assert nfs.mount_volume(server.mount, volume(server="fd00::1", options=["nfsvers=3", "soft"]), "/x") == 0
    assert server.tried == [("[fd00::1]:/data", "vers=3,soft,nolock,proto=tcp6,addr=fd00::1")]
    assert nfs.mount_volume(deny, volume(), "/x") == errno.EACCES
    assert nfs.mount_volume(Server().mount, volume(), "/x") == errno.EPROTONOSUPPORT


def test_names_are_found_by_the_pods_resolver(place: Path) -> None:
    server = Server("vers=4.2")
    assert nfs.mount_volume(server.mount, volume(server="localhost", resolver="nameserver 10.9.9.9\n"), "/x") == 0
    ((source, data),) = server.tried
    assert (source, "addr=127.0.0.1" in data) == ("127.0.0.1:/data", True) or source == "[::1]:/data"
    assert (place.parent / "resolver").read_text() == "nameserver 10.9.9.9\n"
    replies = Replies()
    mounts = NfsMounts(replies, server.mount)
    mounts.mount(1, request(server="no-such-name.invalid"))
    reap(mounts)
    assert replies.given == {1: "failed: no-such-name.invalid:/data: the server's name has no address"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "../v"},
        {"server": "10.0.0.1,x"},
        {"server": "fe80::1%eth0,addr=10.0.0.2"},
        {"server": "fe80::1%eth0"},
        {"server": "server example"},
        {"server": ""},
        {"path": "data"},
        {"path": "/" + "a" * 2000},
        {"options": ["addr=10.0.0.2"]},
        {"options": ["hard,addr=10.0.0.2"]},
        {"options": ["lock"]},
        {"options": ["source=10.0.0.2:/"]},
        {"options": "hard"},
        {"options": ["hard"] * 100},
    ],
)
def test_what_is_no_volume_is_refused(place: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        NfsMounts(Replies(), succeed).mount(1, request(**wrong))
    assert not list(place.iterdir())


@given(st.lists(st.text() | st.sampled_from(["hard", "timeo=7", "vers=4.1", "nfsvers=3", "port=1"])))
def test_no_option_says_where_to(texts: list[str]) -> None:
    try:
        attempts = options(texts)
    except Refused:
        return
    for attempt in attempts:
        assert attempt.startswith("vers=")
        assert not any("addr" in part or "host" in part for part in attempt.split(","))
