"""Changes of buckets, and what stores elsewhere tell, call functions; the commands that go with them."""

from __future__ import annotations

import ast
import hashlib
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
from tests.parity.test_s3_forms import send, signed

from alcove.cli.app import root
from alcove.cli.client import Client

LET_S3_IN = {"Principal": "s3.amazonaws.com", "Action": "lambda:InvokeFunction", "SourceArn": "arn:aws:s3:::*"}
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
    aws.add_permission(FunctionName=name, StatementId="any-bucket", **LET_S3_IN)
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


def test_a_form_that_uploads_is_told_as_one(s3: Any, bucket: str, printer: tuple[str, str, Printed]) -> None:
    _, arn, printed = printer
    rule = {"LambdaFunctionArn": arn, "Events": ["s3:ObjectCreated:Post"]}
    put = {"Bucket": bucket, "NotificationConfiguration": {"LambdaFunctionConfigurations": [rule]}}
    s3.put_bucket_notification_configuration(**put)
    s3.put_object(Bucket=bucket, Key="put", Body=b"")
    assert send(signed(s3, bucket, "posted"), b"123").status_code == 204
    (record,) = printed(1)[0]["Records"]
    assert (record["eventName"], record["s3"]["object"]["key"]) == ("ObjectCreated:Post", "posted")


def test_a_bucket_calls_only_what_lets_it_in(
    s3: Any, aws: Any, bucket: str, printer: tuple[str, str, Printed], platform: Platform
) -> None:
    name, arn, printed = printer
    one = {"LambdaFunctionArn": arn, "Events": ["s3:ObjectCreated:*"]}
    put = {"Bucket": bucket, "NotificationConfiguration": {"LambdaFunctionConfigurations": [one]}}
    aws.remove_permission(FunctionName=name, StatementId="any-bucket")
    for number, conditions in enumerate(
        (
            {"Principal": "s3.amazonaws.com", "SourceArn": f"arn:aws:s3:::{bucket}-2"},
            {"Principal": "s3.amazonaws.com", "SourceAccount": "111111111111"},
            {"Principal": "events.amazonaws.com"},
        )
    ):
        wanted = {"FunctionName": name, "StatementId": f"s{number}", "Action": "lambda:InvokeFunction"}
        aws.add_permission(**wanted, **conditions)
    with pytest.raises(ClientError) as caught:
        s3.put_bucket_notification_configuration(**put)
    assert caught.value.response["Error"]["Code"] == "InvalidArgument"
    assert "Unable to validate the following destination configurations" in str(caught.value)
    # Who does not have it checked is not let in either.
    s3.put_bucket_notification_configuration(**put, SkipDestinationValidation=True)
    s3.put_object(Bucket=bucket, Key="unheard", Body=b"")
    other = f"{bucket}-2"
    s3.create_bucket(Bucket=other, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    s3.put_bucket_notification_configuration(**{**put, "Bucket": other})
    s3.put_object(Bucket=other, Key="heard", Body=b"")
    assert [event["Records"][0]["s3"]["object"]["key"] for event in printed(1)] == ["heard"]
    mine = {"SourceArn": f"arn:aws:s3:::{bucket}", "SourceAccount": platform.tenant}
    aws.add_permission(FunctionName=name, StatementId="mine", **{**LET_S3_IN, **mine})
    s3.put_bucket_notification_configuration(**put)
    s3.put_object(Bucket=bucket, Key="heard too", Body=b"")
    assert [event["Records"][0]["s3"]["object"]["key"] for event in printed(2)] == ["heard", "heard+too"]
    s3.delete_object(Bucket=other, Key="heard")
    s3.delete_bucket(Bucket=other)


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
    s3: Any, aws: Any, bucket: str, printer: tuple[str, str, Printed], platform: Platform
) -> None:
    name, arn, printed = printer
    aws.remove_permission(FunctionName=name, StatementId="any-bucket")
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
    assert f"s3-{bucket}" in aws.get_policy(FunctionName=name)["Policy"]
    notify(name, "--remove")
    assert arn not in notify()
    with pytest.raises(aws.exceptions.ResourceNotFoundException):
        aws.get_policy(FunctionName=name)


def test_a_bos_relation_calls_in_its_own_words(
    s3: Any, aws: Any, bucket: str, printer: tuple[str, str, Printed], cfc: Any, platform: Platform
) -> None:
    name, _, printed = printer
    brn = f"brn:bce:cfc:bj:{platform.tenant}:function:{name}:$LATEST"
    # The relation is the permission: no statement says that a bucket may call.
    aws.remove_permission(FunctionName=name, StatementId="any-bucket")
    kinds = ["PutObject", "CopyObject", "DeleteMultipleObjects", "DeleteObject"]
    data = {"EventType": kinds, "Resource": f"{bucket}/in/*.jpg", "Name": "n", "Status": "enabled"}
    made = cfc.create_trigger(brn, f"bos/{bucket}", data).Relation
    for key in ("in/a b.jpg", "in/a.txt", "a.jpg"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"123", ContentType="image/jpeg")
    s3.copy_object(Bucket=bucket, Key="in/b.jpg", CopySource={"Bucket": bucket, "Key": "in/a b.jpg"})
    s3.delete_object(Bucket=bucket, Key="in/a b.jpg")
    events = sorted((event["events"][0] for event in printed(3)), key=lambda one: str(one["eventType"]), reverse=True)
    assert [(one["eventType"], one["content"]["object"]) for one in events] == [
        ("PutObject", "in/a b.jpg"),
        ("DeleteObject", "in/a b.jpg"),
        ("CopyObject", "in/b.jpg"),
    ]
    put, gone, copied = events
    assert put.keys() == {
        *("version", "eventFrom", "eventId", "eventOrigin", "eventTime", "eventType", "configurationId", "content")
    }
    assert (put["version"], put["eventOrigin"], put["configurationId"]) == ("1.0", "bos:realtime", made.RelationId)
    assert uuid.UUID(put["eventId"])
    assert {name: value for name, value in put["content"].items() if name != "lastModified"} == {
        "userId": platform.tenant,
        "domain": "s3.localhost",
        "bucket": bucket,
        "object": "in/a b.jpg",
        "eTag": hashlib.md5(b"123").hexdigest(),
        "contentType": "image/jpeg",
        "filesize": 3,
    }
    assert "eTag" not in gone["content"]
    assert (copied["content"]["copySourceBucket"], copied["content"]["copySourceObject"]) == (bucket, "in/a b.jpg")
    cfc.delete_trigger(brn, f"bos/{bucket}", made.RelationId)
    aws.add_permission(FunctionName=name, StatementId="any-bucket", **LET_S3_IN)
    s3.put_object(Bucket=bucket, Key="in/c.jpg", Body=b"")
    s3.put_bucket_notification_configuration(
        Bucket=bucket,
        NotificationConfiguration={
            "LambdaFunctionConfigurations": [{"LambdaFunctionArn": printer[1], "Events": ["s3:ObjectCreated:*"]}]
        },
    )
    s3.put_object(Bucket=bucket, Key="in/d.jpg", Body=b"")
    assert [event.get("Records", [{}])[0].get("eventName") for event in printed(4)].count("ObjectCreated:Put") == 1
    assert len(printed(4)) == 4


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
