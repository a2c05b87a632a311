"""``alcove tenant`` against the real server, and the keys that it hands out against stock boto3."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError
from click.testing import CliRunner, Result
from tests.parity.conftest import HELLO, ROLE, Platform
from tests.parity.test_sqs import client_of
from tests.stock_clients.go import GoClient, Refused

from alcove.cli import exits
from alcove.cli.app import root
from alcove.cli.client import Client
from alcove.errors import AlcoveError
from alcove.tenants.quotas import QUOTA_NAMES


def alcove(platform: Platform, *arguments: str, **variables: str) -> Result:
    """Run a command as ``main`` does."""
    result = CliRunner().invoke(root, arguments, env={"ALCOVE_RUN": str(platform.socket.parent), **variables})
    if isinstance(result.exception, AlcoveError):
        result.exit_code = exits.exit_code(result.exception)
    return result


def shown(platform: Platform, *arguments: str) -> Any:
    result = alcove(platform, *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


def create(aws: Any, name: str, **options: Any) -> Any:
    return aws.create_function(
        FunctionName=name, Runtime="python3.11", Role=ROLE, Handler="echo", Code={"ZipFile": HELLO}, **options
    )


def executions(platform: Platform) -> int:
    """Return how many executions of flows run, by the metrics."""
    text = Client(platform.socket.parent).request("GET", "/metrics").body.decode()
    found = re.search(r"^alcove_flow_executions ([0-9]+)", text, re.MULTILINE)
    assert found is not None
    return int(found[1])


def code_of(call: Any, **options: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**options)
    return str(caught.value.response["Error"]["Code"])


@pytest.fixture
def shop(platform: Platform) -> Iterator[dict[str, Any]]:
    """A tenant of the test's own, as ``alcove tenant add`` prints it."""
    made = shown(platform, "tenant", "add", "shop", "--functions", "2", "--concurrency", "7")
    yield made
    alcove(platform, "tenant", "remove", "shop", "--force")


def client(platform: Platform, key: dict[str, str]) -> Any:
    return platform.aws(key["access_key"], key["secret"])


def test_a_tenant_has_functions_of_its_own(platform: Platform, shop: dict[str, Any], function: str) -> None:
    aws = client(platform, shop["key"])
    assert aws.list_functions()["Functions"] == []
    create(aws, function)
    assert aws.get_function(FunctionName=function)["Configuration"]["FunctionArn"].split(":")[4] == shop["id"]
    listed = alcove(platform, "fn", "list", "--json", ALCOVE_TENANT="shop")
    assert [one["FunctionName"] for one in json.loads(listed.output)] == [function]
    assert {"shop", "default"} <= {one["name"] for one in shown(platform, "tenant", "list")}
    assert shown(platform, "tenant", "show", "shop")["used"]["functions"] == 1
    assert "secret" not in alcove(platform, "tenant", "show", "shop").output


def test_keys_are_rotated_with_and_without_a_gap(platform: Platform, shop: dict[str, Any]) -> None:
    first = client(platform, shop["key"])
    second_key = shown(platform, "tenant", "rotate", "shop", "--keep")["key"]
    second = client(platform, second_key)
    assert first.list_functions()["Functions"] == second.list_functions()["Functions"] == []
    assert alcove(platform, "tenant", "revoke", "shop", shop["key"]["access_key"]).exit_code == 0
    assert code_of(first.list_functions) == "UnrecognizedClientException"
    assert alcove(platform, "tenant", "revoke", "shop", second_key["access_key"]).exit_code == exits.REFUSED
    printed = alcove(platform, "tenant", "rotate", "shop").output
    key = dict(zip(("access_key", "secret"), re.findall(r"\w{20,}", printed), strict=True))
    assert code_of(second.list_functions) == "UnrecognizedClientException"
    assert client(platform, key).list_functions()["Functions"] == []
    assert [one["access_key"] for one in shown(platform, "tenant", "show", "shop")["keys"]] == [key["access_key"]]


def test_quotas_hold_and_are_told(platform: Platform, shop: dict[str, Any]) -> None:
    aws = client(platform, shop["key"])
    create(aws, "one")
    create(aws, "two")
    assert code_of(create, aws=aws, name="three") == "TooManyFunctionsException"
    account = aws.get_account_settings()
    assert account["AccountLimit"]["ConcurrentExecutions"] == 7
    assert account["AccountLimit"]["TotalCodeSize"] == 75 << 30
    assert account["AccountUsage"] == {"TotalCodeSize": 2 * len(HELLO), "FunctionCount": 2}
    changed = shown(platform, "tenant", "quota", "shop", "--code-bytes", str(2 * len(HELLO)), "--functions", "default")
    assert changed["own_quotas"] == {"code_bytes": 2 * len(HELLO), "concurrency": 7}
    assert code_of(create, aws=aws, name="three") == "CodeStorageExceededException"
    assert code_of(aws.publish_version, FunctionName="one") == "CodeStorageExceededException"
    assert aws.get_account_settings()["AccountLimit"]["TotalCodeSize"] == 2 * len(HELLO)
    timer = {"function": "one", "schedule": "rate(1 day)"}
    assert alcove(platform, "tenant", "quota", "shop", "--timers", "0").exit_code == 0
    result = alcove(platform, "timer", "add", "t", timer["function"], timer["schedule"], ALCOVE_TENANT="shop")
    assert result.exit_code == exits.REFUSED
    assert alcove(platform, "tenant", "quota", "shop", "--timers", "many").exit_code == exits.USAGE
    assert alcove(platform, "tenant", "quota", "shop", "--timers", "-1").exit_code == exits.USAGE


