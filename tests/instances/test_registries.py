"""Registries that ask for credentials, are mirrored, lie, or say nothing more."""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.instances.plane import Plane
from tests.oci.busybox import busybox_layer
from tests.oci.image import MANIFEST, Entry, Image, image, layer
from tests.oci.registry import Registry, registry

# "ada" and "secret", as htpasswd -nbB writes it.
USERS = "ada:$2b$05$cBNG25f1.9Yf2GpuXWuEH.e7l8OdXjoSIlvnZzjyVX4/Ood0Gb7Ma\n"
STALL_S = 3


class Mute:
    """A registry that says nothing more where it is asked for a path that ends so; all else it has."""

    def __init__(self, made: Image) -> None:
        self.made = made
        self.mute_at = ""
        self.release = threading.Event()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.partition("?")[0]
        data = self.made.manifest if "/manifests/" in path else self.made.blobs.get(path.rpartition("/")[2], b"")
        stalls = bool(self.mute_at) and self.mute_at in path
        if stalls and "/manifests/" in path:
            self.release.wait()
            return
        request.send_response(200 if data or path == "/v2/" else 404)
        request.send_header("Content-Type", MANIFEST if "/manifests/" in path else "application/octet-stream")
        request.send_header("Content-Length", str(len(data)))
        request.send_header("Docker-Content-Digest", self.made.digest)
        request.end_headers()
        if request.command == "GET":
            request.wfile.write(data[: len(data) // 2] if stalls else data)
            request.wfile.flush()
            if stalls:
                self.release.wait()


@contextmanager
def serving(mute: Mute) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            mute.answer(self)

        do_HEAD = do_GET

        def log_message(self, *words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        mute.release.set()
        server.shutdown()
        server.server_close()


def small(words: bytes) -> Image:
    return image([busybox_layer(), layer([Entry("words", words)])], {"Cmd": ["cat", "/words"]})


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry that asks for credentials."""
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "users").write_text(USERS)
    with registry(folder, users=folder / "users") as running:
        running.push("mine:1", small(b"mine\n"), ("ada", "secret"))
        yield running


@pytest.fixture(scope="module")
def mute() -> Mute:
    return Mute(small(b"late\n"))


@pytest.fixture(scope="module")
def lone(images: Registry, guarded: Registry, mute: Mute, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    """A control plane that knows them all."""
    folder = tmp_path_factory.mktemp("registries")
    with ExitStack() as stack:
        port = stack.enter_context(serving(mute))
        closed = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        mirrors = {
            "registry.test": [f"http://{images.host}"],
            "guarded.test": [f"http://{guarded.host}"],
            "mute.test": [f"http://127.0.0.1:{port}"],
            "mirrored.test": [f"http://127.0.0.1:{closed.getsockname()[1]}", f"http://{images.host}"],
        }
        closed.close()
        plane = Plane(
            folder / "state",
            folder / "run",
            registry_mirrors=",".join(f"{name}={url}" for name, urls in mirrors.items() for url in urls),
            registry_auth=str(folder / "auth.json"),
            image_stall_s=str(STALL_S),
            instance_subnet="10.194.0.0/24",
            instance_isolation="process",
        )
        _credentials(folder, "nobody", "")
        plane.start()
        try:
            yield plane
        finally:
            plane.stop()
            assert plane.leftovers() == []


def _credentials(folder: Path, user: str, password: str) -> None:
    entry = {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}
    (folder / "auth.json").write_text(json.dumps({"auths": {"guarded.test": entry}}))


def test_credentials_are_asked_for_and_used(lone: Plane) -> None:
    folder = lone.state.parent
    _credentials(folder, "ada", "wrong")
    refused = lone.cli("pull", "guarded.test/mine:1")
    assert refused.returncode == 6
    assert "--registry-auth" in refused.stderr
    assert "wrong" not in refused.stderr + lone.tail()
    _credentials(folder, "ada", "secret")
    assert lone.cli("run", "--rm", "guarded.test/mine:1").stdout == "mine\n"


def test_a_mirror_that_is_down_is_passed_over(lone: Plane, images: Registry) -> None:
    images.push("there:1", small(b"there\n"))
    assert lone.cli("run", "--rm", "mirrored.test/there:1").stdout == "there\n"


def test_what_is_not_what_its_digest_says_is_refused(lone: Plane, images: Registry) -> None:
    """Of the same length, changed where it lies, below the registry."""
    made = small(b"good\n" * 1000)
    images.push("changed:1", made)
    digest = json.loads(made.manifest)["layers"][-1]["digest"]
    data = made.blobs[digest]
    images.blob_file(digest).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    done = lone.cli("pull", "registry.test/changed:1")
    assert done.returncode == 6
    assert "digest" in done.stderr
    assert lone.cli("run", "--rm", "registry.test/changed:1").returncode != 0


@pytest.mark.parametrize("where", ["/manifests/", "/blobs/"])
def test_a_registry_that_says_nothing_more_is_given_up(lone: Plane, mute: Mute, where: str) -> None:
    name = f"mute.test/late-{where.strip('/')}:1"
    mute.made = small(f"late, of {where}\n".encode())
    mute.mute_at, mute.release = where, threading.Event()
    done = lone.cli("pull", name)
    assert done.returncode == 6
    assert f"nothing of it has come for {STALL_S} s" in done.stderr
    assert "--registry-mirrors" in done.stderr
    failed = lone.cli("run", "--rm", name)
    assert "ErrImagePull" in failed.stderr
    mute.mute_at = ""
    mute.release.set()
    deadline = time.monotonic() + 30
    while (done := lone.cli("run", "--rm", name)).stdout != f"late, of {where}\n":
        assert time.monotonic() < deadline, done.stderr
