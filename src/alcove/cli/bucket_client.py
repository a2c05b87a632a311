"""S3's calls over the server's UNIX socket, where the operator signs nothing: standard library only."""

from __future__ import annotations

import http.client
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib.parse import quote, urlencode
from xml.etree import ElementTree

from alcove.cli.client import TIMEOUT_S, Answer, UnixConnection, error_for
from alcove.cli.exits import ServerUnreachable
from alcove.errors import AlcoveError

_NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"


class BucketClient:
    """Talks to the object store whose ``s3.sock`` is in ``run``, for the tenant that ALCOVE_TENANT names."""

    def __init__(self, run: Path, *, timeout_s: float = TIMEOUT_S) -> None:
        self.socket = run / "s3.sock"
        self._timeout_s = timeout_s
        tenant = os.environ.get("ALCOVE_TENANT")
        self._headers = {"X-Alcove-Tenant": tenant} if tenant else {}

    def call(
        self, method: str, bucket: str = "", key: str = "", query: dict[str, str] | None = None, body: bytes = b""
    ) -> Answer:
        """Raises ``ServerUnreachable``, or the error that fits the status, with its message."""
        with self._opened(method, bucket, key, query or {}, body, len(body)) as response:
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())

    def document(self, method: str, bucket: str = "", **query: str) -> ElementTree.Element:
        """Call and return the XML of the answer."""
        return ElementTree.fromstring(self.call(method, bucket, query=query).body)  # noqa: S314 (it is our own server's)

    def put(self, bucket: str, key: str, source: IO[bytes], size: int, content_type: str = "") -> str:
        """Store what is read from ``source``; return the ETag."""
        headers = {"Content-Type": content_type} if content_type else {}
        with self._opened("PUT", bucket, key, {}, source, size, headers) as response:
            response.read()
            return (response.getheader("ETag") or "").strip('"')

    @contextmanager
    def get(self, bucket: str, key: str) -> Iterator[http.client.HTTPResponse]:
        """Yield the answer, to be read piece by piece."""
        with self._opened("GET", bucket, key, {}, b"", 0) as response:
            yield response

    @contextmanager
    def _opened(
        self,
        method: str,
        bucket: str,
        key: str,
        query: dict[str, str],
        body: bytes | IO[bytes],
        size: int,
        headers: dict[str, str] | None = None,
    ) -> Iterator[http.client.HTTPResponse]:
        path = "/" + quote(bucket, safe="") + ("/" + quote(key, safe="/") if key else "")
        path += "?" + urlencode(query) if query else ""
        connection = UnixConnection(self.socket, self._timeout_s)
        try:
            every = {"Content-Length": str(size), **self._headers, **(headers or {})}
            connection.request(method, path, body or None, every)
            response = connection.getresponse()
            if response.status >= 400:
                raise _error(response.status, response.read())
            yield response
        except (OSError, http.client.HTTPException) as error:
            raise ServerUnreachable(
                f"the object store does not answer at {self.socket}: {error}",
                hint="start it with: alcove serve (or name its folder with --run)",
            ) from error
        finally:
            connection.close()


def texts(element: ElementTree.Element, name: str) -> list[str]:
    """The text of every element of that name, at any depth."""
    return [found.text or "" for found in element.iter(f"{_NAMESPACE}{name}")]


def elements(element: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return list(element.iter(f"{_NAMESPACE}{name}"))


def _error(status: int, body: bytes) -> AlcoveError:
    try:
        root = ElementTree.fromstring(body)  # noqa: S314 (it is our own server's)
    except ElementTree.ParseError:
        return error_for(status, f"the object store answered with status {status}", "")
    message = root.findtext("Message") or f"the object store answered with {root.findtext('Code')}"
    return error_for(status, message, root.findtext("Hint") or "")
