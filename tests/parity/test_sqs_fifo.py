"""FIFO queues by boto3's ``sqs``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.parity.conftest import Platform
from tests.parity.test_sqs import client_of

from alcove.queues import pace, room


@pytest.fixture(scope="module")
def sqs(platform: Platform) -> Any:
    return client_of(platform)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return f"f{abs(hash(request.node.nodeid)) % 10**12}.fifo"


@pytest.fixture
def url(sqs: Any, name: str) -> Iterator[str]:
    made = sqs.create_queue(QueueName=name, Attributes={"FifoQueue": "true"})["QueueUrl"]
    yield made
    sqs.delete_queue(QueueUrl=made)


def receive(sqs: Any, url: str, **options: Any) -> list[Any]:
    found = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, MessageSystemAttributeNames=["All"], **options)
    return list(found.get("Messages", []))


def test_attributes(sqs: Any, url: str, name: str) -> None:
    assert url.endswith(f"/{name}")
    assert sqs.create_queue(QueueName=name, Attributes={"FifoQueue": "true"})["QueueUrl"] == url
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    of_fifo = ("FifoQueue", "ContentBasedDeduplication", "DeduplicationScope", "FifoThroughputLimit")
    assert [found[one] for one in of_fifo] == ["true", "false", "queue", "perQueue"]
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"ContentBasedDeduplication": "true"})
    only = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["ContentBasedDeduplication"])["Attributes"]
    assert only == {"ContentBasedDeduplication": "true"}


def test_order_and_deduplication(sqs: Any, url: str) -> None:
    sent = [
        sqs.send_message(QueueUrl=url, MessageBody=body, MessageGroupId=group, MessageDeduplicationId=body)
        for body, group in (("1", "a"), ("2", "a"), ("3", "b"), ("1", "a"))
    ]
    numbers = [one["SequenceNumber"] for one in sent]
    assert all(len(number) == 20 and number.isdigit() for number in numbers)
    assert numbers[0] < numbers[1] < numbers[2]
    assert (sent[3]["MessageId"], sent[3]["SequenceNumber"]) == (sent[0]["MessageId"], sent[0]["SequenceNumber"])
    first = receive(sqs, url, ReceiveRequestAttemptId="first")
    assert [one["Body"] for one in first] == ["1", "2", "3"]
    # An answer that was lost is asked for again.
    again = receive(sqs, url, ReceiveRequestAttemptId="first")
    assert [one["ReceiptHandle"] for one in again] == [one["ReceiptHandle"] for one in first]
    with pytest.raises(ClientError, match="ReceiveRequestAttemptId"):
        receive(sqs, url, ReceiveRequestAttemptId="no space")
    assert [one["Attributes"]["SequenceNumber"] for one in first] == numbers[:3]
    assert first[0]["Attributes"]["MessageGroupId"] == "a"
    assert first[0]["Attributes"]["MessageDeduplicationId"] == "1"
    sqs.send_message(QueueUrl=url, MessageBody="4", MessageGroupId="a", MessageDeduplicationId="4")
    assert receive(sqs, url) == []
    entries = [{"Id": one["MessageId"], "ReceiptHandle": one["ReceiptHandle"]} for one in first]
    assert len(sqs.delete_message_batch(QueueUrl=url, Entries=entries)["Successful"]) == 3
    assert [one["Body"] for one in receive(sqs, url)] == ["4"]


def test_content_names_itself(sqs: Any, name: str) -> None:
    attributes = {"FifoQueue": "true", "ContentBasedDeduplication": "true"}
    url = sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
    entries = [{"Id": str(number), "MessageBody": body, "MessageGroupId": "g"} for number, body in enumerate("xyx")]
    done = sqs.send_message_batch(QueueUrl=url, Entries=entries)["Successful"]
    assert done[0]["MessageId"] == done[2]["MessageId"]
    found = receive(sqs, url)
    assert [one["Body"] for one in found] == ["x", "y"]
    assert found[0]["Attributes"]["MessageDeduplicationId"] == hashlib.sha256(b"x").hexdigest()
    sqs.delete_queue(QueueUrl=url)


def test_an_entry_without_a_group_fails_alone(sqs: Any, url: str) -> None:
    entries = [
        {"Id": "good", "MessageBody": "x", "MessageGroupId": "g", "MessageDeduplicationId": "d"},
        {"Id": "bad", "MessageBody": "y", "MessageDeduplicationId": "e"},
    ]
    answer = sqs.send_message_batch(QueueUrl=url, Entries=entries)
    assert [one["Id"] for one in answer["Successful"]] == ["good"]
    assert [(one["Id"], one["Code"]) for one in answer["Failed"]] == [("bad", "MissingParameter")]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({}, "MissingParameter"),
        ({"MessageGroupId": "g"}, "InvalidParameterValue"),
        ({"MessageGroupId": "g g", "MessageDeduplicationId": "d"}, "InvalidParameterValue"),
        ({"MessageGroupId": "g" * 129, "MessageDeduplicationId": "d"}, "InvalidParameterValue"),
        ({"MessageGroupId": "g", "MessageDeduplicationId": "ü"}, "InvalidParameterValue"),
        ({"MessageGroupId": "g", "MessageDeduplicationId": "d", "DelaySeconds": 1}, "InvalidParameterValue"),
    ],
)
def test_refused_messages(sqs: Any, url: str, arguments: dict[str, Any], code: str) -> None:
    with pytest.raises(ClientError) as error:
        sqs.send_message(QueueUrl=url, MessageBody="x", **arguments)
    assert error.value.response["Error"]["Code"] == code
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


@pytest.mark.parametrize(
    ("queue", "attributes", "code"),
    [
        ("none.fifo", {}, "InvalidParameterValue"),
        ("none", {"FifoQueue": "true"}, "InvalidParameterValue"),
        ("none.fifo", {"FifoQueue": "no"}, "InvalidAttributeValue"),
        ("none", {"ContentBasedDeduplication": "true"}, "InvalidAttributeName"),
    ],
)
def test_refused_queues(sqs: Any, queue: str, attributes: dict[str, str], code: str) -> None:
    with pytest.raises(ClientError) as error:
        sqs.create_queue(QueueName=queue, Attributes=attributes)
    assert error.value.response["Error"]["Code"] == code


def test_what_is_too_much_is_refused_as_such(sqs: Any, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    message = {"QueueUrl": url, "MessageBody": "x", "MessageGroupId": "g", "MessageDeduplicationId": "d"}
    for place, limit, code in ((room, "MESSAGES_LIMIT", "OverLimit"), (pace, "MESSAGES_A_SECOND", "RequestThrottled")):
        with monkeypatch.context() as patch:
            patch.setattr(place, limit, 0)
            with pytest.raises(ClientError) as error:
                sqs.send_message(**message)
        assert error.value.response["Error"]["Code"] == code
        assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
