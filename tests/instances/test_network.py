"""What pods reach: not the host's services, not each other; and what of them is reached."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.brokers import free_port
from tests.instances.conftest import BUSYBOX
from tests.instances.plane import Plane

GATEWAY = "10.198.0.1"
METADATA = "169.254.169.254"
_SERVE = ("sh", "-c", "mkdir /w; echo page > /w/index.html; exec httpd -f -p 8080 -h /w")


@pytest.fixture(scope="module")
def pods(plane: Plane) -> Iterator[int]:
    """A pod that serves, published on a port of the host, and one beside it."""
    port = free_port()
    served = plane.cli("run", "-d", "--name", "server", "-p", f"{port}:8080", BUSYBOX, "--", *_SERVE)
    assert served.returncode == 0, served.stderr
    # It may change its routes, as the root of a VM may.
    may = {"capabilities": {"add": ["NET_ADMIN"]}}
    container = {"name": "main", "image": BUSYBOX, "args": ["sleep", "1000"], "securityContext": may}
    plane.call("POST", "/alcove/v1/pods", {"metadata": {"name": "client"}, "spec": {"containers": [container]}})
    while plane.pod("client")["status"]["phase"] != "Running":
        time.sleep(0.05)
    yield port
    assert plane.cli("rm", "-f", "server", "client").returncode == 0


def _fetch(plane: Plane, pod: str, address: str) -> str:
    command = ("timeout", "3", "wget", "-q", "-O", "-", f"http://{address}/index.html")
    return plane.cli("exec", pod, "--", *command).stdout


def test_a_published_port_is_reached_from_here_and_a_pods_own_by_itself(plane: Plane, pods: int) -> None:
    with socket.create_connection(("127.0.0.1", pods), timeout=10) as connection:
        connection.sendall(b"GET /index.html HTTP/1.0\r\n\r\n")
        assert b"page" in b"".join(iter(lambda: connection.recv(4096), b""))
    assert _fetch(plane, "server", "127.0.0.1:8080") == "page\n"


def test_the_world_is_reached_with_the_hosts_address(plane: Plane, pods: int, tmp_path: Path) -> None:
    """From a network that knows no way to the pods' own."""
    (tmp_path / "index.html").write_text("outside\n")
    space, card = "alcove-test-out", "alctestout"
    lines = (
        f"netns add {space}",
        f"link add {card} type veth peer name eth0 netns {space}",
        f"addr add 198.51.100.1/24 dev {card}",
        f"link set {card} up",
        f"-n {space} addr add 198.51.100.2/24 dev eth0",
        f"-n {space} link set eth0 up",
    )
    try:
        for line in lines:
            subprocess.run(["ip", *line.split()], check=True)
        command = ["ip", "netns", "exec", space, "busybox", "httpd", "-f", "-p", "80", "-h", str(tmp_path)]
        with subprocess.Popen(command) as server:
            try:
                assert _fetch(plane, "client", "198.51.100.2") == "outside\n"
            finally:
                server.kill()
    finally:
        subprocess.run(["ip", "link", "delete", card], check=False)
        subprocess.run(["ip", "netns", "delete", space], check=False)


def test_another_pod_is_not_reached(plane: Plane, pods: int) -> None:
    address = plane.pod("server")["status"]["podIP"]
    assert _fetch(plane, "server", f"{address}:8080") == "page\n"
    assert _fetch(plane, "client", f"{address}:8080") == ""
    # Not even by what is no IP, which rules for IP do not see.
    asked = plane.cli("exec", "client", "--", "arping", "-c", "1", "-w", "2", address)
    assert "Received 0 response" in asked.stdout, asked
    # Nor around by the gateway, where what is on the bridge could be routed back onto it.
    around = f"ip route add {address}/32 via {GATEWAY}"
    assert plane.cli("exec", "client", "--", "sh", "-c", around).returncode == 0
    assert _fetch(plane, "client", f"{address}:8080") == ""


def _asked(plane: Plane, address: str, listen: str) -> bool:
    """Whether a service of the host's that listens there is reached from a pod by this address."""
    with socket.create_server((listen, 0)) as listener:
        asked = threading.Event()

        def answer() -> None:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            asked.set()
            connection.close()

        threading.Thread(target=answer, daemon=True).start()
        port = listener.getsockname()[1]
        _fetch(plane, "client", f"{address}:{port}")
        reached = asked.is_set()
        # It is the rules that keep it away, not a listener that is deaf.
        socket.create_connection((address, port), timeout=5).close()
        assert asked.wait(5)
        return reached


def test_a_service_of_the_host_is_not_reached(plane: Plane, pods: int) -> None:
    assert not _asked(plane, GATEWAY, "0.0.0.0")


def test_the_metadata_address_is_not_reached(plane: Plane, pods: int) -> None:
    """Where a cloud's hosts are told their keys: this one has it for as long as the test takes."""
    command = ("/usr/sbin/ip", "address", "{}", f"{METADATA}/32", "dev", "lo")
    subprocess.run([word.format("add") for word in command], check=True)
    try:
        assert not _asked(plane, METADATA, METADATA)
    finally:
        subprocess.run([word.format("del") for word in command], check=True)
