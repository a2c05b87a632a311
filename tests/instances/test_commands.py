"""Commands on instances that run: exec, stdin, cp, ps, images; and what manifests ask for."""

from __future__ import annotations

import hashlib
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.instances.conftest import BUSYBOX
from tests.instances.plane import Plane
from tests.oci.image import Entry, layer, symlink


@pytest.fixture(scope="module")
def box(plane: Plane) -> Iterator[str]:
    assert plane.cli("run", "-d", "--name", "box", BUSYBOX, "--", "sleep", "1000").returncode == 0
    yield "box"
    assert plane.cli("rm", "-f", "box").returncode == 0


def test_exec_has_streams_and_an_exit_code(plane: Plane, box: str) -> None:
    done = plane.cli("exec", box, "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")
    # As shells say it.
    missing = plane.cli("exec", box, "--", "nothing")
    assert (missing.returncode, "not found in $PATH" in missing.stderr) == (127, True), missing.stderr


def test_exec_takes_much_input_to_its_end(plane: Plane, box: str) -> None:
    done = plane.cli("exec", "-i", box, "--", "sha256sum", stdin="0123456789" * 200_000)
    assert done.stdout.split()[0] == hashlib.sha256(b"0123456789" * 200_000).hexdigest()


def test_a_terminal(plane: Plane, box: str) -> None:
    assert plane.cli("exec", "-t", box, "--", "tty").stdout == "/dev/pts/0\n"
    # It has ended before anybody can take part.
    assert plane.cli("run", "-t", "--rm", BUSYBOX, "--", "echo", "short").stdout.splitlines() == ["short"]


def test_what_is_printed_before_stdin_is_joined_is_not_lost(plane: Plane) -> None:
    script = "echo first; cat; echo last"
    done = plane.cli("run", "-i", "--rm", BUSYBOX, "--", "sh", "-c", script, stdin="middle\n")
    assert (done.returncode, done.stdout) == (0, "first\nmiddle\nlast\n"), done.stderr


def test_a_port_of_its_loopback_alone_is_forwarded(plane: Plane, box: str) -> None:
    plane.cli("exec", box, "--", "sh", "-c", "mkdir /p; echo page > /p/index.html; httpd -p 127.0.0.1:9001 -h /p")
    with plane.forwarding(box, ":9001", ":9002") as (forward, (served, deaf)):
        # Nobody listens there, and the command goes on.
        with socket.create_connection(("127.0.0.1", deaf), 60) as connection, pytest.raises(ConnectionResetError):
            connection.recv(1)
        with socket.create_connection(("127.0.0.1", served), 60) as connection:
            connection.sendall(b"GET /index.html HTTP/1.0\r\n\r\n")
            connection.shutdown(socket.SHUT_WR)
            assert b"".join(iter(lambda: connection.recv(4096), b"")).endswith(b"\r\n\r\npage\n")
        forward.terminate()
        assert forward.communicate()[1] == "box:9002: Connection refused\n"


def test_files_go_in_and_out(plane: Plane, box: str, tmp_path: Path) -> None:
    source = tmp_path / "tree"
    (source / "below").mkdir(parents=True)
    (source / "below" / "file").write_text("content")
    assert plane.cli("cp", str(source), f"{box}:/tmp").returncode == 0
    assert plane.cli("exec", box, "--", "cat", "/tmp/tree/below/file").stdout == "content"
    assert plane.cli("cp", f"{box}:/tmp/tree", str(tmp_path / "back")).returncode == 0
    assert (tmp_path / "back" / "tree" / "below" / "file").read_text() == "content"


def test_a_hostile_archive_stays_in_its_folder(plane: Plane, box: str, tmp_path: Path) -> None:
    """The instance's ``tar`` is the instance's own: it sends what it likes."""
    outside = tmp_path / "outside"
    outside.mkdir()
    archive = tmp_path / "evil.tar"
    archive.write_bytes(layer([symlink("link", str(outside)), Entry("link/planted"), Entry("../planted")]))
    assert plane.cli("cp", str(archive), f"{box}:/").returncode == 0
    fake = "#!/bin/sh\ncat /evil.tar\n"
    plane.cli("exec", "-i", box, "--", "sh", "-c", "rm -f /bin/tar; cat > /bin/tar; chmod +x /bin/tar", stdin=fake)
    plane.cli("cp", f"{box}:/w", str(tmp_path / "taken"))
    assert list(outside.iterdir()) == []
    assert not (tmp_path / "planted").exists()
    plane.cli("exec", box, "--", "sh", "-c", "rm /bin/tar; ln -s busybox /bin/tar")


