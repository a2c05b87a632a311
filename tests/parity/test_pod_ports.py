"""``alcove port-forward`` and the WebSocket behind it, over a CRI whose pod is this test."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from threading import Thread

import pytest
from tests.brokers import free_port
from tests.cri_fake import FakeCri
from tests.forwarding import COMMAND, Forwarding, forwarding
from tests.parity.conftest import Platform, serving
from tests.parity.signing import send
from tests.parity.test_pod_websockets import dial
from tests.peer import Refused

from alcove.instances import service

DATA, ERROR, CLOSE = 0, 1, 255
PODS = "/alcove/v1/pods"
MUCH = os.urandom(1 << 20)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    cri = FakeCri()
    cri.address = "127.0.0.1"
    with serving(tmp_path_factory.mktemp("ports"), cri) as platform:
        yield platform


@pytest.fixture(scope="module")
def pod(platform: Platform) -> str:
    document = {"metadata": {"name": "web"}, "spec": {"containers": [{"name": "c", "image": "registry.test/c:1"}]}}
    assert ask(platform, "POST", PODS, json.dumps(document).encode())[0] == 201
    deadline = time.monotonic() + 30
    while ask(platform, "GET", f"{PODS}/web")[1]["status"]["phase"] != "Running":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return "web"


def ask(platform: Platform, method: str, path: str, body: bytes = b"") -> tuple[int, dict[str, dict[str, str]]]:
    status, _, answer = send(platform.port, method, path, body, access_key=platform.access_key, secret=platform.secret)
    return status, json.loads(answer)


@contextmanager
def server(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server of one connection after the other; yield its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                answer(connection)

    thread = Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def last(connection: socket.socket) -> None:
    """Answer with all that came, once the other side has said that it is all."""
    connection.sendall(b"".join(iter(lambda: connection.recv(65_536), b"")))


def forwarded(platform: Platform, *ports: str) -> AbstractContextManager[Forwarding]:
    return forwarding(platform.socket.parent, "web", *ports)


def dialled(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), 20)


def test_each_way_ends_by_itself_and_a_port_where_nobody_listens_is_said(platform: Platform, pod: str) -> None:
    deaf = free_port()
    with server(last) as port, forwarded(platform, f":{port}", f":{deaf}") as (running, here):
        for _ in range(2):
            with dialled(here[1]) as connection, pytest.raises(ConnectionResetError):
                connection.recv(1)
            with dialled(here[0]) as connection:
                connection.sendall(MUCH)
                connection.shutdown(socket.SHUT_WR)
                assert b"".join(iter(lambda: connection.recv(65_536), b"")) == MUCH
        running.terminate()
        assert running.stderr is not None
        assert running.stderr.read() == f"web:{deaf}: Connection refused\n" * 2


def test_who_is_cut_off_there_is_cut_off_here(platform: Platform, pod: str) -> None:
    def reset(connection: socket.socket) -> None:
        connection.recv(1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    with server(reset) as port, forwarded(platform, f":{port}") as (_, here), dialled(here[0]) as connection:
        connection.sendall(b"x")
        with pytest.raises(ConnectionResetError):
            connection.recv(1)


def test_who_leaves_here_has_left_there(platform: Platform, pod: str) -> None:
    heard: list[bytes] = []

    def listen(connection: socket.socket) -> None:
        connection.sendall(b"!")
        try:
            heard.append(connection.recv(1))
        except ConnectionResetError:
            heard.append(b"reset")

    with server(listen) as port, dial(platform, path(port), platform.access_key, platform.secret) as peer:
        number = port.to_bytes(2, "little")
        assert [peer.recv() for _ in range(3)] == [bytes((DATA,)) + number, bytes((ERROR,)) + number, b"\0!"]
    assert heard == [b"reset"]


def test_a_connection_is_a_session(platform: Platform, pod: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "SESSIONS_LIMIT", 1)
    keys = (platform.access_key, platform.secret)
    with server(last) as port, dial(platform, path(port), *keys) as peer:
        peer.recv()
        with pytest.raises(Refused) as refused:
            dial(platform, path(port), *keys)
        assert refused.value.status == 429
        peer.send(b"\0all")
        peer.send(bytes((CLOSE, DATA)))
        assert list(peer)[1:] == [b"\0all", bytes((CLOSE, DATA))]


def path(port: object) -> str:
    return f"{PODS}/web/portforward?ports={port}"


@pytest.mark.parametrize("port", ["", "0", "65536", "80%2C81", "x"])
def test_one_port_is_asked_for(platform: Platform, pod: str, port: str) -> None:
    with pytest.raises(Refused) as refused:
        dial(platform, path(port), platform.access_key, platform.secret)
    assert refused.value.status == 400


def test_anothers_instance_is_not_there(platform: Platform, pod: str) -> None:
    with pytest.raises(Refused) as refused:
        dial(platform, path(80), platform.other_access_key, platform.other_secret)
    assert refused.value.status == 404


def test_what_names_no_port_and_what_does_not_run(platform: Platform, pod: str, tmp_path: Path) -> None:
    environment = os.environ | {"ALCOVE_RUN": str(platform.socket.parent)}
    for words, code, told in ((("web", "x:80"), 2, "such as 8080:80"), (("none", "80"), 3, "no instance")):
        command = [*COMMAND, "port-forward", *words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == code, done.stderr
        assert told in done.stderr
