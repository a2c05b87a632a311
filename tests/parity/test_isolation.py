"""One tenant can neither see nor guess another's: every route of the router, called with the other's key.

What is written about the victim's function is unmistakable (``MARKS``): none of it may be in any answer to the
stranger, and none of it may change. New routes are tried without anybody naming them here.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pytest
from tests.parity.conftest import ROLE, Platform, zipped
from tests.parity.signing import send

from alcove.api.router import Route
from alcove.cli.client import Client

MARK = secrets.token_hex(8)
# Functions of these names, in the path, are another's: whatever is asked for, it is refused.
OF_A_FUNCTION = ("name", "arn", "function")


@dataclass
class Victim:
    name: str
    arn: str
    marks: tuple[str, ...]

    def spellings(self) -> list[str]:
        account = self.arn.split(":")[4]
        return [
            self.name,
            self.arn,
            f"{self.arn}:1",
            self.arn.replace("arn:aws:lambda", "brn:bce:cfc"),
            f"{account}:function:{self.name}",
            f"{account}:{self.name}",
        ]


@pytest.fixture(scope="module")
def victim(aws: Any, platform: Platform) -> Iterator[Victim]:
    name = f"victim-{MARK}"
    made = aws.create_function(
        FunctionName=name,
        Runtime="python3.11",
        Role=ROLE,
        Handler="echo",
        Description=f"described-{MARK}",
        Environment={"Variables": {"SECRET": f"value-{MARK}"}},
        Tags={"tag": f"tagged-{MARK}"},
        Code={"ZipFile": zipped({"app.py": f"code = '{MARK}'\n".encode()})},
        Publish=True,
    )
    aws.invoke(FunctionName=name, Payload=json.dumps(f"event-{MARK}"))
    timer = {"function": name, "schedule": "cron(0 0 1 1 ? 2099)", "input": f"input-{MARK}"}
    Client(platform.socket.parent).call("PUT", f"/alcove/v1/timers/timer-{MARK}", timer)
    marks = (f"described-{MARK}", f"value-{MARK}", f"tagged-{MARK}", f"event-{MARK}", f"input-{MARK}", f"timer-{MARK}")
    digest = made["CodeSha256"]
    yield Victim(name, made["FunctionArn"], (*marks, digest, base64.b64decode(digest).hex(), made["RevisionId"]))
    Client(platform.socket.parent).request("DELETE", f"/alcove/v1/timers/timer-{MARK}")
    aws.delete_function(FunctionName=name)


def state(aws: Any, platform: Platform, victim: Victim) -> Any:
    """Return all that a stranger might change."""
    client = Client(platform.socket.parent)
    found = aws.get_function(FunctionName=victim.name)
    return (
        found["Configuration"] | {"ResponseMetadata": None},
        found["Tags"],
        [one["Version"] for one in aws.list_versions_by_function(FunctionName=victim.name)["Versions"]],
        client.call("GET", f"/alcove/v1/functions/{victim.name}/logs?after=0&tail=1000")["cursor"],
        [one for one in client.call("GET", "/alcove/v1/timers")["timers"] if one["function"] == victim.name],
    )


def bodies(route: Route, victim: Victim) -> list[bytes]:
    if route.method in ("GET", "DELETE", "HEAD"):
        return [b""]
    document = {
        "FunctionName": victim.arn,
        "Description": "stolen",
        "FunctionVersion": "1",
        "Name": "stolen",
        "name": "stolen",
        "function": victim.arn,
        "Target": victim.arn,
        "schedule": "rate(1 minute)",
        "Tags": {"stolen": "yes"},
        "Handler": "echo",
        "Runtime": "python3.11",
        "Code": {"ZipFile": base64.b64encode(zipped({"app.py": b"stolen"})).decode()},
        "ZipFile": base64.b64encode(zipped({"app.py": b"stolen"})).decode(),
    }
    return [b"{}", json.dumps(document).encode()]


def paths(route: Route, victim: Victim) -> list[str]:
    parameters = [part for part in route.path.split("/") if part.startswith("{")]
    if not parameters:
        return [route.path]
    found = []
    for spelling in victim.spellings():
        path = route.path
        for parameter in parameters:
            path = path.replace(parameter, quote(spelling, safe=""))
        found.append(path)
    return found


def routes(platform: Platform) -> list[Route]:
    return list(platform.routes)


def test_no_route_shows_or_changes_anothers_function(platform: Platform, aws: Any, victim: Victim) -> None:
    before = state(aws, platform, victim)
    tried = 0
    for route in routes(platform):
        if not route.signed:
            continue
        for path in paths(route, victim):
            for body in bodies(route, victim):
                for query in ("", "?Qualifier=1", "?FunctionName=" + quote(victim.arn, safe="")):
                    status, headers, data = send(
                        platform.port,
                        route.method,
                        path + query,
                        body,
                        access_key=platform.other_access_key,
                        secret=platform.other_secret,
                    )
                    tried += 1
                    where = f"{route.method} {path}{query} {body[:20]!r}: {status} {data[:300]!r}"
                    for mark in victim.marks:
                        assert mark not in data.decode(errors="replace"), where
                        assert mark not in json.dumps(headers), where
                    assert status < 500, where
                    named = any(f"{{{one}}}" in route.path for one in OF_A_FUNCTION)
                    if named and "/timers/" not in route.path:
                        assert status in (400, 403, 404), where
    assert tried > 100
    assert state(aws, platform, victim) == before


def test_no_route_answers_without_a_signature(platform: Platform, victim: Victim) -> None:
    for route in routes(platform):
        if not route.signed:
            continue
        for path in paths(route, victim)[:2]:
            status, _, data = send(platform.port, route.method, path, access_key="AKALNOBODY", secret="x")
            assert status == 403, f"{route.method} {path}: {status} {data[:200]!r}"


def test_nothing_tells_an_unknown_function_from_anothers(platform: Platform, victim: Victim) -> None:
    """The refusal is the same, word for word, so that names cannot be guessed."""
    made_up = victim.name[:-1] + ("0" if victim.name[-1] != "0" else "1")
    for route in routes(platform):
        if not route.signed or "{name}" not in route.path or "/timers/" in route.path:
            continue
        answers = []
        for name in (victim.name, made_up):
            arn = victim.arn.replace(victim.name, name)
            for spelling in (name, arn):
                path = route.path.replace("{name}", quote(spelling, safe=""))
                for part in path.split("/"):
                    if part.startswith("{"):
                        path = path.replace(part, "1")
                status, headers, data = send(
                    platform.port,
                    route.method,
                    path,
                    b"" if route.method in ("GET", "DELETE") else b"{}",
                    access_key=platform.other_access_key,
                    secret=platform.other_secret,
                )
                request_id = headers.get("x-amzn-requestid") or headers.get("x-bce-request-id") or "-"
                text = data.decode().replace(name, "NAME").replace(request_id, "ID")
                answers.append((status, text))
        assert answers[0] == answers[2], route.path
        assert answers[1] == answers[3], route.path


def test_tenants_are_the_operators_business(platform: Platform) -> None:
    for route in routes(platform):
        if not route.path.startswith("/alcove/v1/tenants"):
            continue
        path = route.path.replace("{tenant}", platform.tenant).replace("{key}", platform.access_key)
        status, headers, _ = send(
            platform.port,
            route.method,
            path,
            b"" if route.method in ("GET", "DELETE") else b'{"name": "mine"}',
            access_key=platform.other_access_key,
            secret=platform.other_secret,
            **{"X-Alcove-Tenant": platform.tenant},
        )
        assert (status, headers["x-amzn-errortype"]) == (403, "AccessDeniedException"), route.path
