"""CFC's triggers: made by the stock SDK, and called as their sources call them."""

from __future__ import annotations

import base64
import http.client
import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from baidubce.auth import bce_v1_signer
from baidubce.auth.bce_credentials import BceCredentials
from baidubce.exception import BceHttpClientError
from baidubce.services.cfc import models
from tests.parity.conftest import HELLO, Platform
from tests.parity.test_function_urls import call

from alcove.cli.client import Client
from alcove.triggers.webhook import HEADER, MAX_SKEW_S, sign

# The SDK leaves its connections to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
CODE = base64.b64encode(HELLO).decode()


def refused(act: Any, *arguments: Any, **options: Any) -> tuple[str, int]:
    with pytest.raises(BceHttpClientError) as caught:
        act(*arguments, **options)
    return caught.value.last_error.code, caught.value.last_error.status_code


class Maker:
    """Makes functions and relations, and removes them."""

    def __init__(self, cfc: Any, name: str) -> None:
        self.cfc, self.name = cfc, name
        self.brns: list[str] = []

    def function(self, handler: str = "echo", timeout: int = 3) -> str:
        made = self.cfc.create_function(
            f"{self.name}-{len(self.brns)}", handler=handler, zip_file=CODE, run_time="python3.11", timeout=timeout
        )
        self.brns.append(made.FunctionBrn)
        return str(made.FunctionBrn)

    def relations(self, brn: str) -> list[Any]:
        return list(self.cfc.list_triggers(brn).Relation)

    def clean(self) -> None:
        for brn in self.brns:
            for one in self.relations(brn):
                self.cfc.delete_trigger(brn, one.Source, one.RelationId)
            self.cfc.delete_function(brn.split(":")[6])


@pytest.fixture
def maker(cfc: Any, request: pytest.FixtureRequest) -> Iterator[Maker]:
    found = Maker(cfc, f"r{abs(hash(request.node.nodeid)) % 10**12}")
    yield found
    found.clean()


def timers(platform: Platform) -> dict[str, Any]:
    return {one["name"]: one for one in Client(platform.socket.parent).call("GET", "/alcove/v1/timers")["timers"]}


def test_cron_relations_are_timers(cfc: Any, platform: Platform, maker: Maker) -> None:
    brn = maker.function()
    data = models.CrontabTriggerData(name="nightly", schedule_expression="cron(0 3 * * ?)", enabled=True)
    made = cfc.create_trigger(brn, trigger_data=data).Relation
    assert (made.Source, made.Target) == ("cfc-crontab-trigger/v1/", brn)
    timer = timers(platform)[f"relation.{made.RelationId}"]
    assert (timer["schedule"], timer["enabled"]) == ("cron(0 3 * * ?)", True)
    data = models.CrontabTriggerData(
        name="nightly", schedule_expression="rate(5 minutes)", enabled=False, custom_input='{"n": 1}'
    )
    changed = cfc.update_trigger(brn, made.RelationId, data).Relation
    assert changed.Data.ScheduleExpression == "rate(5 minutes)"
    timer = timers(platform)[f"relation.{made.RelationId}"]
    assert (timer["schedule"], timer["enabled"]) == ("rate(5 minutes)", False)
    assert [one.RelationId for one in maker.relations(brn)] == [made.RelationId]
    bad = models.CrontabTriggerData(name="n", schedule_expression="cron(99 * * * *)")
    assert refused(cfc.create_trigger, brn, trigger_data=bad)[1] == 400
    assert refused(cfc.update_trigger, brn, made.RelationId, bad)[1] == 400
    assert maker.relations(brn)[0].Data.ScheduleExpression == "rate(5 minutes)"
    cfc.delete_trigger(brn, made.Source, made.RelationId)
    assert f"relation.{made.RelationId}" not in timers(platform)
    assert refused(cfc.delete_trigger, brn, made.Source, made.RelationId) == ("ResourceNotFoundException", 404)


