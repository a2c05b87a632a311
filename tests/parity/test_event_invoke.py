"""Configurations of asynchronous invocation, by boto3."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from contextlib import closing
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.parity.conftest import HELLO, ROLE, Platform


def code_of(error: pytest.ExceptionInfo[ClientError]) -> str:
    return str(error.value.response["Error"]["Code"])


@pytest.fixture
def second(aws: Any, function: str) -> Any:
    """A function that others lead to; it prints its event."""
    name = f"{function}-second"
    made = aws.create_function(
        FunctionName=name, Runtime="python3.11", Role=ROLE, Handler="print", Code={"ZipFile": HELLO}
    )
    yield made
    aws.delete_function(FunctionName=name)


def test_a_configuration_lives(aws: Any, function: str, second: Any) -> None:
    arn = second["FunctionArn"]
    made = aws.put_function_event_invoke_config(
        FunctionName=function, MaximumRetryAttempts=0, DestinationConfig={"OnSuccess": {"Destination": arn}}
    )
    assert made["MaximumRetryAttempts"] == 0
    assert "MaximumEventAgeInSeconds" not in made
    assert made["FunctionArn"].endswith(f":function:{function}:$LATEST")
    assert made["LastModified"].timestamp() == pytest.approx(time.time(), abs=60)
    changed = aws.update_function_event_invoke_config(FunctionName=function, MaximumEventAgeInSeconds=60)
    assert changed["MaximumRetryAttempts"] == 0
    assert changed["MaximumEventAgeInSeconds"] == 60
    got = aws.get_function_event_invoke_config(FunctionName=function)
    assert got["DestinationConfig"] == {"OnSuccess": {"Destination": arn}, "OnFailure": {}}
    listed = aws.list_function_event_invoke_configs(FunctionName=function)
    assert [one["FunctionArn"] for one in listed["FunctionEventInvokeConfigs"]] == [made["FunctionArn"]]
    replaced = aws.put_function_event_invoke_config(FunctionName=function, MaximumRetryAttempts=1)
    assert replaced["DestinationConfig"] == {"OnSuccess": {}, "OnFailure": {}}
    aws.delete_function_event_invoke_config(FunctionName=function)
    with pytest.raises(aws.exceptions.ResourceNotFoundException):
        aws.get_function_event_invoke_config(FunctionName=function)
    with pytest.raises(aws.exceptions.ResourceNotFoundException):
        aws.update_function_event_invoke_config(FunctionName=function, MaximumRetryAttempts=1)
    with pytest.raises(aws.exceptions.ResourceNotFoundException):
        aws.delete_function_event_invoke_config(FunctionName=function)


def test_pages(aws: Any, function: str) -> None:
    aws.publish_version(FunctionName=function)
    for qualifier in ("$LATEST", "1"):
        aws.put_function_event_invoke_config(FunctionName=function, Qualifier=qualifier, MaximumRetryAttempts=1)
    pages = aws.get_paginator("list_function_event_invoke_configs").paginate(
        FunctionName=function, PaginationConfig={"PageSize": 1}
    )
    found = [one["FunctionArn"].rpartition(":")[2] for page in pages for one in page["FunctionEventInvokeConfigs"]]
    assert found == ["$LATEST", "1"]


@pytest.mark.parametrize(
    "bad",
    [
        {"MaximumRetryAttempts": 3},
        {"MaximumEventAgeInSeconds": 59},
        {"MaximumEventAgeInSeconds": 21_601},
        {"DestinationConfig": {"OnFailure": {"Destination": "arn:aws:sns:eu-central-1:000000000000:topic"}}},
    ],
)
def test_what_makes_no_sense_is_refused(aws: Any, function: str, bad: dict[str, Any]) -> None:
    # boto3 checks ranges itself.
    client = aws
    with pytest.raises(Exception) as error:
        client.put_function_event_invoke_config(FunctionName=function, **bad)
    assert "InvalidParameterValueException" in str(error.value) or "Parameter validation" in str(error.value)


def test_others_functions_are_no_destination(aws: Any, platform: Platform, function: str) -> None:
    other = platform.aws(platform.other_access_key, platform.other_secret)
    arn = aws.get_function(FunctionName=function)["Configuration"]["FunctionArn"]
    other.create_function(FunctionName="mine", Runtime="python3.11", Role=ROLE, Handler="echo", Code={"ZipFile": HELLO})
    with pytest.raises(ClientError) as error:
        other.put_function_event_invoke_config(
            FunctionName="mine", DestinationConfig={"OnFailure": {"Destination": arn}}
        )
    assert code_of(error) == "ResourceNotFoundException"
    other.delete_function(FunctionName="mine")


def test_an_outcome_reaches_the_next_function(aws: Any, platform: Platform, function: str, second: Any) -> None:
    aws.put_function_event_invoke_config(
        FunctionName=function, DestinationConfig={"OnSuccess": {"Destination": second["FunctionArn"]}}
    )
    aws.invoke(FunctionName=function, InvocationType="Event", Payload=json.dumps({"n": 7}))
    from alcove.cli.client import Client

    client = Client(platform.socket.parent)
    path = f"/alcove/v1/functions/{second['FunctionName']}/logs?after=0&tail=50"
    deadline = time.monotonic() + 30
    while not (lines := client.call("GET", path)["lines"]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert any("'requestPayload': {'n': 7}" in line["text"] for line in lines)


def test_an_alias_takes_its_configuration_with_it(aws: Any, function: str) -> None:
    aws.publish_version(FunctionName=function)
    for _ in range(2):
        aws.create_alias(FunctionName=function, Name="live", FunctionVersion="1")
        with pytest.raises(aws.exceptions.ResourceNotFoundException):
            aws.get_function_event_invoke_config(FunctionName=function, Qualifier="live")
        aws.put_function_event_invoke_config(FunctionName=function, Qualifier="live", MaximumRetryAttempts=1)
        aws.update_alias(FunctionName=function, Name="live", Description="changed")
        found = aws.get_function_event_invoke_config(FunctionName=function, Qualifier="live")
        assert found["FunctionArn"].endswith(":live")
        aws.delete_alias(FunctionName=function, Name="live")


def test_a_change_of_the_configuration_holds_for_the_next_event(aws: Any, platform: Platform, function: str) -> None:
    """What delivery knows of it in memory is not what was."""
    s3 = platform.s3()
    s3.create_bucket(Bucket="outcomes-after-changes")

    def outcomes(qualifier: str, wanted: int) -> None:
        aws.invoke(FunctionName=function, InvocationType="Event", Payload=b"1", Qualifier=qualifier)
        deadline = time.monotonic() + 30
        while waiting():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert len(s3.list_objects_v2(Bucket="outcomes-after-changes").get("Contents", [])) == wanted

    def waiting() -> int:
        """Return how many events there are of the function and of its outcomes."""
        with closing(sqlite3.connect(platform.socket.parent.parent / "events.db")) as connection:
            count = "SELECT COUNT(*) FROM events WHERE function IN (?, ?)"
            return int(connection.execute(count, (function, bucket)).fetchone()[0])

    bucket = "arn:aws:s3:::outcomes-after-changes"
    target = {"OnSuccess": {"Destination": bucket}}
    aws.publish_version(FunctionName=function)
    aws.create_alias(FunctionName=function, Name="live", FunctionVersion="1")
    outcomes("live", 0)
    aws.put_function_event_invoke_config(FunctionName=function, Qualifier="live", DestinationConfig=target)
    outcomes("live", 1)
    aws.delete_function_event_invoke_config(FunctionName=function, Qualifier="live")
    outcomes("live", 1)
    aws.put_function_event_invoke_config(FunctionName=function, Qualifier="live", DestinationConfig=target)
    outcomes("live", 2)
    aws.delete_alias(FunctionName=function, Name="live")
    aws.create_alias(FunctionName=function, Name="live", FunctionVersion="1")
    outcomes("live", 2)


def test_an_outcome_is_an_object_in_a_bucket(aws: Any, platform: Platform, function: str) -> None:
    s3 = platform.s3()
    s3.create_bucket(Bucket="outcomes-of-calls")
    target = {"OnSuccess": {"Destination": "arn:aws:s3:::outcomes-of-calls"}}
    aws.put_function_event_invoke_config(FunctionName=function, DestinationConfig=target)
    sent = aws.invoke(FunctionName=function, InvocationType="Event", Payload=b'{"n": 8}')
    deadline = time.monotonic() + 30
    while not (found := s3.list_objects_v2(Bucket="outcomes-of-calls").get("Contents")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (key,) = [one["Key"] for one in found]
    day = r"\d{4}/\d\d/\d\d/\d{4}-\d\d-\d\dT\d\d\.\d\d\.\d\d"
    assert re.fullmatch(rf"aws/lambda/async/{function}/{day}-[0-9a-f-]{{36}}", key)
    document = json.loads(s3.get_object(Bucket="outcomes-of-calls", Key=key)["Body"].read())
    assert document["requestContext"]["requestId"] == sent["ResponseMetadata"]["RequestId"]
    assert document["responsePayload"] == {"n": 8}
    other = platform.aws(platform.other_access_key, platform.other_secret)
    other.create_function(
        FunctionName="theirs", Runtime="python3.11", Role=ROLE, Handler="echo", Code={"ZipFile": HELLO}
    )
    with pytest.raises(ClientError) as error:
        other.put_function_event_invoke_config(FunctionName="theirs", DestinationConfig=target)
    assert code_of(error) == "ResourceNotFoundException"
    other.delete_function(FunctionName="theirs")
    s3.delete_object(Bucket="outcomes-of-calls", Key=key)
    s3.delete_bucket(Bucket="outcomes-of-calls")
