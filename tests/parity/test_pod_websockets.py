"""Logs of instances over WebSocket, as a stock client speaks it: signed, bounded, each tenant's own."""

from __future__ import annotations

import contextlib
import json
import socket
from itertools import count
from pathlib import Path

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from tests.parity.conftest import Platform
from tests.parity.signing import send
from tests.peer import Peer, Refused

from alcove.instances import service

Log = tuple[str, Path]
PODS = "/alcove/v1/pods"
NUMBERS = count()
TIME = b"2026-11-25T08:09:10.123456789Z"


def dial(platform: Platform, path: str, key: str, secret: str, *protocols: str) -> Peer:
    request = AWSRequest("GET", f"http://127.0.0.1:{platform.port}{path}")
    SigV4Auth(Credentials(key, secret), "lambda", "eu-central-1").add_auth(request)
    return connect(platform, path, {key: value for key, value in request.headers.items() if key != "Host"}, *protocols)


def connect(platform: Platform, path: str, headers: dict[str, str], *protocols: str) -> Peer:
    sock = socket.create_connection(("127.0.0.1", platform.port))
    return Peer(f"ws://127.0.0.1:{platform.port}{path}", sock, headers, protocols)


@pytest.fixture
def log(platform: Platform) -> Log:
    """The log of an instance that never starts, for no runtime is here; as one would have it."""
    keys = {"access_key": platform.access_key, "secret": platform.secret}
    name = f"ws-{next(NUMBERS)}"
    document = {"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    status, _, answer = send(platform.port, "POST", PODS, json.dumps(document).encode(), **keys)
    assert status == 201, answer
    folder = platform.socket.parent.parent / "instances" / json.loads(answer)["metadata"]["uid"] / "logs/c"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "0.log"
    write(path, (b"stdout", b"out"), (b"stderr", b"err"))
    return f"{PODS}/{name}/logs", path


def write(path: Path, *lines: tuple[bytes, bytes]) -> None:
    with path.open("ab") as file:
        file.writelines(b"%b %b F %b\n" % (TIME, stream, text) for stream, text in lines)


def test_a_log_is_read_and_ends(platform: Platform, log: Log) -> None:
    with dial(platform, f"{log[0]}?timestamps=1", platform.access_key, platform.secret) as peer:
        assert list(peer) == [TIME + b" out\n", TIME + b" err\n"]
    path = f"{log[0]}?format=frames&tail=1"
    with dial(platform, path, platform.access_key, platform.secret, "binary.k8s.io") as peer:
        assert peer.subprotocol == "binary.k8s.io"
        assert list(peer) == [b"\x02err\n"]


def test_a_log_is_followed_and_a_client_that_leaves_ends_it(platform: Platform, log: Log) -> None:
    with dial(platform, f"{log[0]}?follow=1", platform.access_key, platform.secret) as peer:
        assert (peer.recv(), peer.recv()) == (b"out\n", b"err\n")
        write(log[1], (b"stdout", b"later"))
        assert peer.recv() == b"later\n"
    # Counted no more, it leaves room for as many others as there may be.
    for _ in range(3):
        with dial(platform, f"{log[0]}?follow=1", platform.access_key, platform.secret) as peer:
            assert peer.recv() == b"out\n"


def test_who_is_not_known_or_another_has_none_of_it(platform: Platform, log: Log) -> None:
    for key, secret, status in (
        (platform.access_key, "wrong", 403),
        (platform.other_access_key, platform.other_secret, 404),
    ):
        with pytest.raises(Refused) as refused:
            dial(platform, log[0], key, secret)
        assert refused.value.status == status
    with pytest.raises(Refused) as refused:
        connect(platform, log[0], {})
    assert refused.value.status == 403
    with pytest.raises(Refused) as refused:
        dial(platform, log[0], platform.access_key, platform.secret, "v9.channel.k8s.io")
    assert refused.value.status == 400


def test_a_tenant_has_so_many_sessions(platform: Platform, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "SESSIONS_LIMIT", 1)
    with dial(platform, f"{log[0]}?follow=1", platform.access_key, platform.secret) as peer:
        assert peer.recv() == b"out\n"
        with pytest.raises(Refused) as refused:
            dial(platform, f"{log[0]}?follow=1", platform.access_key, platform.secret)
        assert refused.value.status == 429


def test_a_message_that_is_too_long_ends_it(platform: Platform, log: Log) -> None:
    with dial(platform, f"{log[0]}?follow=1", platform.access_key, platform.secret) as peer:
        with contextlib.suppress(OSError):
            peer.send(b"x" * (2 << 20))
        for _ in peer:
            pass
        assert peer.close_code == 1009
