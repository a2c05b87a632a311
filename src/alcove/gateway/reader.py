"""Bytes to requests, by httptools, with every limit that concerns what a client sends.

The head has ``HEAD_LIMIT`` bytes. The body has the limit of its route; what comes beyond is read
and thrown away, so that the client gets to read the refusal, until ``DISCARD_LIMIT``. All bodies of
all connections together have a budget.
"""

from __future__ import annotations

import time
from typing import Protocol

import httptools

from alcove.gateway.message import BodyLimit, Peer, Request

HEAD_LIMIT = 64 << 10
HEADER_COUNT_LIMIT = 256
DISCARD_LIMIT = 512 << 20
HEAD_TIMEOUT_S = 15.0
# A body has this long, and a second more for each so many bytes that arrived.
BODY_TIMEOUT_S = 20.0
BODY_BYTES_A_SECOND = 16 << 10
# Headers whose repetition has no meaning, or one that differs between servers.
_ONCE = ("host", "content-length", "authorization", "x-amz-date")


class Refused(Exception):
    """The request is answered with this status; nothing after it is read."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Upgraded(Refused):
    """The request wants to leave HTTP; what follows it, from ``rest`` on, is another protocol's."""

    def __init__(self, rest: bytes) -> None:
        super().__init__(0, "upgrade")
        self.rest = rest