def test_it_is_seen(plane: Plane, box: str) -> None:
    lines = plane.cli("ps").stdout.splitlines()
    assert any(line.split("\t")[:3] == [box, "1/1", "Running"] for line in lines), lines
    used = json.loads(plane.cli("stats", box, "--json").stdout)[0]
    assert used["memoryBytes"] > 0
    found = json.loads(plane.cli("images", "--json").stdout)
    assert BUSYBOX in [tag for one in found for tag in one["tags"]]
    assert not any("pause" in tag for one in found for tag in one["tags"])


def test_an_image_is_fetched_ahead_and_removed(plane: Plane) -> None:
    assert plane.cli("pull", BUSYBOX).returncode == 0
    refused = plane.cli("pull", "registry.test/nothing:1")
    assert refused.returncode == 6
    assert "not found" in refused.stderr or "failed to resolve" in refused.stderr
    assert plane.cli("cache", "remove", "registry.test/nothing:1").returncode == 3


_MANIFEST = """
apiVersion: v1
kind: ConfigMap
metadata: {{name: conf}}
data: {{page.html: "from a file"}}
---
apiVersion: v1
kind: Pod
metadata: {{name: whole}}
spec:
  terminationGracePeriodSeconds: 1
  initContainers:
  - {{name: first, image: {image}, command: [sh, -c, 'cp /conf/page.html /www/'],
     volumeMounts: [{{name: www, mountPath: /www}}, {{name: conf, mountPath: /conf}}]}}
  containers:
  - name: web
    image: {image}
    command: [sh, -c, 'sleep 0.5; httpd -f -p 8080 -h /www']
    ports: [{{containerPort: 8080, name: http}}]
    readinessProbe: {{httpGet: {{port: http, path: /page.html}}, periodSeconds: 1}}
    livenessProbe: {{exec: {{command: [sh, -c, '! test -e /www/sick']}}, periodSeconds: 1, failureThreshold: 1}}
    volumeMounts: [{{name: www, mountPath: /www}}]
  - {{name: side, image: {image}, command: [sleep, '1000'], volumeMounts: [{{name: www, mountPath: /www}}],
     securityContext: {{runAsUser: 33, readOnlyRootFilesystem: true}}}}
  volumes:
  - {{name: www, emptyDir: {{medium: Memory, sizeLimit: 1Mi}}}}
  - {{name: conf, configMap: {{name: conf}}}}
"""


def test_a_whole_manifest(plane: Plane, tmp_path: Path) -> None:
    """Init containers, shared volumes of a size, probes, users."""
    file = tmp_path / "pod.yaml"
    file.write_text(_MANIFEST.format(image=BUSYBOX))
    done = plane.cli("apply", "-f", str(file))
    assert done.returncode == 0, done.stderr
    pod = _await(plane, lambda pod: _condition(pod, "Ready"))
    assert [one["ready"] for one in pod["status"]["containerStatuses"]] == [True, True]
    shown = plane.cli("exec", "-c", "side", "whole", "--", "sh", "-c", "cat /www/page.html; id -u; echo x > /x")
    assert shown.stdout == "from a file33\n"
    assert "Read-only" in shown.stderr
    full = plane.cli("exec", "-c", "side", "whole", "--", "sh", "-c", "dd if=/dev/zero of=/www/big bs=4096 count=500")
    assert "No space left" in full.stderr
    plane.cli("exec", "-c", "side", "whole", "--", "sh", "-c", "rm /www/big; touch /www/sick; sleep 2.5; rm /www/sick")
    pod = _await(plane, lambda pod: pod["status"]["containerStatuses"][0]["restartCount"] > 0)
    _await(plane, lambda pod: _condition(pod, "Ready"))
    assert pod["status"]["containerStatuses"][1]["restartCount"] == 0
    assert plane.cli("rm", "-f", "whole").returncode == 0


def _condition(pod: dict[str, Any], name: str) -> bool:
    found = next((one["status"] for one in pod["status"].get("conditions", []) if one["type"] == name), "")
    return found == "True"


def _await(plane: Plane, good: Any) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while True:
        pod = plane.pod("whole")
        if good(pod):
            return pod
        assert time.monotonic() < deadline, (pod, plane.tail())
        time.sleep(0.1)
