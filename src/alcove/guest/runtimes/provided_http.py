"""HTTP/1.1 as the Runtime API speaks it: requests out of bytes, answers into bytes.

No sockets here: ``RequestReader`` is fed and asked. Bodies come with a length or in chunks; a body
over ``MAX_BODY`` is read to its end and thrown away, so that its sender lives to read the refusal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

# Takes a body as it comes.
Sink = Callable[[bytes], None]
MAX_HEAD = 32 * 1024
MAX_BODY = 6 * 1024 * 1024
# Who sends more than this is cut off instead of listened to.
MAX_DISCARDED = 256 * 1024 * 1024
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_REASONS = {
    200: "OK",
    202: "Accepted",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Payload Too Large",
    431: "Request Header Fields Too Large",
    501: "Not Implemented",
}


class BadRequest(Exception):
    """What came is no request that we can read; the connection ends with this status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Request:
    """``headers`` has lower-case names, trailers included; ``size`` counts what was not kept. ``sink`` has taken the
    body, if there is one.
    """

    method: str
    path: str
    headers: dict[str, str]
    keep: bool
    body: bytes = b""
    size: int = 0
    sink: Sink | None = None


class RequestReader:
    """Turns one connection's bytes into requests. ``choose`` is asked, once a head has come, who takes the body as it
    comes; None: it is kept.
    """

    def __init__(self, choose: Callable[[Request], Sink | None] = lambda request: None) -> None:
        self._choose = choose
        self._buffer = bytearray()
        self._request: Request | None = None
        self._body = bytearray()
        # Bytes of the body (or of its current chunk) that are still to come; None between chunks.
        self._missing: int | None = None
        self._chunked = False
        self._trailing = False
        self.expects_continue = False

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def next(self) -> Request | None:
        """Return the next whole request, or None until more comes. Raises ``BadRequest``."""
        if self._request is None and not self._read_head():
            return None
        request = self._request
        assert request is not None
        if not (self._read_chunks(request) if self._chunked else self._take(request)):
            return None
        request.body = bytes(self._body)
        self._request, self._body = None, bytearray()
        self.expects_continue = False
        return request

    def _line(self) -> bytes | None:
        end = self._buffer.find(b"\n")
        if end < 0:
            if len(self._buffer) > MAX_HEAD:
                raise BadRequest(431, "a line is too long")
            return None
        line = bytes(self._buffer[:end]).rstrip(b"\r")
        del self._buffer[: end + 1]
        return line

    def _read_head(self) -> bool:
        while self._buffer[:2] == b"\r\n":
            del self._buffer[:2]
        end = self._buffer.find(b"\r\n\r\n", 0, MAX_HEAD)
        if end < 0:
            if len(self._buffer) >= MAX_HEAD:
                raise BadRequest(431, "the headers are too long")
            return False
        first, *lines = bytes(self._buffer[:end]).decode("latin-1").split("\r\n")
        del self._buffer[: end + 4]
        words = first.split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            raise BadRequest(400, "the request line is malformed")
        headers: dict[str, str] = {}
        for line in lines:
            _add_header(headers, line)
        connection = headers.get("connection", "").lower()
        keep = "close" not in connection
        if words[2] == "HTTP/1.0":
            keep = "keep-alive" in connection
        self._request = request = Request(words[0], words[1].split("?")[0], headers, keep)
        request.sink = self._choose(request)
        self._start_body(headers, streamed=request.sink is not None)
        return True

    def _start_body(self, headers: dict[str, str], *, streamed: bool) -> None:
        encoding = headers.get("transfer-encoding", "").lower()
        self._chunked, self._trailing = bool(encoding), False
        if encoding not in ("", "chunked"):
            raise BadRequest(501, "only chunked transfer coding is spoken here")
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit() and len(length) < 16):
            raise BadRequest(400, "the content length is malformed")
        self._missing = None if self._chunked else int(length)
        self._check_size(0 if streamed else self._missing or 0)
        self.expects_continue = headers.get("expect", "").lower() == "100-continue"
        if not streamed and self.expects_continue and (self._missing or 0) > MAX_BODY:
            raise BadRequest(413, "the body is too large")

    def _check_size(self, size: int) -> None:
        if size > MAX_DISCARDED:
            raise BadRequest(413, "the body is too large")

    def _take(self, request: Request) -> bool:
        """Move what has come of the body, or of its chunk; return whether that is all of it."""
        assert self._missing is not None
        taken = min(self._missing, len(self._buffer))
        request.size += taken
        self._missing -= taken
        if request.sink is not None:
            request.sink(bytes(memoryview(self._buffer)[:taken]))
        elif request.size <= MAX_BODY:
            self._body += memoryview(self._buffer)[:taken]
        else:
            self._body.clear()
        del self._buffer[:taken]
        return self._missing == 0

    def _read_chunks(self, request: Request) -> bool:
        while not self._trailing:
            if self._missing is None:
                line = self._line()
                if line is None:
                    return False
                try:
                    self._missing = int(line.split(b";")[0], 16)
                except ValueError:
                    raise BadRequest(400, "a chunk's length is malformed") from None
                if self._missing < 0:
                    raise BadRequest(400, "a chunk's length is malformed")
                if request.sink is None:
                    self._check_size(request.size + self._missing)
                if self._missing == 0:
                    self._trailing = True
                    break
            if not self._take(request) or self._line() is None:
                return False
            self._missing = None
        while (line := self._line()) is not None:
            if not line:
                return True
            _add_header(request.headers, line.decode("latin-1"))
        return False


def _add_header(headers: dict[str, str], line: str) -> None:
    name, colon, value = line.partition(":")
    if not colon or not name or name != name.strip():
        raise BadRequest(400, "a header is malformed")
    headers[name.lower()] = value.strip()


def encode_response(status: int, body: bytes, headers: dict[str, str], *, keep: bool, with_body: bool = True) -> bytes:
    lines = [f"HTTP/1.1 {status} {_REASONS[status]}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {_one_line(value)}" for name, value in headers.items()]
    if not keep:
        lines.append("Connection: close")
    head = "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n"
    return head + body if with_body else head


def _one_line(value: str) -> str:
    return value.replace("\r", " ").replace("\n", " ")