def test_quotas_of_flows(platform: Platform, shop: dict[str, Any]) -> None:
    with GoClient(platform.url, shop["key"]["access_key"], shop["key"]["secret"]) as go:
        flow = {"definition": "name: w\nstart: a\nstates: [{type: wait, name: a, seconds: 1000, end: true}]"}
        go("CreateFlow", {"name": "one", **flow})
        assert alcove(platform, "tenant", "quota", "shop", "--flows", "1", "--executions", "1").exit_code == 0
        with pytest.raises(Refused) as caught:
            go("CreateFlow", {"name": "two", **flow})
        assert (caught.value.status // 100, "may have 1 flows" in str(caught.value)) == (4, True)
        go("StartExecution", {"flowName": "one", "executionName": "e", "input": "{}"})
        used = shown(platform, "tenant", "show", "shop")["used"]
        assert (used["flows"], used["executions"]) == (1, 1)
        with pytest.raises(Refused) as caught:
            go("StartExecution", {"flowName": "one", "executionName": "f", "input": "{}"})
        assert caught.value.status == 429
        freed = shown(platform, "tenant", "quota", "shop", "--flows", "default", "--executions", "default")
        assert (freed["quotas"]["flows"], freed["quotas"]["executions"]) == (200, 100)
        go("CreateFlow", {"name": "two", **flow})
        go("StartExecution", {"flowName": "one", "executionName": "f", "input": "{}"})


def test_a_tenant_goes_with_all_that_it_has(platform: Platform, shop: dict[str, Any], function: str) -> None:
    aws = client(platform, shop["key"])
    create(aws, "one")
    aws.invoke(FunctionName="one", Payload=b"1")
    assert alcove(platform, "timer", "add", "t", "one", "rate(1 day)", ALCOVE_TENANT="shop").exit_code == 0
    sqs = client_of(platform, shop["key"]["access_key"], shop["key"]["secret"])
    url = sqs.create_queue(QueueName="q")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="m")
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    aws.create_event_source_mapping(EventSourceArn=arn, FunctionName="one")
    with GoClient(platform.url, shop["key"]["access_key"], shop["key"]["secret"]) as go:
        waiting = "name: w\nstart: a\nstates: [{type: wait, name: a, seconds: 1000, end: true}]"
        go("CreateFlow", {"name": "w", "definition": waiting})
        go("StartExecution", {"flowName": "w", "input": "{}"})
        go("CreateService", {"ServiceName": "s"})
    running = executions(platform)
    route = ("route", "add", "one.shop.localhost", "one")
    assert alcove(platform, *route, ALCOVE_TENANT="shop").exit_code == 0
    refused = alcove(platform, "tenant", "remove", "shop")
    assert refused.exit_code == exits.REFUSED
    assert "--force" in refused.exception.hint  # type: ignore[union-attr]
    assert aws.list_functions()["Functions"]
    assert alcove(platform, "tenant", "remove", "shop", "--force").exit_code == 0
    assert executions(platform) == running - 1
    assert code_of(aws.list_functions) == "UnrecognizedClientException"
    assert alcove(platform, "tenant", "show", "shop").exit_code == exits.NOT_FOUND
    assert alcove(platform, "tenant", "remove", "shop", "--force").exit_code == exits.NOT_FOUND
    assert alcove(platform, "tenant", "remove", "default", "--force").exit_code == exits.REFUSED
    taken = alcove(platform, "route", "add", "one.shop.localhost", function)
    assert taken.exit_code == 0, "the host is not free"
    assert alcove(platform, "route", "release", "one.shop.localhost").exit_code == 0
    instances = Client(platform.socket.parent).call("GET", "/alcove/v1/instances")["instances"]
    assert not [one for one in instances if one["tenant"] == shop["id"]]
    # The name is free, and what is made under it starts with nothing.
    again = shown(platform, "tenant", "add", "shop")
    assert again["id"] != shop["id"]
    assert again["used"] == {name: 0 for name in QUOTA_NAMES if name != "concurrency"}


def test_refusals(platform: Platform) -> None:
    assert alcove(platform, "tenant", "add", "default").exit_code == exits.REFUSED
    assert alcove(platform, "tenant", "add", "123").exit_code == exits.USAGE
    assert alcove(platform, "tenant", "add", "x", "--functions", "-1").exit_code == exits.USAGE
    for command in ("rotate", "remove", "show", "quota"):
        assert alcove(platform, "tenant", command, "nobody").exit_code == exits.NOT_FOUND
    assert alcove(platform, "tenant", "revoke", "default", "AKALNOBODY").exit_code == exits.NOT_FOUND
