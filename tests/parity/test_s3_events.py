"""Changes of buckets, and what stores elsewhere tell, call functions; the commands that go with them."""

from __future__ import annotations

import ast
import json
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from click.testing import CliRunner
from tests.parity.conftest import HELLO, ROLE, Platform

from alcove.cli.app import root
from alcove.cli.client import Client

Printed = Callable[[int], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def s3(platform: Platform) -> Any:
    return platform.s3()


@pytest.fixture
def printer(aws: Any, platform: Platform) -> Iterator[tuple[str, str, Printed]]:
    """A function that prints its events: its name, its ARN, and what waits for so many of them."""
    name = f"p{uuid.uuid4().hex[:10]}"
    code = {"ZipFile": HELLO}
    made = aws.create_function(FunctionName=name, Runtime="python3.11", Role=ROLE, Handler="print", Code=code)
    client = Client(platform.socket.parent)

    def printed(wanted: int) -> list[dict[str, Any]]:
        deadline = time.monotonic() + 20
        while True:
            lines = client.call("GET", f"/alcove/v1/functions/{name}/logs?after=0&tail=1000")["lines"]
            events = [ast.literal_eval(one["text"]) for one in lines if one["text"].startswith("{")]
            if len(events) >= wanted or time.monotonic() > deadline:
                return events
            time.sleep(0.05)

    yield name, made["FunctionArn"], printed
    aws.delete_function(FunctionName=name)


@pytest.fixture
def bucket(s3: Any) -> Iterator[str]:
    name = f"e-{uuid.uuid4().hex[:12]}"
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    yield name
    s3.put_bucket_notification_configuration(Bucket=name, NotificationConfiguration={})
    for one in s3.list_objects_v2(Bucket=name).get("Contents", []):
        s3.delete_object(Bucket=name, Key=one["Key"])
    s3.delete_bucket(Bucket=name)


def test_a_change_calls_the_function_that_is_set(
    s3: Any, bucket: str, printer: tuple[str, str, Printed], platform: Platform
) -> None:
    _, arn, printed = printer
    rules = [{"Name": "prefix", "Value": "in/"}, {"Name": "suffix", "Value": ".jpg"}]
    configuration = {
        "LambdaFunctionConfigurations": [
            {
                "Id": "images",
                "LambdaFunctionArn": arn,
                "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:Delete"],
                "Filter": {"Key": {"FilterRules": rules}},
            }
        ]
    }
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=configuration)
    found = s3.get_bucket_notification_configuration(Bucket=bucket)["LambdaFunctionConfigurations"]
    assert {(one["Name"].lower(), one["Value"]) for one in found[0]["Filter"]["Key"]["FilterRules"]} == {
        ("prefix", "in/"),
        ("suffix", ".jpg"),
    }
    assert (found[0]["Id"], found[0]["LambdaFunctionArn"]) == ("images", arn)
    for key in ("in/a b.jpg", "in/a.txt", "out/a.jpg"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"12345")
    s3.delete_object(Bucket=bucket, Key="in/a b.jpg")
    records = [event["Records"][0] for event in printed(2)]
    assert sorted(one["eventName"] for one in records) == ["ObjectCreated:Put", "ObjectRemoved:Delete"]
    made = next(one for one in records if one["eventName"] == "ObjectCreated:Put")
    assert (made["eventVersion"], made["eventSource"], made["awsRegion"]) == ("2.1", "aws:s3", "eu-central-1")
    assert made["userIdentity"]["principalId"] == platform.access_key
    assert made["s3"]["configurationId"] == "images"
    assert made["s3"]["bucket"]["arn"] == f"arn:aws:s3:::{bucket}"
    assert (made["s3"]["object"]["key"], made["s3"]["object"]["size"]) == ("in/a+b.jpg", 5)


@pytest.mark.parametrize(
    ("kind", "arn_suffix", "event"),
    [("Lambda", "none", "s3:ObjectCreated:*"), ("Lambda", "", "s3:Replication:*"), ("Queue", "", "s3:ObjectCreated:*")],
)
def test_what_cannot_be_told_is_refused(
    s3: Any, bucket: str, printer: tuple[str, str, Printed], kind: str, arn_suffix: str, event: str
) -> None:
    name = "LambdaFunction" if kind == "Lambda" else kind
    one = {f"{name}Arn": printer[1] + arn_suffix, "Events": [event]}
    with pytest.raises(ClientError) as caught:
        s3.put_bucket_notification_configuration(
            Bucket=bucket, NotificationConfiguration={f"{name}Configurations": [one]}
        )
    assert caught.value.response["Error"]["Code"] == "InvalidArgument"
    assert "LambdaFunctionConfigurations" not in s3.get_bucket_notification_configuration(Bucket=bucket)


