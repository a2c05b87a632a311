"""Programs in instances over WebSocket, with a stock client and Kubernetes' subprotocols."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest
from tests.instances.conftest import BUSYBOX
from tests.instances.plane import Plane
from tests.peer import Peer

STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
V4, V5 = "v4.channel.k8s.io", "v5.channel.k8s.io"


@pytest.fixture
def box(plane: Plane) -> Iterator[str]:
    # ``cat`` gives back what whoever attaches says.
    document = {
        "metadata": {"name": "ws"},
        "spec": {"containers": [{"name": "c", "image": BUSYBOX, "command": ["cat"], "stdin": True}]},
    }
    plane.call("POST", "/alcove/v1/pods", document)
    deadline = time.monotonic() + 60
    while plane.pod("ws")["status"]["phase"] != "Running":
        assert time.monotonic() < deadline, plane.tail()
        time.sleep(0.1)
    yield "ws"
    plane.cli("rm", "-f", "ws")


def dial(plane: Plane, path: str, *protocols: str) -> Peer:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(plane.run / "api.sock"))
    return Peer(f"ws://localhost/alcove/v1/pods/{path}", sock, {}, protocols)


def command(*words: str, **more: str) -> str:
    return urlencode([*(("command", word) for word in words), *more.items()])


def streams(peer: Peer) -> tuple[bytes, bytes, dict[str, object]]:
    """Read to the end; return both outputs and the status."""
    found = {STDOUT: b"", STDERR: b"", ERROR: b""}
    for message in peer:
        found[message[0]] += message[1:]
    return found[STDOUT], found[STDERR], json.loads(found[ERROR])


@pytest.mark.parametrize("protocol", [V4, V5])
def test_a_program_its_streams_and_its_end(plane: Plane, box: str, protocol: str) -> None:
    with dial(plane, f"{box}/exec?{command('sh', '-c', 'echo out; echo err >&2; exit 3')}", V5, V4) as peer:
        assert peer.subprotocol == V5, "the server's choice where both are offered"
    with dial(plane, f"{box}/exec?{command('sh', '-c', 'echo out; echo err >&2; exit 3')}", protocol) as peer:
        assert peer.subprotocol == protocol
        out, err, status = streams(peer)
    assert (out, err, status["status"], status["reason"]) == (b"out\n", b"err\n", "Failure", "NonZeroExitCode")
    assert status["details"] == {"causes": [{"reason": "ExitCode", "message": "3"}]}


def test_stdin_ends_by_the_channel_of_v5(plane: Plane, box: str) -> None:
    with dial(plane, f"{box}/exec?{command('wc', '-c', stdin='1')}", V5) as peer:
        for _ in range(64):
            peer.send(bytes((STDIN,)) + b"x" * 16_384)
        peer.send(bytes((CLOSE, STDIN)))
        out, _, status = streams(peer)
    assert (out.strip(), status) == (str(64 * 16_384).encode(), {"status": "Success"})


def test_a_terminal_has_the_size_that_it_is_told(plane: Plane, box: str) -> None:
    script = "sleep 0.5; stty size"
    with dial(plane, f"{box}/exec?{command('sh', '-c', script, tty='1', stdin='1')}", V4) as peer:
        peer.send(bytes((RESIZE,)) + b'{"Width": 91, "Height": 17}')
        out, _, _ = streams(peer)
    assert out == b"17 91\r\n"


def test_who_attaches_takes_part(plane: Plane, box: str) -> None:
    with dial(plane, f"{box}/attach?stdin=1", V4) as peer:
        peer.send(bytes((STDIN,)) + b"hello\n")
        assert peer.recv() == bytes((STDOUT,)) + b"hello\n"
    with dial(plane, f"{box}/logs?follow=1") as peer:
        assert peer.recv() == b"hello\n"


def test_a_client_that_does_not_read_holds_the_program_up_not_the_server(plane: Plane, box: str) -> None:
    with dial(plane, f"{box}/exec?{command('dd', 'if=/dev/zero', 'bs=1M', 'count=1024')}", V4) as peer:
        assert peer.recv()
        # It waits for us; others are served meanwhile.
        assert plane.cli("exec", box, "--", "echo", "served").stdout == "served\n"
        assert _resident_mib(plane) < 400


def _resident_mib(plane: Plane) -> int:
    assert plane.process is not None
    with open(f"/proc/{plane.process.pid}/status") as file:
        return next(int(line.split()[1]) >> 10 for line in file if line.startswith("VmRSS"))
