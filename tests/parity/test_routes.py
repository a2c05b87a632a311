"""Custom routes over the real server: the longest match answers, hosts are held."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner
from tests.parity.conftest import HELLO, ROLE, Platform
from tests.parity.test_function_urls import Answer, call, signed

from alcove.cli.app import root
from alcove.cli.client import Client
from alcove.errors import Conflict, InvalidRequest, NotFound

ROUTES = "/alcove/v1/routes"


def visit(platform: Platform, host: str, path: str = "/", method: str = "GET", **options: Any) -> Answer:
    return call(platform, f"http://{host}:{platform.port}", method, path, **options)


class Operator:
    """The operator acting for a tenant."""

    def __init__(self, platform: Platform, tenant: str = "") -> None:
        self.client = Client(platform.socket.parent)
        self.headers = {"X-Alcove-Tenant": tenant} if tenant else {}

    def put(self, place: str, function: str, **fields: Any) -> Any:
        body = json.dumps({"function": function, **fields}).encode()
        return self.client.request("PUT", f"{ROUTES}/{place}", body, self.headers).json()

    def delete(self, path: str) -> None:
        self.client.request("DELETE", path, headers=self.headers)


@pytest.fixture
def mine(platform: Platform) -> Iterator[Operator]:
    operator = Operator(platform)
    yield operator
    for host in operator.client.call("GET", "/alcove/v1/hosts")["hosts"]:
        operator.delete(f"/alcove/v1/hosts/{host}")


def test_the_longest_match_answers(platform: Platform, mine: Operator, function: str) -> None:
    mine.put("shop.apps.localhost", function)
    mine.put("shop.apps.localhost/api/v2", function)
    mine.put("*.shop.apps.localhost/deep", function)
    for host, path, key in (
        ("shop.apps.localhost", "/", "ANY /{proxy+}"),
        ("shop.apps.localhost", "/apiary", "ANY /{proxy+}"),
        ("SHOP.apps.localhost.", "/api/v2", "ANY /api/v2/{proxy+}"),
        ("shop.apps.localhost", "/%61pi/v2/x?y=1", "ANY /api/v2/{proxy+}"),
        ("a.b.shop.apps.localhost", "/deep/x", "ANY /deep/{proxy+}"),
    ):
        event = visit(platform, host, path).json()
        assert event["routeKey"] == key
        assert event["rawPath"] == path.partition("?")[0]
        assert event["requestContext"]["domainName"] == host.lower().rstrip(".")
    assert visit(platform, "a.shop.apps.localhost", "/").status == 404
    # The API is not there: the host is the tenant's.
    assert visit(platform, "shop.apps.localhost", "/2015-03-31/functions").json()["routeKey"] == "ANY /{proxy+}"
    assert visit(platform, "shop.apps.localhost", f"/urls/{'a' * 32}/").status == 200
    mine.delete(f"{ROUTES}/shop.apps.localhost/api/v2")
    assert visit(platform, "shop.apps.localhost", "/api/v2").json()["routeKey"] == "ANY /{proxy+}"
    listed = mine.client.call("GET", ROUTES)
    assert [(one["host"], one["path"]) for one in listed["routes"]] == [
        ("*.shop.apps.localhost", "/deep"),
        ("shop.apps.localhost", "/"),
    ]


def test_a_host_is_held_until_it_is_given_up(platform: Platform, mine: Operator, function: str) -> None:
    other = platform.aws(platform.other_access_key, platform.other_secret)
    other.create_function(FunctionName="r", Runtime="python3.11", Role=ROLE, Handler="echo", Code={"ZipFile": HELLO})
    theirs = Operator(platform, "other")
    mine.put("held.apps.localhost/x", function)
    mine.delete(f"{ROUTES}/held.apps.localhost/x")
    for place in ("held.apps.localhost", "a.held.apps.localhost", "*.held.apps.localhost", "*.apps.localhost/x"):
        with pytest.raises(Conflict):
            theirs.put(place, "r")
    with pytest.raises(NotFound):
        theirs.delete("/alcove/v1/hosts/held.apps.localhost")
    mine.put("held.apps.localhost/x", function)
    with pytest.raises(NotFound):
        theirs.delete(f"{ROUTES}/held.apps.localhost/x")
    assert visit(platform, "held.apps.localhost", "/x").status == 200
    mine.delete("/alcove/v1/hosts/held.apps.localhost")
    assert visit(platform, "held.apps.localhost", "/x").json()["Message"].startswith("There is no GET /x")
    theirs.put("held.apps.localhost", "r")
    assert visit(platform, "held.apps.localhost", "/x").status == 200
    theirs.delete("/alcove/v1/hosts/held.apps.localhost")
    other.delete_function(FunctionName="r")


@pytest.mark.parametrize(
    "place",
    [
        "localhost",
        "127.0.0.1",
        "a.lambda-url.eu-central-1.localhost",
        "apps.localhost",
        "shop.example.com",
        "bad_name.apps.localhost",
        "-a.apps.localhost",
        "*.*.apps.localhost",
        "a.apps.localhost/..",
        "a.apps.localhost/%00",
        "a.apps.localhost/a//b",
    ],
)
def test_what_a_tenant_cannot_take(platform: Platform, function: str, place: str) -> None:
    body = json.dumps({"function": function})
    url = f"{platform.url}{ROUTES}/{place}"
    headers = signed(url, "PUT", body, platform.access_key, platform.secret)
    answer = call(platform, platform.url, "PUT", f"{ROUTES}/{place}", body=body, headers=headers)
    assert answer.status == 400
    assert answer.json()["Message"]


def test_the_operator_may_take_any_host(platform: Platform, mine: Operator, function: str) -> None:
    mine.put("www.example.com", function, auth="AWS_IAM")
    assert visit(platform, "www.example.com").status == 403
    headers = signed(f"http://www.example.com:{platform.port}/", "GET", "", platform.access_key, platform.secret)
    assert visit(platform, "www.example.com", headers=headers).status == 200
    for place in ("localhost", "127.0.0.1"):
        with pytest.raises(InvalidRequest):
            mine.put(place, function)
    with pytest.raises(NotFound):
        mine.put("x.example.com", "nobody")
    with pytest.raises(NotFound):
        mine.delete(f"{ROUTES}/www.example.com/nothing")


def test_cors(platform: Platform, mine: Operator, function: str) -> None:
    """As for function URLs: a preflight is answered without a call, and the rules' headers are the answer's."""
    rules = {"AllowOrigins": ["https://a.example"], "AllowMethods": ["PUT"], "AllowHeaders": ["x-a"], "MaxAge": 60}
    assert mine.put("cors.apps.localhost", function, cors=rules, auth="AWS_IAM")["cors"]["MaxAge"] == 60
    asked = {"Origin": "https://a.example", "Access-Control-Request-Method": "PUT"}
    allowed = visit(platform, "cors.apps.localhost", "/x", "OPTIONS", headers=asked)
    assert (allowed.status, allowed.body) == (200, b"")
    assert allowed.headers["access-control-allow-origin"] == "https://a.example"
    assert allowed.headers["access-control-allow-methods"] == "PUT"
    assert allowed.headers["access-control-max-age"] == "60"
    other = visit(platform, "cors.apps.localhost", "/x", "OPTIONS", headers={**asked, "Origin": "https://b.example"})
    assert "access-control-allow-origin" not in other.headers
    refused = visit(platform, "cors.apps.localhost", "/x", headers={"Origin": "https://a.example"})
    assert (refused.status, refused.headers["access-control-allow-origin"]) == (403, "https://a.example")
    # A route that is put anew has what it is put with.
    assert mine.put("cors.apps.localhost", function)["cors"] is None
    assert "access-control-allow-origin" not in visit(platform, "cors.apps.localhost", headers=asked).headers
    for bad in ({"AllowMethods": ["TRACE"]}, {"AllowOrigins": "*"}, {"MaxAge": -1}, {"AllowHeaders": ["a b"]}):
        with pytest.raises(InvalidRequest):
            mine.put("cors.apps.localhost", function, cors=bad)


def test_the_commands(platform: Platform, function: str) -> None:
    def alcove(*arguments: str) -> str:
        result = CliRunner().invoke(root, ["route", *arguments], env={"ALCOVE_RUN": str(platform.socket.parent)})
        assert result.exit_code == 0, result.output
        return result.output

    assert "is answered by" in alcove("add", "cli.apps.localhost/a", function, "--auth", "AWS_IAM")
    cors = ("--origin", "https://a.example", "--method", "GET", "--max-age", "5", "--credentials")
    made = json.loads(alcove("add", "cli.apps.localhost/c", function, *cors, "--json"))
    assert made["cors"] == {
        "AllowCredentials": True,
        "AllowHeaders": ["*"],
        "AllowMethods": ["GET"],
        "AllowOrigins": ["https://a.example"],
        "ExposeHeaders": [],
        "MaxAge": 5,
    }
    lacking = ["route", "add", "x.apps.localhost", function, "--max-age", "5"]
    assert CliRunner().invoke(root, lacking, env={"ALCOVE_RUN": str(platform.socket.parent)}).exit_code == 2
    alcove("remove", "cli.apps.localhost/c")
    assert visit(platform, "cli.apps.localhost", "/a").status == 403
    assert json.loads(alcove("add", "cli.apps.localhost", function, "--json"))["path"] == "/"
    listed = json.loads(alcove("list", "--json"))
    assert [(one["path"], one["auth"]) for one in listed] == [("/", "NONE"), ("/a", "AWS_IAM")]
    assert "cli.apps.localhost" in alcove("list")
    alcove("remove", "cli.apps.localhost/a")
    assert visit(platform, "cli.apps.localhost", "/a").status == 200
    alcove("release", "cli.apps.localhost")
    assert json.loads(alcove("list", "--json")) == []