class Budget:
    """Bytes of request bodies that may be held at once, by all connections together."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0

    def take(self, size: int) -> bool:
        if self.held + size > self.limit:
            return False
        self.held += size
        return True


class Sink(Protocol):
    """Who gets what a reader made. ``refusal`` None: the request is whole and within its limits."""

    def request(self, request: Request, *, close: bool, refusal: Refused | None) -> None: ...

    def expects_continue(self) -> None: ...


# Names that most requests have, as clients write them: to look one up is a quarter of making it anew.
_KEYS = {
    spelling.encode(): name
    for name in (
        *("host", "user-agent", "accept", "accept-encoding", "connection", "content-length", "content-type"),
        *("authorization", "x-amz-date", "x-amz-content-sha256", "x-amzn-trace-id", "x-bce-date", "traceparent"),
        *("x-forwarded-for", "x-forwarded-proto", "amz-sdk-invocation-id", "amz-sdk-request"),
    )
    for spelling in (name, name.title(), "-".join(part.capitalize() for part in name.split("-")))
}


class RequestReader:
    """The parser's callbacks. Bodies handed on count in the budget until the sink takes them out. A body that is known
    to have at most ``allowed`` bytes is within every limit.
    """

    def __init__(self, sink: Sink, budget: Budget, body_limit: BodyLimit, allowed: int = 0) -> None:
        self.peer = Peer()
        self.in_message = False
        self.deadline_s = 0.0
        self._sink = sink
        self._budget = budget
        self._body_limit = body_limit
        self._allowed = allowed
        self._parser = httptools.HttpRequestParser(self)
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._refusal: Refused | None = None
        self._fresh = False  # ``_begin`` was called, and nothing has come since
        self._begin()

    def feed(self, data: bytes) -> None:
        """Parse. Raises ``Refused`` where the connection can't go on; its request was not handed
        on.
        """
        if not self.in_message:
            self._begin()
            self._fresh = True
            self.in_message = True
            self.deadline_s = time.monotonic() + HEAD_TIMEOUT_S
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # The request was handed on; whether it may is for its answer to say.
            raise Upgraded(data[upgrade.args[0] :] if upgrade.args else b"") from None
        except httptools.HttpParserError as error:
            if isinstance(error.__context__, Refused):
                raise error.__context__ from None
            raise Refused(400, "The request is not valid HTTP.") from error
        if self.in_message and self._in_head:
            # httptools gathers unfinished names and values where they cannot be counted.
            self._unfinished_bytes += len(data)
            if self._unfinished_bytes > 2 * HEAD_LIMIT:
                raise Refused(431, "The request's head is too large.")

    def partial(self) -> Request:
        """As much as is known of the request that was refused."""
        try:
            return self._request(b"")
        except (ValueError, AttributeError, httptools.HttpParserError):
            return Request("GET", "/", "", self._headers, b"", self.peer)

    def drop_body(self) -> None:
        self._budget.held -= sum(len(part) for part in self._body)
        self._body = []

    # Called by httptools

    def on_message_begin(self) -> None:
        if not self._fresh:
            self._begin()
        self._fresh = False
        self.in_message = True

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._head_bytes += len(url)
        if self._head_bytes > HEAD_LIMIT:
            self._refuse_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value) + 4
        headers = self._headers
        if self._head_bytes > HEAD_LIMIT or len(headers) + self._repeated >= HEADER_COUNT_LIMIT:
            self._refuse_head()
        key = _KEYS.get(name) or name.decode("latin-1").lower()
        text = value.decode("latin-1").strip()
        if key in headers:
            self._repeat(key, text)
        else:
            headers[key] = text

    def on_headers_complete(self) -> None:
        self._in_head = False
        self.deadline_s = time.monotonic() + BODY_TIMEOUT_S
        headers = self._headers
        modern = self._parser.get_http_version() != "1.0"
        if modern and "host" not in headers:
            raise Refused(400, "Header host is missing.")
        self._check_authority()
        if "transfer-encoding" in headers and "content-length" in headers:
            raise Refused(400, "A request has a length or a transfer encoding, not both.")
        length = int(headers.get("content-length", "0"))
        known = length <= self._allowed and "transfer-encoding" not in headers
        self._limit = self._allowed if known else self._body_limit(self._request(b""))
        expects = modern and headers.get("expect", "").lower() == "100-continue"
        if length > self._limit:
            self._refusal = self._too_large()
            if expects or length > DISCARD_LIMIT:
                # It has not sent the body yet, or would for long: answer now.
                raise self._refusal
        elif expects:
            self._sink.expects_continue()

    def on_body(self, body: bytes) -> None:
        size = len(body)
        self._body_bytes += size
        self.deadline_s += size / BODY_BYTES_A_SECOND
        if self._refusal is not None:
            if self._body_bytes > DISCARD_LIMIT:
                raise self._refusal
        elif self._body_bytes > self._limit:
            self._refusal = self._too_large()
            self.drop_body()
        elif not self._budget.take(size):
            self._refusal = Refused(429, "Too many request bodies are under way; try again.")
            self.drop_body()
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body = []
        self.in_message = False
        close = not self._parser.should_keep_alive()
        self._sink.request(self._request(body), close=close, refusal=self._refusal)

    def _begin(self) -> None:
        self._url = b""
        self._headers = {}
        self._repeated = 0
        self._head_bytes = 0
        self._unfinished_bytes = 0
        self._in_head = True
        self._body = []
        self._body_bytes = 0
        self._limit = 0
        self._refusal = None

    def _request(self, body: bytes) -> Request:
        text = self._url.decode("ascii")
        if text.lower().startswith(("http://", "https://")):
            text = "/" + text.split("://", 1)[1].partition("/")[2]
        raw_path, _, raw_query = text.partition("?")
        method = self._parser.get_method().decode()
        version = self._parser.get_http_version()
        return Request(method, raw_path, raw_query, self._headers, body, self.peer, version)

    def _check_authority(self) -> None:
        """A target with an authority of its own must name the host that the header names: hosts decide who answers."""
        if self._url.lower().startswith((b"http://", b"https://")):
            authority = self._url.decode("ascii").split("://", 1)[1].partition("/")[0].partition("?")[0]
            if authority.lower() != self._headers.get("host", authority).lower():
                raise Refused(400, "The target and header host name different hosts.")

    def _repeat(self, key: str, text: str) -> None:
        if key in _ONCE:
            raise Refused(400, f"Header {key} appears twice.")
        self._repeated += 1
        self._headers[key] = f"{self._headers[key]},{text}"

    def _refuse_head(self) -> None:
        if self._head_bytes > HEAD_LIMIT:
            raise Refused(431, "The request's head is too large.")
        raise Refused(431, "The request has too many headers.")

    def _too_large(self) -> Refused:
        return Refused(413, f"Request must be smaller than {self._limit} bytes")
