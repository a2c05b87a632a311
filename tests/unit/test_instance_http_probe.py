"""HTTP probes against a server of the test's own, by the rules of Kubernetes' prober."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.authority import authority

from alcove.instances import http_probe
from alcove.instances.http_probe import BODY_LIMIT, HEAD_LIMIT, REDIRECTS, Answer, Finding

HERE = "127.0.0.1"
ELSEWHERE = "127.0.0.2"


class Server:
    """``answers`` by path; what was asked is kept, whole."""

    def __init__(self, **answers: str) -> None:
        self.answers = {f"/{path}": answer for path, answer in answers.items()}
        self.asked: list[str] = []
        self.port = 0

    @asynccontextmanager
    async def serving(self, address: str = HERE, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
        async with await asyncio.start_server(self._answer, address, 0, ssl=tls) as server:
            self.port = server.sockets[0].getsockname()[1]
            yield self

    def url(self, path: str = "/a", scheme: str = "http") -> str:
        return f"{scheme}://{HERE}:{self.port}{path}"

    @property
    def paths(self) -> list[str]:
        return [one.split(" ")[1] for one in self.asked]

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(self.answers.get(self.paths[-1].partition("?")[0], answer(404)).encode())
        await writer.drain()
        writer.close()


def answer(status: int, location: str | None = None, body: str = "body") -> str:
    to = "" if location is None else f"Location: {location}\r\n"
    return f"HTTP/1.1 {status} X\r\n{to}Content-Length: {len(body)}\r\n\r\n{body}"


@pytest.mark.parametrize("status", [200, 204, 299, 400, 404, 500])
async def test_a_status_is_good_or_not(status: int) -> None:
    async with Server(a=answer(status, body="" if status == 204 else "body")).serving() as server:
        found = await http_probe.ask(server.url(), {})
    words = "" if status < 300 else f"HTTP probe failed with statuscode: {status}"
    assert found == Finding(status < 300, words)


async def test_redirects_are_followed_with_the_probes_headers() -> None:
    here = Server(a=answer(302, "b?c=d"), b=answer(200))
    async with here.serving():
        assert await http_probe.ask(here.url("/a?x=y z"), {"X-Own": "1", "User-Agent": "me"}) == Finding(True)
        assert here.paths == ["/a?x=y%20z", "/b?c=d"]
        for asked in here.asked:
            assert "X-Own: 1\r\n" in asked
            assert "User-Agent: me\r\n" in asked
            assert f"host: {HERE}:{here.port}\r\n" in asked
            assert asked.lower().count("user-agent") == asked.lower().count("host:") == 1


@pytest.mark.parametrize(("location", "kept"), [("/b", True), ("http://127.0.0.1:{}/b", False)])
async def test_a_host_of_its_own_is_for_paths_alone(location: str, kept: bool) -> None:
    server = Server(b=answer(200))
    async with server.serving():
        server.answers["/a"] = answer(307, location.format(server.port))
        assert await http_probe.ask(server.url(), {"Host": "example.test"}) == Finding(True)
    assert "host: example.test\r\n" in server.asked[0]
    assert ("host: example.test\r\n" in server.asked[1]) is kept


async def test_another_port_and_scheme_of_the_host_are_followed(tmp_path: Path) -> None:
    own = authority(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(own.certificate, own.key)
    other, server = Server(b=answer(200)), Server()
    async with other.serving(tls=tls), server.serving():
        server.answers["/a"] = answer(301, other.url("/b", "https"))
        assert await http_probe.ask(server.url(), {}) == Finding(True)
    assert other.paths == ["/b"]


@pytest.mark.parametrize("where", ["http://127.0.0.2:{}/b", "//127.0.0.2:{}/b", "ftp://example.test/"])
async def test_another_host_is_never_asked_and_is_said(where: str) -> None:
    other, server = Server(b=answer(200)), Server()
    async with other.serving(ELSEWHERE), server.serving():
        server.answers["/a"] = answer(302, where.format(other.port))
        found = await http_probe.ask(server.url(), {})
    assert found == Finding(True, "Probe terminated redirects, Response body: body")
    assert other.asked == []


@pytest.mark.parametrize("what", [answer(300), answer(304, body=""), answer(302), answer(399, "/b")])
async def test_what_leads_nowhere_is_said(what: str) -> None:
    async with Server(a=what).serving() as server:
        good, words = await http_probe.ask(server.url(), {})
    assert good
    assert words.startswith("Probe terminated redirects")


@pytest.mark.parametrize(
    "what",
    [
        *("", "HTTP/1.1 200", "nonsense\r\n\r\n", "HTTP/1.1 200 X\r\nContent-Length: 9\r\n\r\nbody"),
        *("HTTP/1.1 200 X\r\nX: " + "x" * (2 * HEAD_LIMIT) + "\r\n\r\n", answer(302, "ftp://127.0.0.1/")),
        *(answer(302, "http://127.0.0.1:x/"), answer(302, "http://127.0.0.1:99999/"), answer(302, "http://[")),
    ],
)
async def test_what_is_no_answer_is_an_error(what: str) -> None:
    async with Server(a=what).serving() as server:
        with pytest.raises((ValueError, OSError)):
            await http_probe.ask(server.url(), {})


async def test_of_a_body_so_much_is_read() -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 300 X\r\n\r\n")
        try:
            while True:
                writer.write(b"x" * 4096)
                await writer.drain()
        except ConnectionError:
            writer.close()

    async with asyncio.timeout(20), await asyncio.start_server(endless, HERE, 0) as server:
        found = await http_probe.ask(f"http://{HERE}:{server.sockets[0].getsockname()[1]}/", {})
    assert len(found.words) < BODY_LIMIT + 100


# What each hop says: a status, and where it leads: on at this host, to another, nowhere.
HOPS = st.lists(
    st.tuples(st.sampled_from([200, 301, 302, 303, 307, 308, 304, 404]), st.sampled_from(["on", "away", ""])),
    min_size=1,
    max_size=14,
)


def expected(hops: list[tuple[int, str]]) -> tuple[bool, bool, int]:
    """Return whether it is good, whether there is something to say, and how many hops were asked."""
    for asked, (status, where) in enumerate(hops, 1):
        follows = status in (301, 302, 303, 307, 308) and where == "on"
        if not follows:
            return status < 400, status >= 300, asked
        if asked == 10:
            break
    return False, True, 10


@settings(max_examples=300, deadline=None)
@given(HOPS)
def test_any_way_of_redirects(hops: list[tuple[int, str]]) -> None:
    chain = [*hops, (200, "")]
    asked: list[str] = []

    async def get(url: http_probe.SplitResult, headers: object, host: str) -> Answer:
        asked.append(url.path)
        status, where = chain[len(asked) - 1]
        return Answer(status, {"on": f"/{len(asked)}", "away": "http://10.0.0.2/x", "": ""}[where], "")

    async def main() -> Finding:
        with patch.object(http_probe, "_get", get):
            return await http_probe.ask("http://10.0.0.1:80/0", {})

    found = asyncio.run(main())
    good, said, count = expected(chain)
    assert (found.good, bool(found.words), len(asked)) == (good, said, count)
    assert count <= REDIRECTS
    assert asked == [f"/{number}" for number in range(count)]