def test_http_relations(cfc: Any, platform: Platform, maker: Maker) -> None:
    brn = maker.function()

    def make(path: str, method: str, auth: str = "anonymous") -> Any:
        return cfc.create_trigger(brn, trigger_data=models.HttpTriggerData(path, method, auth)).Relation

    first = make("/user/{id}/posts", "GET,POST")
    prefix = first.Data.EndpointPrefix
    assert first.Data.Brn.endswith("/cfc/GET,POST/user/{id}/posts")
    for path, method in (("files/{path+}", "GET"), ("/user/me/posts", "GET"), ("/", "PUT")):
        assert make(path, method).Data.EndpointPrefix == prefix
    for method, path, resource, names in (
        ("POST", "/user/7/posts?a=1&a=2", "/user/{id}/posts", {"id": "7"}),
        ("GET", "/user/me/posts", "/user/me/posts", {}),
        ("GET", "/user/a%2Fb/posts/", "/user/{id}/posts", {"id": "a/b"}),
        ("GET", "/files/a/b/c", "/files/{path+}", {"path": "a/b/c"}),
        ("PUT", "/", "/", {}),
    ):
        event = call(platform, prefix, method, path).json()
        assert (event["resource"], event["pathParameters"], event["httpMethod"]) == (resource, names, method)
        assert event["path"] == path.partition("?")[0]
        assert event["requestContext"]["stage"] == "cfc"
        assert event["requestContext"]["sourceIp"] == "127.0.0.1"
    text = call(platform, prefix, "POST", "/user/7/posts?a=1", body="hi", headers={"Content-Type": "text/plain"}).json()
    assert (text["body"], text["isBase64Encoded"], text["queryStringParameters"]) == ("hi", False, {"a": "1"})
    for method, path in (("DELETE", "/user/7/posts"), ("GET", "/user/7"), ("GET", "/files/"), ("GET", "/")):
        assert call(platform, prefix, method, path).status == 404
    address = urlsplit(prefix).netloc.split(".")[0]
    by_path = call(platform, platform.url, path=f"/cfc-execute/{address}/files/x").json()
    assert by_path["path"] == "/files/x"
    code, status = refused(make, "/user/{other}/posts", "POST,PUT")
    assert (code, status) == ("ResourceConflictException", 409)
    assert len(maker.relations(brn)) == 4
    changed = cfc.update_trigger(brn, first.RelationId, models.HttpTriggerData("/moved", "GET", "anonymous")).Relation
    assert changed.Data.EndpointPrefix == prefix
    assert call(platform, prefix, path="/moved").status == 200
    assert call(platform, prefix, path="/user/7/posts").status == 404


