"""Queues by boto3's ``sqs``: queues, messages, visibility, dead letters, errors."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.parity.conftest import Platform

from alcove.api.sqs import OPERATIONS
from alcove.cli.client import Client, UnixConnection


def client_of(platform: Platform, access_key: str = "", secret: str = "") -> Any:
    return boto3.client(
        "sqs",
        endpoint_url=platform.url,
        region_name="eu-central-1",
        aws_access_key_id=access_key or platform.access_key,
        aws_secret_access_key=secret or platform.secret,
        config=Config(retries={"max_attempts": 0}, read_timeout=30),
    )


@pytest.fixture(scope="module")
def sqs(platform: Platform) -> Any:
    return client_of(platform)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return f"q{abs(hash(request.node.nodeid)) % 10**12}"


@pytest.fixture
def url(sqs: Any, name: str) -> Iterator[str]:
    made = sqs.create_queue(QueueName=name)["QueueUrl"]
    yield made
    try:
        sqs.delete_queue(QueueUrl=made)
    except sqs.exceptions.QueueDoesNotExist:
        pass


def test_a_queue_lives(sqs: Any, platform: Platform, url: str, name: str) -> None:
    assert url == f"{platform.url}/{platform.tenant}/{name}"
    assert sqs.create_queue(QueueName=name)["QueueUrl"] == url
    assert sqs.get_queue_url(QueueName=name)["QueueUrl"] == url
    assert url in sqs.list_queues()["QueueUrls"]
    assert sqs.list_queues(QueueNamePrefix=name)["QueueUrls"] == [url]
    assert "QueueUrls" not in sqs.list_queues(QueueNamePrefix="none")
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "7"})
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert found["VisibilityTimeout"] == "7"
    assert found["QueueArn"] == f"arn:aws:sqs:eu-central-1:{platform.tenant}:{name}"
    assert found["ApproximateNumberOfMessages"] == "0"
    only = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["DelaySeconds"])["Attributes"]
    assert only == {"DelaySeconds": "0"}
    sqs.delete_queue(QueueUrl=url)
    with pytest.raises(sqs.exceptions.QueueDoesNotExist) as error:
        sqs.send_message(QueueUrl=url, MessageBody="x")
    assert error.value.response["Error"]["Code"] == "AWS.SimpleQueueService.NonExistentQueue"
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_queues_in_pages(sqs: Any, name: str) -> None:
    urls = [sqs.create_queue(QueueName=f"{name}-{number}")["QueueUrl"] for number in range(5)]
    pages = sqs.get_paginator("list_queues").paginate(QueueNamePrefix=name, PaginationConfig={"PageSize": 2})
    assert [one for page in pages for one in page.get("QueueUrls", [])] == urls
    for one in urls:
        sqs.delete_queue(QueueUrl=one)


def test_a_message_is_received_and_deleted(sqs: Any, url: str) -> None:
    attributes = {
        "Kind": {"DataType": "String", "StringValue": "täg"},
        "Blob": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
    }
    sent = sqs.send_message(QueueUrl=url, MessageBody="Grüße", MessageAttributes=attributes)
    assert sent["MD5OfMessageBody"] == hashlib.md5("Grüße".encode()).hexdigest()
    # The documented algorithm, written out for these two.
    blob = b"\0\0\0\4Blob\0\0\0\6Binary\2\0\0\0\2\0\xff"
    kind = b"\0\0\0\4Kind\0\0\0\6String\1\0\0\0\4"
    assert sent["MD5OfMessageAttributes"] == hashlib.md5(blob + kind + "täg".encode()).hexdigest()
    (got,) = sqs.receive_message(
        QueueUrl=url, MessageAttributeNames=["All"], MessageSystemAttributeNames=["All"], WaitTimeSeconds=1
    )["Messages"]
    assert (got["Body"], got["MessageId"]) == ("Grüße", sent["MessageId"])
    assert got["MD5OfMessageAttributes"] == sent["MD5OfMessageAttributes"]
    assert got["MessageAttributes"] == attributes
    assert got["Attributes"]["ApproximateReceiveCount"] == "1"
    assert "Messages" not in sqs.receive_message(QueueUrl=url)
    counts = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert counts["ApproximateNumberOfMessagesNotVisible"] == "1"
    sqs.delete_message(QueueUrl=url, ReceiptHandle=got["ReceiptHandle"])
    counts = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert counts["ApproximateNumberOfMessagesNotVisible"] == "0"


def test_what_is_not_deleted_comes_again(sqs: Any, url: str) -> None:
    sqs.send_message(QueueUrl=url, MessageBody="again")
    (first,) = sqs.receive_message(QueueUrl=url)["Messages"]
    sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=first["ReceiptHandle"], VisibilityTimeout=0)
    (second,) = sqs.receive_message(QueueUrl=url, AttributeNames=["ApproximateReceiveCount"])["Messages"]
    assert second["Attributes"] == {"ApproximateReceiveCount": "2"}
    # A receipt that is not the last deletes nothing.
    sqs.delete_message(QueueUrl=url, ReceiptHandle=first["ReceiptHandle"])
    with pytest.raises(sqs.exceptions.MessageNotInflight):
        sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=first["ReceiptHandle"], VisibilityTimeout=0)
    sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=second["ReceiptHandle"], VisibilityTimeout=0)
    assert sqs.receive_message(QueueUrl=url)["Messages"][0]["Body"] == "again"


def test_the_visibility_timeout_ends_and_who_polls_is_woken(sqs: Any, url: str) -> None:
    sqs.send_message(QueueUrl=url, MessageBody="x")
    sqs.receive_message(QueueUrl=url, VisibilityTimeout=1)
    (again,) = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20)["Messages"]
    assert again["Body"] == "x"


def test_a_delay_hides_and_a_poll_waits(sqs: Any, url: str) -> None:
    sqs.send_message(QueueUrl=url, MessageBody="later", DelaySeconds=1)
    counts = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert counts["ApproximateNumberOfMessagesDelayed"] == "1"
    assert "Messages" not in sqs.receive_message(QueueUrl=url)
    assert sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20)["Messages"][0]["Body"] == "later"


def test_a_poll_is_answered_when_something_arrives(sqs: Any, platform: Platform, url: str) -> None:
    def send() -> None:
        time.sleep(0.2)
        client_of(platform).send_message(QueueUrl=url, MessageBody="now")

    thread = threading.Thread(target=send)
    thread.start()
    assert sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20)["Messages"][0]["Body"] == "now"
    thread.join()


def test_batches(sqs: Any, url: str) -> None:
    entries = [{"Id": str(number), "MessageBody": f"m{number}"} for number in range(9)]
    sent = sqs.send_message_batch(QueueUrl=url, Entries=[*entries, {"Id": "bad", "MessageBody": "\x01"}])
    assert len(sent["Successful"]) == 9
    assert [(one["Id"], one["Code"]) for one in sent["Failed"]] == [("bad", "InvalidMessageContents")]
    got = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
    assert sorted(one["Body"] for one in got) == [f"m{number}" for number in range(9)]
    handles = [{"Id": str(number), "ReceiptHandle": one["ReceiptHandle"]} for number, one in enumerate(got)]
    hidden = [{**one, "VisibilityTimeout": 0} for one in handles[:2]]
    assert len(sqs.change_message_visibility_batch(QueueUrl=url, Entries=hidden)["Successful"]) == 2
    done = sqs.delete_message_batch(QueueUrl=url, Entries=[*handles[2:], {"Id": "bad", "ReceiptHandle": "x"}])
    assert len(done["Successful"]) == 7
    assert [(one["Id"], one["Code"]) for one in done["Failed"]] == [("bad", "ReceiptHandleIsInvalid")]
    assert len(sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]) == 2
    sqs.purge_queue(QueueUrl=url)
    counts = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert counts["ApproximateNumberOfMessagesNotVisible"] == "0"


def test_dead_letters(sqs: Any, url: str, name: str) -> None:
    dead = sqs.create_queue(QueueName=f"{name}-dead")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 2})
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"RedrivePolicy": policy, "VisibilityTimeout": "0"})
    assert sqs.list_dead_letter_source_queues(QueueUrl=dead)["queueUrls"] == [url]
    sent = sqs.send_message(QueueUrl=url, MessageBody="poison")
    for _ in range(2):
        assert len(sqs.receive_message(QueueUrl=url)["Messages"]) == 1
    assert "Messages" not in sqs.receive_message(QueueUrl=url)
    (got,) = sqs.receive_message(QueueUrl=dead, AttributeNames=["All"], WaitTimeSeconds=5)["Messages"]
    assert got["MessageId"] == sent["MessageId"]
    assert got["Attributes"]["DeadLetterQueueSourceArn"].endswith(f":{name}")
    sqs.delete_queue(QueueUrl=dead)


ADD_PERMISSION = {"Label": "l", "AWSAccountIds": ["000000000001"], "Actions": ["*"]}


@pytest.mark.parametrize(
    ("operation", "arguments", "code"),
    [
        ("send_message", {"MessageBody": "\x00"}, "InvalidMessageContents"),
        ("send_message", {"MessageBody": "x" * (256 * 1024 + 1)}, "InvalidParameterValue"),
        ("send_message", {"MessageBody": "x", "DelaySeconds": 901}, "InvalidParameterValue"),
        ("send_message", {"MessageBody": "x", "MessageGroupId": "g"}, "InvalidParameterValue"),
        ("receive_message", {"MaxNumberOfMessages": 11}, "InvalidParameterValue"),
        ("delete_message", {"ReceiptHandle": "nonsense"}, "ReceiptHandleIsInvalid"),
        ("send_message_batch", {"Entries": []}, "AWS.SimpleQueueService.EmptyBatchRequest"),
        (
            "send_message_batch",
            {"Entries": [{"Id": "a", "MessageBody": "x"}, {"Id": "a", "MessageBody": "x"}]},
            "AWS.SimpleQueueService.BatchEntryIdsNotDistinct",
        ),
        (
            "send_message_batch",
            {"Entries": [{"Id": str(n), "MessageBody": "x"} for n in range(11)]},
            "AWS.SimpleQueueService.TooManyEntriesInBatchRequest",
        ),
        (
            "send_message_batch",
            {"Entries": [{"Id": str(n), "MessageBody": "x" * 200_000} for n in range(2)]},
            "AWS.SimpleQueueService.BatchRequestTooLong",
        ),
        (
            "send_message_batch",
            {"Entries": [{"Id": "a b", "MessageBody": "x"}]},
            "AWS.SimpleQueueService.InvalidBatchEntryId",
        ),
        ("set_queue_attributes", {"Attributes": {"Colour": "red"}}, "InvalidAttributeName"),
        ("set_queue_attributes", {"Attributes": {"VisibilityTimeout": "-1"}}, "InvalidAttributeValue"),
        ("set_queue_attributes", {"Attributes": {"RedrivePolicy": "{}"}}, "InvalidAttributeValue"),
        ("get_queue_attributes", {"AttributeNames": ["Colour"]}, "InvalidAttributeName"),
        ("tag_queue", {"Tags": {"a" * 129: "b"}}, "InvalidParameterValue"),
        ("add_permission", ADD_PERMISSION, "AWS.SimpleQueueService.UnsupportedOperation"),
    ],
)
def test_refusals_have_their_codes(sqs: Any, url: str, operation: str, arguments: dict[str, Any], code: str) -> None:
    with pytest.raises(ClientError) as error:
        getattr(sqs, operation)(QueueUrl=url, **arguments)
    assert error.value.response["Error"]["Code"] == code
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_a_name_with_other_attributes_is_taken(sqs: Any, url: str, name: str) -> None:
    with pytest.raises(sqs.exceptions.QueueNameExists):
        sqs.create_queue(QueueName=name, Attributes={"DelaySeconds": "5"})


def test_tags(sqs: Any, name: str) -> None:
    url = sqs.create_queue(QueueName=name, tags={"a": "1", "b": "2"})["QueueUrl"]
    sqs.tag_queue(QueueUrl=url, Tags={"b": "3", "c": "4"})
    sqs.untag_queue(QueueUrl=url, TagKeys=["a"])
    assert sqs.list_queue_tags(QueueUrl=url)["Tags"] == {"b": "3", "c": "4"}
    sqs.delete_queue(QueueUrl=url)


def test_other_tenants_see_nothing(sqs: Any, platform: Platform, url: str, name: str) -> None:
    other = client_of(platform, platform.other_access_key, platform.other_secret)
    sqs.send_message(QueueUrl=url, MessageBody="mine")
    (got,) = sqs.receive_message(QueueUrl=url)["Messages"]
    assert "QueueUrls" not in other.list_queues()
    for operation, arguments in (
        ("receive_message", {}),
        ("send_message", {"MessageBody": "x"}),
        ("delete_message", {"ReceiptHandle": got["ReceiptHandle"]}),
        ("purge_queue", {}),
        ("delete_queue", {}),
    ):
        with pytest.raises(other.exceptions.QueueDoesNotExist):
            getattr(other, operation)(QueueUrl=url, **arguments)
    with pytest.raises(other.exceptions.QueueDoesNotExist):
        other.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=platform.tenant)
    theirs = other.create_queue(QueueName=name)["QueueUrl"]
    # A receipt of one queue is worth nothing in another.
    other.delete_message(QueueUrl=theirs, ReceiptHandle=got["ReceiptHandle"])
    counts = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert counts["ApproximateNumberOfMessagesNotVisible"] == "1"
    other.delete_queue(QueueUrl=theirs)


@pytest.mark.parametrize(
    ("keys", "code"),
    [(("AKIANOBODY0000000000", "x"), "InvalidClientTokenId"), (("", "wrong"), "SignatureDoesNotMatch")],
)
def test_signatures_are_checked(platform: Platform, keys: tuple[str, str], code: str) -> None:
    with pytest.raises(ClientError) as error:
        client_of(platform, *keys).list_queues()
    assert error.value.response["Error"]["Code"] == code


def test_a_signature_for_lambda_is_none_for_queues(platform: Platform) -> None:
    import urllib.request

    import botocore.auth
    import botocore.awsrequest
    import botocore.credentials

    request = botocore.awsrequest.AWSRequest(
        "POST", platform.url + "/", data=b"{}", headers={"X-Amz-Target": "AmazonSQS.ListQueues"}
    )
    credentials = botocore.credentials.Credentials(platform.access_key, platform.secret)
    botocore.auth.SigV4Auth(credentials, "lambda", "eu-central-1").add_auth(request)
    call = urllib.request.Request(request.url, data=b"{}", headers=dict(request.headers.items()), method="POST")
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(call)
    assert error.value.code == 403
    error.value.close()


def test_outcomes_and_dead_letters_reach_queues(aws: Any, sqs: Any, url: str, function: str) -> None:
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    aws.update_function_configuration(FunctionName=function, Handler="raise", DeadLetterConfig={"TargetArn": arn})
    assert aws.get_function_configuration(FunctionName=function)["DeadLetterConfig"] == {"TargetArn": arn}
    aws.put_function_event_invoke_config(
        FunctionName=function, MaximumRetryAttempts=0, DestinationConfig={"OnFailure": {"Destination": arn}}
    )
    sent = aws.invoke(FunctionName=function, InvocationType="Event", Payload=b'{"n": 1}')
    found: list[Any] = []
    while len(found) < 2:
        got = sqs.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"], WaitTimeSeconds=20
        )
        found += got["Messages"]
    dead, record = sorted(found, key=lambda one: len(one["Body"]))
    assert dead["Body"] == '{"n": 1}'
    assert dead["MessageAttributes"]["ErrorMessage"]["StringValue"] == "no"
    assert dead["MessageAttributes"]["ErrorCode"] == {"DataType": "Number", "StringValue": "200"}
    request_id = sent["ResponseMetadata"]["RequestId"]
    assert dead["MessageAttributes"]["RequestID"]["StringValue"] == request_id
    document = json.loads(record["Body"])
    assert document["requestContext"]["requestId"] == request_id
    assert document["requestContext"]["condition"] == "RetriesExhausted"
    assert document["responsePayload"]["errorType"] == "ValueError"
    own = aws.get_function_configuration(FunctionName=function)["FunctionArn"]
    for bad in (arn + "-none", own, "arn:aws:sns:eu-central-1:000000000000:topic"):
        with pytest.raises(ClientError) as error:
            aws.update_function_configuration(FunctionName=function, DeadLetterConfig={"TargetArn": bad})
        assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] in (400, 404)


def test_clients_that_send_to_the_queue_s_url_are_served(platform: Platform, url: str) -> None:
    """The JavaScript SDK does so."""
    import urllib.request

    import botocore.auth
    import botocore.awsrequest
    import botocore.credentials

    body = json.dumps({"QueueUrl": url, "MessageBody": "x"}).encode()
    headers = {"X-Amz-Target": "AmazonSQS.SendMessage", "Content-Type": "application/x-amz-json-1.0"}
    request = botocore.awsrequest.AWSRequest("POST", url, data=body, headers=headers)
    credentials = botocore.credentials.Credentials(platform.access_key, platform.secret)
    botocore.auth.SigV4Auth(credentials, "sqs", "eu-central-1").add_auth(request)
    call = urllib.request.Request(url, data=body, headers=dict(request.headers.items()), method="POST")
    with urllib.request.urlopen(call) as answer:
        assert json.load(answer)["MD5OfMessageBody"] == hashlib.md5(b"x").hexdigest()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from(
    [
        *("QueueUrl", "QueueName", "QueueNamePrefix", "MaxResults", "NextToken", "Attributes", "AttributeNames"),
        *("MessageBody", "DelaySeconds", "MessageAttributes", "MaxNumberOfMessages", "VisibilityTimeout", "Entries"),
        *("ReceiptHandle", "MessageAttributeNames", "MessageSystemAttributeNames", "QueueOwnerAWSAccountId"),
    ]
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operation=st.sampled_from(sorted(OPERATIONS)), named=st.booleans(), document=st.dictionaries(FIELDS, VALUES))
def test_nothing_that_is_sent_breaks_the_server(
    platform: Platform, url: str, operation: str, named: bool, document: dict[str, Any]
) -> None:
    document = {**document, **({"QueueUrl": url} if named and operation != "DeleteQueue" else {}), "WaitTimeSeconds": 0}
    connection = UnixConnection(platform.socket, 30.0)
    connection.request("POST", "/", json.dumps(document), {"X-Amz-Target": f"AmazonSQS.{operation}"})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    assert answer.status < 500, body
    assert answer.status == 200 or json.loads(body)["__type"].startswith("com.amazonaws.sqs#")


def test_the_audit_tells_of_queues_and_not_of_messages(sqs: Any, platform: Platform, name: str) -> None:
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="x")
    sqs.receive_message(QueueUrl=url)
    sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"DelaySeconds": "1"})
    with pytest.raises(ClientError):
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"DelaySeconds": "-1"})
    sqs.purge_queue(QueueUrl=url)
    sqs.delete_queue(QueueUrl=url)
    lines = Client(platform.socket.parent).call("GET", "/alcove/v1/audit?tail=50")["lines"]
    told = [(line["operation"], line["outcome"]) for line in lines if line["resource"] == f"queue={name}"]
    assert told == [
        ("sqs.create_queue", "done"),
        ("sqs.set_queue_attributes", "done"),
        ("sqs.set_queue_attributes", "400"),
        ("sqs.purge_queue", "done"),
        ("sqs.delete_queue", "done"),
    ]
