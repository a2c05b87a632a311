"""Requests to events and answers to responses, as pure functions: whatever a function says, HTTP stays well-formed."""

from __future__ import annotations

import base64
import json
from typing import Any

import httptools
from hypothesis import given
from hypothesis import strategies as st

from alcove.api.web_answer import BadAnswer, make_response
from alcove.api.web_event import make_event
from alcove.gateway.message import Peer, Request
from alcove.sandbox.protocol import TenantId
from alcove.store.routes import RouteRow
from alcove.triggers.endpoint import Auth, Endpoint, Mode, host_name
from alcove.triggers.routes import RouteTable

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
ANSWERS = st.fixed_dictionaries(
    {"statusCode": st.integers(150, 650) | JSON},
    optional={
        "headers": st.dictionaries(st.text(max_size=10), st.text(max_size=20) | st.integers(), max_size=4) | JSON,
        "cookies": st.lists(st.text(max_size=20), max_size=3) | JSON,
        "body": st.text(max_size=50) | JSON,
        "isBase64Encoded": st.booleans() | JSON,
    },
)


class Seen:
    """What a client's parser makes of a response."""

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.complete = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete += 1


@given(ANSWERS)
def test_any_answer_is_one_response_or_refused(document: Any) -> None:
    try:
        response = make_response(json.dumps(document).encode())
    except BadAnswer:
        return
    seen = Seen()
    parser = httptools.HttpResponseParser(seen)
    parser.feed_data(response.encode(b"now", close=False, head=False))
    assert parser.get_status_code() == response.status
    assert seen.complete == 1
    assert sorted(name for name, _ in seen.headers if name != b"content-length") == sorted(
        [name.lower().encode() for name in response.headers] + [b"set-cookie"] * len(response.cookies) + [b"date"]
    )
    if response.status not in (204, 304):
        assert seen.body == response.body


def endpoint() -> Endpoint:
    return Endpoint(TenantId("1"), "f", "", Auth.NONE, Mode.BUFFERED, "id")


@given(st.binary(max_size=200), st.sampled_from(["text/plain; charset=utf-8", "application/json", "image/png", ""]))
def test_a_body_reaches_the_function_as_it_was_sent(body: bytes, kind: str) -> None:
    request = Request("POST", "/", "", {"host": "h", "content-type": kind}, body, Peer("10.0.0.1"))
    event = json.loads(make_event(endpoint(), request, path="/", domain="h", request_id="r", caller=None))
    text = event.get("body", "")
    assert (base64.b64decode(text) if event["isBase64Encoded"] else text.encode()) == body


def route(host: str, path: str) -> RouteRow:
    return RouteRow(host, path, host.removeprefix("*."), "f", "", "NONE", "BUFFERED", 0)


SEGMENTS = st.lists(st.sampled_from(["a", "b", "c"]), max_size=3)
HOSTS = st.sampled_from(["x.y", "*.x.y", "*.y", "a.x.y"])


@given(st.sets(st.tuples(HOSTS, SEGMENTS.map(tuple)), max_size=8), st.sampled_from(["x.y", "a.x.y", "q"]), SEGMENTS)
def test_the_longest_match_of_all(routes: set[tuple[str, tuple[str, ...]]], host: str, segments: list[str]) -> None:
    """The table against a search through all routes."""
    table = RouteTable()
    for pattern, path in routes:
        table.put(route(pattern, "".join(f"/{one}" for one in path)), "1")

    def fits(pattern: str, path: tuple[str, ...]) -> bool:
        named = host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern
        return named and tuple(segments[: len(path)]) == path

    matches = [one for one in routes if fits(*one)]
    best = max(matches, key=lambda one: (not one[0].startswith("*"), len(one[0]), len(one[1])), default=None)
    found = table.find(host, "/" + "/".join(segments))
    if best is None:
        assert found is None
    else:
        assert found is not None
        assert (found.api_id, found.route) == (best[0], f"ANY {''.join(f'/{one}' for one in best[1])}/{{proxy+}}")
    for pattern, path in routes:
        table.drop(pattern, "".join(f"/{one}" for one in path))
    assert not table.holds(host)


def test_host_names() -> None:
    for header, name in (("A.b:80", "a.b"), ("a.b.", "a.b"), ("[::1]:80", "[::1]"), ("[::1]", "[::1]"), ("", "")):
        assert host_name(header) == name
