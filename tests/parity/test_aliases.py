"""Aliases through the stock clients: made, used by every kind of call, shared by weight, refused."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest
from baidubce.exception import BceHttpClientError
from botocore.exceptions import ClientError
from tests.parity.conftest import Platform, zipped
from tests.parity.test_boto3 import refused

from alcove.cli.client import Client

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")


@pytest.fixture
def versions(aws: Any, function: str) -> str:
    """A function with versions 1 and 2."""
    aws.publish_version(FunctionName=function)
    aws.update_function_code(FunctionName=function, ZipFile=zipped({"app.py": b"x = 2\n"}), Publish=True)
    return function


def executed(aws: Any, function: str, **options: Any) -> str:
    return str(aws.invoke(FunctionName=function, Payload=b"{}", **options)["ExecutedVersion"])


def test_the_life_of_an_alias(aws: Any, versions: str, platform: Platform) -> None:
    arn = f"arn:aws:lambda:eu-central-1:{platform.tenant}:function:{versions}:live"
    made = aws.create_alias(FunctionName=versions, Name="live", FunctionVersion="1", Description="d")
    assert (made["AliasArn"], made["FunctionVersion"], made["Description"]) == (arn, "1", "d")
    assert "RoutingConfig" not in made
    for name, options in ((versions, {"Qualifier": "live"}), (f"{versions}:live", {}), (arn, {})):
        assert executed(aws, name, **options) == "1"
    shown = aws.get_function_configuration(FunctionName=versions, Qualifier="live")
    assert (shown["FunctionArn"], shown["Version"]) == (arn, "1")
    assert aws.get_function(FunctionName=arn)["Configuration"]["Version"] == "1"
    changed = aws.update_alias(
        FunctionName=versions,
        Name="live",
        RoutingConfig={"AdditionalVersionWeights": {"2": 1.0}},
        RevisionId=made["RevisionId"],
    )
    assert changed["RoutingConfig"] == {"AdditionalVersionWeights": {"2": 1.0}}
    assert executed(aws, versions, Qualifier="live") == "2"
    stale = {"FunctionName": versions, "Name": "live", "FunctionVersion": "2", "RevisionId": made["RevisionId"]}
    assert refused(aws.update_alias, **stale)[:2] == ("PreconditionFailedException", 412)
    aws.update_alias(FunctionName=versions, Name="live", RoutingConfig={"AdditionalVersionWeights": {}})
    assert executed(aws, versions, Qualifier="live") == "1"
    aws.create_alias(FunctionName=versions, Name="next", FunctionVersion="2")
    pages = aws.get_paginator("list_aliases").paginate(FunctionName=versions, PaginationConfig={"PageSize": 1})
    assert [one["Name"] for page in pages for one in page["Aliases"]] == ["live", "next"]
    assert [one["Name"] for one in aws.list_aliases(FunctionName=versions, FunctionVersion="2")["Aliases"]] == ["next"]
    assert aws.get_alias(FunctionName=versions, Name="next")["FunctionVersion"] == "2"
    code, status, message = refused(aws.delete_function, FunctionName=versions, Qualifier="2")
    assert (code, status) == ("ResourceConflictException", 409)
    assert "next" in message
    for _ in range(2):
        aws.delete_alias(FunctionName=versions, Name="next")
    aws.delete_function(FunctionName=versions, Qualifier="2")
    assert refused(aws.get_alias, FunctionName=versions, Name="next")[0] == "ResourceNotFoundException"


def test_a_weight_shares_calls(aws: Any, versions: str) -> None:
    aws.create_alias(
        FunctionName=versions,
        Name="both",
        FunctionVersion="1",
        RoutingConfig={"AdditionalVersionWeights": {"2": 0.5}},
    )
    assert {executed(aws, versions, Qualifier="both") for _ in range(60)} == {"1", "2"}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"Name": "1"}, "InvalidParameterValueException"),
        ({"Name": "$LATEST"}, "InvalidParameterValueException"),
        ({"Name": "live"}, "ResourceConflictException"),
        ({"FunctionVersion": "9"}, "ResourceNotFoundException"),
        ({"FunctionVersion": "live"}, "InvalidParameterValueException"),
        ({"RoutingConfig": {"AdditionalVersionWeights": {"2": 1.1}}}, "InvalidParameterValueException"),
        ({"RoutingConfig": {"AdditionalVersionWeights": {"2": 0.1, "1": 0.1}}}, "InvalidParameterValueException"),
        ({"RoutingConfig": {"AdditionalVersionWeights": {"1": 0.1}}}, "InvalidParameterValueException"),
        ({"RoutingConfig": {"AdditionalVersionWeights": {"9": 0.1}}}, "ResourceNotFoundException"),
        ({"FunctionName": "no-such"}, "ResourceNotFoundException"),
    ],
)
def test_refusals(aws: Any, versions: str, changes: dict[str, Any], code: str) -> None:
    aws.create_alias(FunctionName=versions, Name="live", FunctionVersion="1")
    wanted = {"FunctionName": versions, "Name": "bad", "FunctionVersion": "1", **changes}
    assert refused(aws.create_alias, **wanted)[0] == code
    assert [one["Name"] for one in aws.list_aliases(FunctionName=versions)["Aliases"]] == ["live"]


def test_events_and_timers_go_by_the_alias(aws: Any, platform: Platform, versions: str) -> None:
    aws.create_alias(FunctionName=versions, Name="live", FunctionVersion="1")
    client = Client(platform.socket.parent)
    aws.invoke(FunctionName=versions, Qualifier="live", InvocationType="Event", Payload=b"{}")
    timer = f"/alcove/v1/timers/{versions}"
    client.call("PUT", timer, {"function": versions, "qualifier": "live", "schedule": "rate(1 minute)"})
    client.request("DELETE", timer)
    deadline = time.monotonic() + 30
    while True:
        lines = client.call("GET", f"/alcove/v1/functions/{versions}/logs?after=0&tail=10")["lines"]
        if lines:
            break
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert lines[0]["text"].endswith("Version: 1")


def test_another_tenant_sees_no_alias(aws: Any, platform: Platform, versions: str) -> None:
    aws.create_alias(FunctionName=versions, Name="live", FunctionVersion="1")
    other = platform.aws(platform.other_access_key, platform.other_secret)
    named = {"FunctionName": versions, "Name": "live"}
    for call in (other.get_alias, other.delete_alias, other.update_alias):
        assert refused(call, **named)[:2] == ("ResourceNotFoundException", 404)
    with pytest.raises(ClientError):
        other.invoke(FunctionName=f"{versions}:live")
    assert aws.get_alias(**named)["FunctionVersion"] == "1"


def test_the_baidu_client(cfc: Any, aws: Any, versions: str) -> None:
    made = cfc.create_alias(versions, function_version="1", name="live", description="d")
    assert (made.FunctionName, made.FunctionVersion, made.Name, made.Description) == (versions, "1", "live", "d")
    assert made.AliasBrn.startswith("brn:bce:cfc:")
    assert made.AliasBrn.endswith(f":function:{versions}:live")
    assert cfc.get_alias(versions, "live").FunctionVersion == "1"
    assert [one.Name for one in cfc.list_aliases(versions).Aliases] == ["live"]
    assert cfc.update_alias(versions, "live", function_version="2").FunctionVersion == "2"
    answer = cfc.invoke(versions, body={"a": 1}, qualifier="live", log_type="Tail")
    assert json.loads(answer.read()) == {"a": 1}
    assert "Version: 2" in base64.b64decode(answer.headers["x-bce-log-result"]).decode()
    # Its get_function_configuration drops the qualifier.
    for shown in (
        cfc.get_function(versions, qualifier="live").Configuration,
        cfc.get_function_configuration(f"{versions}:live"),
    ):
        assert (shown.Version, shown.FunctionBrn) == ("2", made.AliasBrn)
    cfc.delete_alias(versions, "live")
    for call in (cfc.get_alias, cfc.delete_alias):
        with pytest.raises(BceHttpClientError) as caught:
            call(versions, "live")
        assert (caught.value.last_error.code, caught.value.last_error.status_code) == ("ResourceNotFoundException", 404)
    with pytest.raises(BceHttpClientError) as caught:
        cfc.create_alias(versions, function_version="1", name="2")
    assert caught.value.last_error.code == "InvalidParameterValueException"
