"""HTTP probes, as Kubernetes' kubelet asks them: redirects are followed, up to ten and only to the same host.

Who answers is a tenant's program: it can send the probe to no other host, and of what it sends only so much is read.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import SplitResult, quote, urljoin, urlsplit

import h11

REDIRECTS = 10
# Of a body; of a head.
BODY_LIMIT, HEAD_LIMIT = 10 << 10, 64 << 10
_FOLLOWED = (301, 302, 303, 307, 308)
_PORTS = {"http": 80, "https": 443}
_READ = 16 << 10


class Finding(NamedTuple):
    """What a probe found. ``words`` say why it is no good, or what is to be said of it all the same."""

    good: bool
    words: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    location: str
    body: str


async def ask(url: str, headers: Mapping[str, str]) -> Finding:
    """Tell whether a GET succeeds. Raises ``OSError``, ``ValueError`` where there is no answer; takes its time."""
    first = here = urlsplit(url)
    host = {name.lower(): value for name, value in headers.items()}.get("host", "")
    for _ in range(REDIRECTS):
        answer = await _get(here, headers, host or here.netloc)
        if answer.status not in _FOLLOWED or not answer.location:
            return _judge(answer)
        there = urlsplit(urljoin(here.geturl(), answer.location))
        if there.hostname != first.hostname:
            return _judge(answer)
        # A host of the probe's own is meant for paths alone.
        host = "" if urlsplit(answer.location).scheme else host
        here = there
    return Finding(False, f'Get "{here.geturl()}": stopped after {REDIRECTS} redirects')


def _judge(answer: Answer) -> Finding:
    if not 200 <= answer.status < 400:
        return Finding(False, f"HTTP probe failed with statuscode: {answer.status}")
    if answer.status >= 300:
        return Finding(True, f"Probe terminated redirects, Response body: {answer.body}")
    return Finding(True)


async def _get(url: SplitResult, headers: Mapping[str, str], host: str) -> Answer:
    if url.scheme not in _PORTS or not url.hostname:
        raise ValueError(f"unsupported protocol scheme {url.scheme!r}")
    tls = _anybody() if url.scheme == "https" else None
    reader, writer = await asyncio.open_connection(url.hostname, url.port or _PORTS[url.scheme], ssl=tls)
    try:
        writer.write(_request(url, headers, host))
        await writer.drain()
        return await _Reading(reader).answer()
    except h11.ProtocolError as error:
        raise ValueError(f"it does not speak HTTP: {error}") from error
    finally:
        writer.close()


def _anybody() -> ssl.SSLContext:
    """As Kubernetes: a probe asks whether it lives, not who it is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _request(url: SplitResult, headers: Mapping[str, str], host: str) -> bytes:
    own = {name.lower(): (name, value) for name, value in headers.items() if name.lower() != "host"}
    usual = {"user-agent": "alcove-probe", "accept": "*/*"}
    every = [(name, value) for name, value in usual.items() if name not in own] + list(own.values())
    target = quote(url.path, safe="/%:@!$&'()*+,;=~-._") or "/"
    query = "?" + quote(url.query, safe="/?%:@!$&'()*+,;=~-._") if url.query else ""
    lines = [("host", host), *every, ("connection", "close")]
    request = h11.Request(
        method="GET",
        target=target + query,
        headers=[(_line(name).encode(), _line(value).strip().encode()) for name, value in lines],
    )
    connection = h11.Connection(h11.CLIENT)
    return (connection.send(request) or b"") + (connection.send(h11.EndOfMessage()) or b"")


def _line(text: str) -> str:
    return "".join(char for char in text if char.isprintable())


class _Reading:
    """The client's side of one answer."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._events = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_LIMIT)
        self._events.send(h11.Request(method="GET", target="/", headers=[("host", "any")]))
        self._events.send(h11.EndOfMessage())

    async def answer(self) -> Answer:
        head, body = await self._next(), b""
        while isinstance(head, h11.InformationalResponse):
            head = await self._next()
        if not isinstance(head, h11.Response):
            raise h11.RemoteProtocolError("it ended without an answer")
        while len(body) < BODY_LIMIT and isinstance(piece := await self._next(), h11.Data):
            body += bytes(piece.data)
        found = [value for name, value in head.headers if name == b"location"]
        location = found[0].decode("latin-1") if found else ""
        return Answer(head.status_code, location, body[:BODY_LIMIT].decode(errors="replace"))

    async def _next(self) -> object:
        while (event := self._events.next_event()) is h11.NEED_DATA:
            self._events.receive_data(await self._reader.read(_READ))
        return event