def test_http_relations_that_ask_who_calls(cfc: Any, platform: Platform, maker: Maker) -> None:
    brn = maker.function("answer")
    data = models.HttpTriggerData("/a", "POST", "iam")
    prefix = cfc.create_trigger(brn, trigger_data=data).Relation.Data.EndpointPrefix
    host = urlsplit(prefix).netloc

    def signed(access_key: str, secret: str) -> dict[str, str]:
        headers = {b"host": host.encode(), b"x-bce-date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()).encode()}
        key = BceCredentials(access_key, secret)
        authorization = bce_v1_signer.sign(key, b"POST", b"/a", headers, {}, headers_to_sign=sorted(headers))
        return {"x-bce-date": headers[b"x-bce-date"].decode(), "Authorization": authorization.decode()}

    body = json.dumps({"isBase64Encoded": False, "statusCode": 201, "headers": {"X-A": "b"}, "body": "done"})
    assert call(platform, prefix, "POST", "/a").status == 403
    theirs = signed(platform.other_access_key, platform.other_secret)
    assert call(platform, prefix, "POST", "/a", headers=theirs).status == 403
    mine = {**signed(platform.access_key, platform.secret), "Content-Type": "application/json"}
    answer = call(platform, prefix, "POST", "/a", body=body, headers=mine)
    assert (answer.status, answer.headers["x-a"], answer.body) == (201, "b", b"done")


def post(platform: Platform, url: str, body: bytes, signature: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", platform.port, timeout=30)
    connection.request("POST", urlsplit(url).path, body, {HEADER: signature, "Content-Type": "application/json"})
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    return answer.status, json.loads(data)


@pytest.mark.parametrize("kind", ["dueros", "duedge"])
def test_signed_events_are_answered(cfc: Any, platform: Platform, maker: Maker, kind: str) -> None:
    brn = maker.function()
    made = cfc.create_trigger(brn, kind).Relation
    url, secret, now = made.Data.Webhook, made.Data.Secret, int(time.time())
    event = b'{"version": "2.0", "request": {"type": "LaunchRequest"}}'
    assert post(platform, url, event, sign(secret, event, now)) == (200, json.loads(event))
    # The secret is shown once.
    assert set(vars(maker.relations(brn)[0].Data)) == {"Webhook"}
    for signature, sent, where in (
        (sign(secret, event, now), event, url),
        (sign(secret, event, now + 1), event + b" ", url),
        (sign("0" * 64, event, now), event, url),
        (sign(secret, event, now - MAX_SKEW_S - 5), event, url),
        (sign(secret, event, now + MAX_SKEW_S + 5), event, url),
        (sign(secret, event, now + 2), event, f"{platform.url}/v1/{kind}/{'a' * 32}"),
        ("", event, url),
        ("t=1,v1=zz", event, url),
    ):
        status, document = post(platform, where, sent, signature)
        assert status == 403, signature
        assert set(document) >= {"code", "message", "requestId"}
    no_json = b"{"
    assert post(platform, url, no_json, sign(secret, no_json, now))[0] == 400
    other = "duedge" if kind == "dueros" else "dueros"
    assert post(platform, url.replace(f"/{kind}/", f"/{other}/"), event, sign(secret, event, now + 3))[0] == 403
    cfc.update_trigger(brn, made.RelationId, {"Status": "disabled"})
    assert post(platform, url, event, sign(secret, event, now + 4))[0] == 404


def test_a_function_that_fails_at_a_signed_event(cfc: Any, platform: Platform, maker: Maker) -> None:
    made = cfc.create_trigger(maker.function("raise"), "dueros").Relation
    status, document = post(platform, made.Data.Webhook, b"{}", sign(made.Data.Secret, b"{}", int(time.time())))
    assert (status, "no" in document["message"].split()) == (502, False)


def test_cdn_events_are_chosen_and_queued(cfc: Any, platform: Platform, maker: Maker) -> None:
    brn = maker.function("print")
    data = models.CdnTriggerData(event_type="CdnDomainStarted", domains=["a.example"], status=True)
    made = cfc.create_trigger(brn, trigger_data=data).Relation
    now = int(time.time())

    def tell(*events: tuple[str, str], late: int = 0) -> Any:
        listed = [{"eventName": name, "eventDetail": {"domain": domain}} for name, domain in events]
        body = json.dumps({"events": listed}).encode()
        return post(platform, made.Data.Webhook, body, sign(made.Data.Secret, body, now + late))

    assert tell(("CdnDomainStarted", "a.example"), ("CdnDomainStopped", "a.example")) == (202, {"accepted": 1})
    assert tell(("CdnDomainStarted", "b.example")) == (202, {"accepted": 0})
    assert post(platform, made.Data.Webhook, b"[1]", sign(made.Data.Secret, b"[1]", now)) == (202, {"accepted": 0})
    name = brn.split(":")[6]
    deadline = time.monotonic() + 30
    lines: list[Any] = []
    while not any("CdnDomainStarted" in line["text"] for line in lines):
        assert time.monotonic() < deadline
        time.sleep(0.1)
        lines = Client(platform.socket.parent).call("GET", f"/alcove/v1/functions/{name}/logs?after=0&tail=20")["lines"]
    assert not any("CdnDomainStopped" in line["text"] for line in lines)


def test_bos_relations_are_kept(cfc: Any, maker: Maker) -> None:
    brn = maker.function()
    data = models.BOSTriggerData("pictures", ["PutObject"], "/in/*", "name", status=True)
    made = cfc.create_trigger(brn, trigger_data=data).Relation
    assert made.Source == "bos/pictures"
    assert list(maker.relations(brn)[0].Data.EventType) == ["PutObject"]


def test_relations_go_with_their_function(cfc: Any, platform: Platform, maker: Maker) -> None:
    brn = maker.function()
    name = brn.split(":")[6]
    daily = models.CrontabTriggerData(name="n", schedule_expression="rate(1 day)", enabled=True)
    cron = cfc.create_trigger(brn, trigger_data=daily).Relation
    address = cfc.create_trigger(brn, trigger_data=models.HttpTriggerData("/x", "GET", "anonymous")).Relation
    cfc.create_trigger(brn, trigger_data=models.BOSTriggerData("orphans", ["PutObject"], "/*", "n", status=True))
    hook = cfc.create_trigger(brn, "dueros").Relation.Data
    assert call(platform, address.Data.EndpointPrefix, "GET", "/x").status == 200
    assert f"relation.{cron.RelationId}" in timers(platform)
    cfc.delete_function(name)
    assert f"relation.{cron.RelationId}" not in timers(platform)
    # Nothing of it calls another function of its name.
    cfc.create_function(name, handler="echo", zip_file=CODE, run_time="python3.11")
    assert maker.relations(brn) == []
    assert call(platform, address.Data.EndpointPrefix, "GET", "/x").status == 404
    assert post(platform, hook.Webhook, b"{}", sign(hook.Secret, b"{}", int(time.time())))[0] == 403
    assert refused(cfc.delete_trigger, brn, cron.Source, cron.RelationId)[1] == 404
    again = cfc.create_trigger(brn, trigger_data=models.HttpTriggerData("/x", "GET", "anonymous")).Relation
    assert call(platform, again.Data.EndpointPrefix, "GET", "/x").status == 200


def test_refusals_and_other_tenants(cfc: Any, platform: Platform, maker: Maker) -> None:
    brn = maker.function()
    assert refused(cfc.create_trigger, brn, "nothing") == ("InvalidParameterValueException", 400)
    assert refused(cfc.create_trigger, None, "bos/b")[1] == 400
    assert refused(cfc.create_trigger, brn.replace("function:", "function:x"), "bos/b")[1] == 404
    for data in ({"ResourcePath": "/{a}/{a}", "Method": "GET"}, {"ResourcePath": "/{a+}/b", "Method": "GET"}):
        assert refused(cfc.create_trigger, brn, models.HTTP_TRIGGER, data)[1] == 400
    for path, method in ((None, "GET"), ("/a", "TRACE"), ("/..", "GET"), ("/a b", "GET"), ("/a", "")):
        data = {"ResourcePath": path, "Method": method}
        assert refused(cfc.create_trigger, brn, models.HTTP_TRIGGER, data)[1] == 400
    assert refused(cfc.create_trigger, brn, "bos/b", {"x": "y" * 20_000}) == ("RequestTooLargeException", 413)
    made = cfc.create_trigger(brn, "bos/b").Relation
    assert refused(cfc.update_trigger, brn, made.RelationId, {}, "cdn")[1] == 400
    other = platform.cfc(platform.other_access_key, platform.other_secret)
    assert refused(other.list_triggers, brn)[1] == 404
    assert refused(other.delete_trigger, brn, made.Source, made.RelationId)[1] == 404
    assert refused(other.update_trigger, brn, made.RelationId, {})[1] == 404
    assert len(maker.relations(brn)) == 1


def test_the_go_clients_path(platform: Platform, maker: Maker, cfc: Any) -> None:
    brn = maker.function()
    cfc.create_trigger(brn, "bos/b")
    client = Client(platform.socket.parent)
    made = client.call("POST", "/v1/console/relation", {"Target": brn, "Source": "bos/c", "Data": {"Name": "n"}})
    assert made["Relation"]["Data"] == {"Name": "n"}
    listed = client.call("GET", f"/v1/console/relation?FunctionBrn={brn}")["Relation"]
    assert [one["Source"] for one in listed] == ["bos/b", "bos/c"]
    client.request("DELETE", f"/v1/console/relation?Target={brn}&RelationId={made['Relation']['RelationId']}")
    assert len(maker.relations(brn)) == 1
