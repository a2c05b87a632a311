"""A real registry (Debian's ``docker-registry``) on a free port of the loopback, and how images get into it."""

from __future__ import annotations

import http.client
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.brokers import free_port, wait_for
from tests.oci.image import MANIFEST, Image

_CONFIG = """\
version: 0.1
log: {{level: warn}}
storage:
  filesystem: {{rootdirectory: {folder}}}
  delete: {{enabled: true}}
http: {{addr: "127.0.0.1:{port}"}}
"""
USER, PASSWORD = "ada", "secret-word"
# bcrypt, as the registry wants it.
_HTPASSWD = "ada:$2y$04$mNrujaBgNqG6W5.lCklmd.1OGf52IppjkeK9.C3ASR7bEED.FICYy\n"
_USERS = "auth: {{htpasswd: {{realm: test, path: {users}}}}}\n"


@dataclass(frozen=True)
class Registry:
    """A registry that answers, without TLS; ``locked``: to who sends ``USER`` and ``PASSWORD``."""

    port: int
    folder: Path
    locked: bool = False

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def push(self, name: str, image: Image, user: tuple[str, str] | None = None) -> str:
        """Push as ``repository:tag``, with a user's name and password; return the manifest's digest."""
        repository, _, tag = name.partition(":")
        headers = {"Authorization": _basic(*user)} if user else {}
        for digest, blob in image.blobs.items():
            self._blob(repository, digest, blob, headers)
        self._ask("PUT", f"/v2/{repository}/manifests/{tag or 'latest'}", image.manifest, MANIFEST, headers)
        return image.digest

    def blob_file(self, digest: str) -> Path:
        """Return where the registry keeps a blob."""
        algorithm, _, value = digest.partition(":")
        return self.folder / "data/docker/registry/v2/blobs" / algorithm / value[:2] / value / "data"

    def _blob(self, repository: str, digest: str, blob: bytes, headers: dict[str, str]) -> None:
        kind = "application/octet-stream"
        where = urlsplit(self._ask("POST", f"/v2/{repository}/blobs/uploads/", b"", kind, headers))
        query = f"{where.query}&digest={digest}" if where.query else f"digest={digest}"
        self._ask("PUT", f"{where.path}?{query}", blob, kind, headers)

    def _ask(self, method: str, path: str, body: bytes, kind: str, headers: dict[str, str]) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            length = {"Content-Type": kind, "Content-Length": str(len(body))}
            if self.locked:
                length["Authorization"] = _basic(USER, PASSWORD)
            connection.request(method, path, body, {**length, **headers})
            answer = connection.getresponse()
            words = answer.read()
            assert answer.status < 300, f"{method} {path}: {answer.status} {words[:400]!r}"
            return answer.getheader("Location") or ""
        finally:
            connection.close()


def _basic(user: str, password: str) -> str:
    return f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"


@contextmanager
def registry(folder: Path, users: Path | None = None, *, locked: bool = False) -> Iterator[Registry]:
    """Run a registry with its data below ``folder``; with a file of ``users`` (htpasswd's, bcrypt) for them alone, or
    ``locked`` for ``USER``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    config = folder / "config.yml"
    if locked:
        users = folder / "htpasswd"
        users.write_text(_HTPASSWD)
    config.write_text(_CONFIG.format(folder=folder / "data", port=port) + (_USERS.format(users=users) if users else ""))
    log = folder / "registry.log"
    with log.open("wb") as output:
        process = subprocess.Popen(["/usr/bin/docker-registry", "serve", config], stdout=output, stderr=output)
    try:
        wait_for(port, process, log)
        yield Registry(port, folder, locked)
    finally:
        process.terminate()
        process.wait()
