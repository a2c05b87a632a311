"""A function's own key: good for calling functions of its tenant, for buckets and for messages in queues, for nothing
else, while it exists.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.parity.conftest import Platform
from tests.parity.test_sqs import client_of as queues_of

from alcove.functions.keys import FunctionKeys
from alcove.store.database import Database


@pytest.fixture
def key(platform: Platform, function: str, aws: Any) -> tuple[str, str]:
    """What the function finds in its environment: the derivation is looked at from outside, in the server's store."""

    async def derive() -> tuple[str, str]:
        database = await Database.open(platform.socket.parent.parent / "alcove.db")
        keys = await FunctionKeys.open(database, "eu-central-1")
        row = await database.read(
            lambda connection: connection.execute("SELECT id FROM functions WHERE name = ?", (function,)).fetchone()
        )
        environment = keys.environment(row[0])
        await database.close()
        return environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"]

    return asyncio.run(derive())


def code(caught: pytest.ExceptionInfo[ClientError]) -> str:
    return str(caught.value.response["Error"]["Code"])


def test_it_calls_functions_and_uses_buckets_of_its_tenant(
    platform: Platform, function: str, key: tuple[str, str]
) -> None:
    answer = platform.aws(*key).invoke(FunctionName=function, Payload=b"{}")
    assert answer["StatusCode"] == 200
    s3 = platform.s3(*key)
    s3.create_bucket(Bucket="by-function", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    s3.put_object(Bucket="by-function", Key="k", Body=b"x")
    assert platform.s3().get_object(Bucket="by-function", Key="k")["Body"].read() == b"x"
    others = platform.s3(platform.other_access_key, platform.other_secret)
    assert "by-function" not in [one["Name"] for one in others.list_buckets()["Buckets"]]
    s3.delete_object(Bucket="by-function", Key="k")
    s3.delete_bucket(Bucket="by-function")


def test_it_sends_to_and_receives_from_queues_of_its_tenant(platform: Platform, key: tuple[str, str]) -> None:
    tenant, own = queues_of(platform), queues_of(platform, *key)
    made = tenant.create_queue(QueueName="by-function")["QueueUrl"]
    url = own.get_queue_url(QueueName="by-function")["QueueUrl"]
    # Where some SDKs send, whatever their endpoint is: reached from inside.
    assert url == f"http://169.254.100.1:9600/{platform.tenant}/by-function"
    assert url in own.list_queues()["QueueUrls"]
    own.send_message(QueueUrl=url, MessageBody="from inside")
    own.send_message_batch(QueueUrl=url, Entries=[{"Id": "1", "MessageBody": "another"}])
    found = tenant.receive_message(QueueUrl=made, MaxNumberOfMessages=10)["Messages"]
    assert sorted(one["Body"] for one in found) == ["another", "from inside"]
    tenant.send_message(QueueUrl=made, MessageBody="from outside")
    (got,) = own.receive_message(QueueUrl=url)["Messages"]
    own.change_message_visibility(QueueUrl=url, ReceiptHandle=got["ReceiptHandle"], VisibilityTimeout=60)
    own.delete_message(QueueUrl=url, ReceiptHandle=got["ReceiptHandle"])
    assert own.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]["QueueArn"]
    for attempt in (
        lambda: own.create_queue(QueueName="made-by-function"),
        lambda: own.delete_queue(QueueUrl=url),
        lambda: own.purge_queue(QueueUrl=url),
        lambda: own.set_queue_attributes(QueueUrl=url, Attributes={"DelaySeconds": "1"}),
        lambda: own.tag_queue(QueueUrl=url, Tags={"a": "b"}),
    ):
        with pytest.raises(ClientError) as caught:
            attempt()
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    others = queues_of(platform, platform.other_access_key, platform.other_secret)
    theirs = others.create_queue(QueueName="theirs")["QueueUrl"]
    with pytest.raises(ClientError) as caught:
        own.send_message(QueueUrl=theirs, MessageBody="x")
    assert code(caught) == "AWS.SimpleQueueService.NonExistentQueue"
    others.delete_queue(QueueUrl=theirs)
    tenant.delete_queue(QueueUrl=made)


def test_it_is_good_for_nothing_else(platform: Platform, function: str, key: tuple[str, str]) -> None:
    client = platform.aws(*key)
    for attempt in (
        client.list_functions,
        lambda: client.get_function(FunctionName=function),
        lambda: client.delete_function(FunctionName=function),
        lambda: client.update_function_configuration(FunctionName=function, Timeout=5),
    ):
        with pytest.raises(ClientError) as caught:
            attempt()
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def test_a_secret_belongs_to_one_key_and_goes_with_its_function(
    platform: Platform, function: str, key: tuple[str, str], aws: Any
) -> None:
    access_key, secret = key
    changed = access_key[:-1] + ("0" if access_key[-1] != "0" else "1")
    for wrong in ((access_key, secret[:-1] + "!"), (changed, secret), (access_key.lower(), secret)):
        with pytest.raises(ClientError) as caught:
            platform.s3(*wrong).list_buckets()
        assert code(caught) in ("SignatureDoesNotMatch", "InvalidAccessKeyId")
    aws.delete_function(FunctionName=function)
    with pytest.raises(ClientError) as caught:
        platform.s3(*key).list_buckets()
    assert code(caught) == "InvalidAccessKeyId"
    with pytest.raises(ClientError) as caught:
        platform.aws(*key).invoke(FunctionName=function)
    assert code(caught) == "UnrecognizedClientException"
