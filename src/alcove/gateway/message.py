"""What the server hands to a handler and takes back: one request, one response."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
from types import MappingProxyType
from urllib.parse import parse_qsl, unquote

from alcove.gateway.channel import Channel

REASONS = {status.value: status.phrase for status in HTTPStatus}


_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end: ``uid`` and ``pid`` on the UNIX socket, ``address`` on TCP."""

    address: str = ""
    uid: int | None = None
    pid: int | None = None

    @property
    def is_operator(self) -> bool:
        """The UNIX socket's mode lets only the operator in, so whoever uses it is one."""
        return self.uid is not None


@dataclass
class Request:
    """A whole request. ``headers`` has lower-case names; values of a repeated one are joined by
    commas.
    """

    method: str
    raw_path: str
    raw_query: str
    headers: dict[str, str]
    body: bytes
    peer: Peer
    version: str = "1.1"

    @cached_property
    def path(self) -> str:
        return unquote(self.raw_path)

    @property
    def query(self) -> Mapping[str, str]:
        """The first value of each name."""
        return self._parsed_query if self.raw_query else _NOTHING

    @cached_property
    def _parsed_query(self) -> Mapping[str, str]:
        return dict(reversed(parse_qsl(self.raw_query, keep_blank_values=True)))


@dataclass(slots=True)
class Response:
    """``headers`` is without Content-Length and Date, which the server adds; ``cookies`` become a Set-Cookie each.

    ``parts`` in place of ``body`` is an answer that is sent as it is made; where it raises, the connection ends
    without the end of the answer, so that the client knows. Whoever gets the response closes it.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    cookies: tuple[str, ...] = ()
    parts: AsyncGenerator[bytes, None] | None = None
    # With status 101: who takes the connection over; it ends when that returns.
    takeover: Callable[[Channel], Awaitable[None]] | None = None

    def encode(self, date: bytes, *, close: bool, head: bool, chunked: bool = False) -> bytes:
        """The response as bytes, ready to be written at once; without its body where that comes in parts."""
        status = self.status
        lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Unknown')}"]
        lines += [f"{k}: {v}" if v.isprintable() else f"{k}: {_one_line(v)}" for k, v in self.headers.items()]
        lines += [f"Set-Cookie: {_one_line(cookie)}" for cookie in self.cookies]
        if chunked:
            lines.append("Transfer-Encoding: chunked")
        elif status >= 200 and status != 204 and self.parts is None:
            lines.append(f"Content-Length: {len(self.body)}")
        if close and status != 101:
            lines.append("Connection: close")
        head_bytes = "\r\n".join(lines).encode("latin-1", "replace") + b"\r\nDate: " + date + b"\r\n\r\n"
        return head_bytes if head or status in (204, 304) else head_bytes + self.body


def _one_line(value: str) -> str:
    return "".join(c if c.isprintable() else " " for c in value)


Handler = Callable[[Request], Awaitable[Response]]
# How many bytes of body a request may have, decided from its head alone (its body is empty yet).
BodyLimit = Callable[[Request], int]
# What to answer to a request that the server refuses itself: (request as far as known, status,
# message).
Refusal = Callable[[Request, int, str], Response]


def plain_refusal(request: Request, status: int, message: str) -> Response:
    return Response(status, {"Content-Type": "text/plain"}, message.encode() + b"\n")
