"""A real registry (Debian's ``docker-registry``) on a free port of the loopback, and how images get into it."""

from __future__ import annotations

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


@dataclass(frozen=True)
class Registry:
    """A registry that answers, without TLS."""

    port: int

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
            connection.request(method, path, body, {"Content-Type": kind, "Content-Length": str(len(body))})
            answer = connection.getresponse()
            words = answer.read()
            assert answer.status < 300, f"{method} {path}: {answer.status} {words[:400]!r}"
            return answer.getheader("Location") or ""
        finally:
            connection.close()


@contextmanager
def registry(folder: Path) -> Iterator[Registry]:
    """Run a registry with its data below ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    config = folder / "config.yml"
    config.write_text(_CONFIG.format(folder=folder / "data", port=port))
    log = folder / "registry.log"
    with log.open("wb") as output:
        process = subprocess.Popen(["/usr/bin/docker-registry", "serve", config], stdout=output, stderr=output)
    try:
        wait_for(port, process, log)
        yield Registry(port)
    finally:
        process.terminate()
        process.wait()
