"""A real registry (Debian's ``docker-registry``) on a free port of the loopback, and how images get into it."""

from __future__ import annotations

import base64
import http.client
import subprocess
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
_AUTH = "auth: {{htpasswd: {{realm: test, path: {path}}}}}\n"


@dataclass(frozen=True)
class Registry:
    """A registry that answers, without TLS; ``locked``: to who sends ``USER`` and ``PASSWORD``."""

    port: int
    locked: bool = False

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def push(self, name: str, image: Image) -> str:
        """Push as ``repository:tag``; return the manifest's digest."""
        repository, _, tag = name.partition(":")
        for digest, blob in image.blobs.items():
            self._blob(repository, digest, blob)
        self._ask("PUT", f"/v2/{repository}/manifests/{tag or 'latest'}", image.manifest, MANIFEST)
        return image.digest

    def _blob(self, repository: str, digest: str, blob: bytes) -> None:
        where = urlsplit(self._ask("POST", f"/v2/{repository}/blobs/uploads/", b"", "application/octet-stream"))
        query = f"{where.query}&digest={digest}" if where.query else f"digest={digest}"
        self._ask("PUT", f"{where.path}?{query}", blob, "application/octet-stream")

    def _ask(self, method: str, path: str, body: bytes, kind: str) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            headers = {"Content-Type": kind, "Content-Length": str(len(body))}
            if self.locked:
                headers["Authorization"] = f"Basic {base64.b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}"
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            words = answer.read()
            assert answer.status < 300, f"{method} {path}: {answer.status} {words[:400]!r}"
            return answer.getheader("Location") or ""
        finally:
            connection.close()


@contextmanager
def registry(folder: Path, *, locked: bool = False) -> Iterator[Registry]:
    """Run a registry with its data below ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    config = folder / "config.yml"
    text = _CONFIG.format(folder=folder / "data", port=port)
    if locked:
        path = folder / "htpasswd"
        path.write_text(_HTPASSWD)
        text += _AUTH.format(path=path)
    config.write_text(text)
    log = folder / "registry.log"
    with log.open("wb") as output:
        process = subprocess.Popen(["/usr/bin/docker-registry", "serve", config], stdout=output, stderr=output)
    try:
        wait_for(port, process, log)
        yield Registry(port, locked)
    finally:
        process.terminate()
        process.wait()