def test_a_command_sets_which_function_is_called(
    s3: Any, bucket: str, printer: tuple[str, str, Printed], platform: Platform
) -> None:
    name, arn, printed = printer
    runner, run = CliRunner(), ["--run", str(platform.socket.parent)]

    def notify(*argv: str) -> str:
        result = runner.invoke(root, ["bucket", "notify", bucket, *argv, *run], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    for suffix in (".other", ".txt"):
        notify(name, "--suffix", suffix, "--prefix", "in/")
    assert notify().count(arn) == 1
    s3.put_object(Bucket=bucket, Key="in/a.txt", Body=b"")
    s3.put_object(Bucket=bucket, Key="in/a.other", Body=b"")
    assert [event["Records"][0]["s3"]["object"]["key"] for event in printed(1)] == ["in/a.txt"]
    notify(name, "--remove")
    assert arn not in notify()


def test_a_bos_relation_calls_in_its_own_words(
    s3: Any, bucket: str, printer: tuple[str, str, Printed], cfc: Any, platform: Platform
) -> None:
    name, _, printed = printer
    brn = f"brn:bce:cfc:bj:{platform.tenant}:function:{name}:$LATEST"
    data = {"EventType": ["PutObject", "DeleteObject"], "Resource": "/in/*.jpg", "Name": "n", "Status": "enabled"}
    made = cfc.create_trigger(brn, f"bos/{bucket}", data).Relation
    for key in ("in/a.jpg", "in/a.txt", "a.jpg"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"123")
    s3.copy_object(Bucket=bucket, Key="in/b.jpg", CopySource={"Bucket": bucket, "Key": "in/a.jpg"})
    s3.delete_object(Bucket=bucket, Key="in/a.jpg")
    events = sorted((event["events"][0] for event in printed(2)), key=lambda one: str(one["eventId"]))
    assert [(one["eventType"], one["content"]["object"]) for one in events] == [
        ("PutObject", "in/a.jpg"),
        ("DeleteObject", "in/a.jpg"),
    ]
    assert (events[0]["content"]["bucket"], events[0]["content"]["filesize"]) == (bucket, 3)
    cfc.delete_trigger(brn, f"bos/{bucket}", made.RelationId)
    s3.put_object(Bucket=bucket, Key="in/c.jpg", Body=b"")
    s3.put_bucket_notification_configuration(
        Bucket=bucket,
        NotificationConfiguration={
            "LambdaFunctionConfigurations": [{"LambdaFunctionArn": printer[1], "Events": ["s3:ObjectCreated:*"]}]
        },
    )
    s3.put_object(Bucket=bucket, Key="in/d.jpg", Body=b"")
    assert [event.get("Records", [{}])[0].get("eventName") for event in printed(3)].count("ObjectCreated:Put") == 1
    assert len(printed(3)) == 3


def record(key: str, **subject: str) -> dict[str, Any]:
    return {"eventName": "s3:ObjectCreated:Put", "s3": {"bucket": {"name": "b"}, "object": {"key": key, **subject}}}


def post(url: str, token: str, body: bytes) -> int:
    request = urllib.request.Request(url, body, {"Authorization": f"Bearer {token}"}, method="POST")
    try:
        with urllib.request.urlopen(request) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_a_store_elsewhere_calls_through_a_hook(platform: Platform, printer: tuple[str, str, Printed]) -> None:
    name, _, printed = printer
    run = str(platform.socket.parent)
    runner = CliRunner()
    added = runner.invoke(root, ["bucket", "hook", "add", "outside", name, "--run", run, "--json"])
    assert added.exit_code == 0, added.output
    made = json.loads(added.output)
    body = json.dumps({"EventName": "s3:ObjectCreated:Put", "Records": [record("k", sequencer="17")]}).encode()
    for _ in range(2):
        assert post(made["url"], made["token"], body) == 202
    assert post(made["url"], made["token"], json.dumps({"Records": [record("other")]}).encode()) == 202
    assert [event["Records"][0]["s3"]["object"]["key"] for event in printed(2)] == ["k", "other"]
    assert post(made["url"], "wrong", body) == 403
    assert post(made["url"], "", body) == 403
    assert post(f"{made['url']}0", made["token"], body) == 403
    for bad in (b"", b"[]", b'{"Records": []}', b'{"Records": [{}]}', b"[" * 100_000):
        assert post(made["url"], made["token"], bad) == 400
    listed = runner.invoke(root, ["bucket", "hook", "list", "--run", run, "--json"])
    assert [one["name"] for one in json.loads(listed.output)] == ["outside"]
    assert "token" not in json.loads(listed.output)[0]
    assert runner.invoke(root, ["bucket", "hook", "remove", "outside", "--run", run]).exit_code == 0
    assert post(made["url"], made["token"], body) == 403


def test_the_commands_of_buckets(platform: Platform, s3: Any, tmp_path: Path) -> None:
    run = ["--run", str(platform.socket.parent)]
    runner = CliRunner()

    def alcove(*argv: str) -> str:
        result = runner.invoke(root, ["bucket", *argv, *run], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    alcove("create", "by-command")
    source = tmp_path / "ein bild.png"
    source.write_bytes(b"picture" * 1000)
    alcove("put", str(source), "by-command/sub/")
    assert s3.get_object(Bucket="by-command", Key="sub/ein bild.png")["ContentType"] == "image/png"
    assert [one["key"] for one in json.loads(alcove("ls", "by-command/sub", "--json"))] == ["sub/ein bild.png"]
    target = tmp_path / "target"
    alcove("get", "by-command/sub/ein bild.png", str(target))
    assert target.read_bytes() == source.read_bytes()
    assert "by-command" in [one["name"] for one in json.loads(alcove("list", "--json"))]
    alcove("rm", "by-command/sub/ein bild.png")
    alcove("delete", "by-command")
    environment = Client(platform.socket.parent).call("GET", "/alcove/v1/env")
    assert environment["AWS_ENDPOINT_URL_S3"] == platform.s3_endpoint()
