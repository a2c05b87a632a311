"""A registry to mirror: 10,000 packages that are made up when they are asked for.

``/-/versions`` lists the version of each, ``/NAME`` describes one, ``/NAME/-/VERSION.tgz`` is the package. Of every
fiftieth package there is a newer version, 1.1.0, than the 1.0.0 of the others. Arguments: address and port.
"""

from __future__ import annotations

import gzip
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PACKAGES = 10_000
VERSIONS = {f"package-{number:05d}": "1.1.0" if number % 50 == 0 else "1.0.0" for number in range(PACKAGES)}


class Registry(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        name, _, file = self.path.strip("/").partition("/-/")
        if self.path == "/-/versions":
            self._answer(json.dumps(VERSIONS).encode())
        elif name not in VERSIONS:
            self.send_error(404)
        elif file:
            self._answer(gzip.compress(f"{name} {file.removesuffix('.tgz')}\n".encode() * 100, mtime=0))
        else:
            self._answer(json.dumps({"name": name, "version": VERSIONS[name]}).encode())

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Registry)
    print("ready", flush=True)
    server.serve_forever()
