"""Event source mappings, by boto3 and over CFC's paths: made, run, changed, refused, removed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from botocore.exceptions import ClientError
from tests.brokers import Broker, redis_server
from tests.parity.conftest import HELLO, ROLE, Platform
from tests.parity.test_sqs import client_of

from alcove.cli.client import Client
from alcove.errors import InvalidRequest, NotFound


@pytest.fixture(scope="module")
def sqs(platform: Platform) -> Any:
    return client_of(platform)


@pytest.fixture
def queue(sqs: Any, function: str) -> Iterator[str]:
    """The URL of a queue."""
    url = sqs.create_queue(QueueName=function)["QueueUrl"]
    yield url
    sqs.delete_queue(QueueUrl=url)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with redis_server(tmp_path_factory.mktemp("redis")) as broker:
        yield broker


def arn_of(sqs: Any, url: str) -> str:
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]
    return str(found["QueueArn"])


def until(found: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 30
    while not (value := found()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return value


def logged(platform: Platform, function: str) -> str:
    path = f"/alcove/v1/functions/{function}/logs?after=0&tail=100"
    return "\n".join(line["text"] for line in Client(platform.socket.parent).call("GET", path)["lines"])


def remove(aws: Any, uuid: str) -> None:
    assert aws.delete_event_source_mapping(UUID=uuid)["State"] == "Deleting"

    def gone() -> bool:
        try:
            aws.get_event_source_mapping(UUID=uuid)
        except aws.exceptions.ResourceNotFoundException:
            return True
        return False

    until(gone)


def test_a_queue_calls_its_function(aws: Any, sqs: Any, platform: Platform, function: str, queue: str) -> None:
    aws.update_function_configuration(FunctionName=function, Handler="print")
    arn = arn_of(sqs, queue)
    made = aws.create_event_source_mapping(EventSourceArn=arn, FunctionName=function, BatchSize=5)
    assert made["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert made["State"] == "Creating"
    assert (made["EventSourceArn"], made["BatchSize"]) == (arn, 5)
    assert made["FunctionArn"].endswith(f":function:{function}")
    uuid = made["UUID"]
    until(lambda: aws.get_event_source_mapping(UUID=uuid)["State"] == "Enabled")
    attributes = {"colour": {"DataType": "String", "StringValue": "red"}}
    sent = sqs.send_message(QueueUrl=queue, MessageBody="quack", MessageAttributes=attributes)
    text = until(lambda: logged(platform, function))
    for part in ("'body': 'quack'", sent["MessageId"], "'eventSource': 'aws:sqs'", f"'eventSourceARN': '{arn}'"):
        assert part in text
    assert "'colour': {'dataType': 'String', 'stringValue': 'red', 'stringListValues': []" in text
    until(lambda: aws.get_event_source_mapping(UUID=uuid)["LastProcessingResult"] == "OK")
    counts = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])["Attributes"]
    assert {counts["ApproximateNumberOfMessages"], counts["ApproximateNumberOfMessagesNotVisible"]} == {"0"}
    assert [one["UUID"] for one in aws.list_event_source_mappings(FunctionName=function)["EventSourceMappings"]] == [
        uuid
    ]
    with pytest.raises(aws.exceptions.ResourceConflictException):
        aws.create_event_source_mapping(EventSourceArn=arn, FunctionName=function)
    changed = aws.update_event_source_mapping(UUID=uuid, Enabled=False, BatchSize=1)
    assert (changed["State"], changed["BatchSize"]) == ("Disabling", 1)
    until(lambda: aws.get_event_source_mapping(UUID=uuid)["State"] == "Disabled")
    sqs.send_message(QueueUrl=queue, MessageBody="silence")
    assert len(sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=1)["Messages"]) == 1
    remove(aws, uuid)


def test_a_stream_of_redis_calls_its_function(aws: Any, platform: Platform, function: str, broker: Broker) -> None:
    aws.update_function_configuration(FunctionName=function, Handler="print")
    made = aws.create_event_source_mapping(
        FunctionName=function,
        SelfManagedEventSource={"Endpoints": {"REDIS_SERVERS": [broker.endpoint]}},
        Topics=[function],
        SourceAccessConfigurations=[{"Type": "BASIC_AUTH", "URI": f":{broker.password}"}],
        StartingPosition="TRIM_HORIZON",
        FunctionResponseTypes=["ReportBatchItemFailures"],
        MaximumRetryAttempts=2,
    )
    assert made["SelfManagedEventSource"] == {"Endpoints": {"REDIS_SERVERS": [broker.endpoint]}}
    assert broker.password not in str(made)
    client = redis.Redis(port=broker.port, password=broker.password)
    until(lambda: aws.get_event_source_mapping(UUID=made["UUID"])["State"] == "Enabled")
    client.xadd(function, {"who": "duck"})
    assert "'fields': {'who': 'duck'}" in until(lambda: logged(platform, function))
    # What is shown can be sent back without the password being lost.
    shown = aws.get_event_source_mapping(UUID=made["UUID"])["SourceAccessConfigurations"]
    aws.update_event_source_mapping(UUID=made["UUID"], SourceAccessConfigurations=shown)
    until(lambda: aws.get_event_source_mapping(UUID=made["UUID"])["State"] == "Enabled")
    client.xadd(function, {"who": "goose"})
    until(lambda: "goose" in logged(platform, function))
    assert len(client.xinfo_groups(function)) == 1
    remove(aws, made["UUID"])
    assert client.xinfo_groups(function) == []
    client.close()


def test_a_fifo_queue_calls_in_order_of_its_groups(aws: Any, sqs: Any, platform: Platform, function: str) -> None:
    aws.update_function_configuration(FunctionName=function, Handler="print")
    attributes = {"FifoQueue": "true", "ContentBasedDeduplication": "true"}
    url = sqs.create_queue(QueueName=f"{function}.fifo", Attributes=attributes)["QueueUrl"]
    arn = arn_of(sqs, url)
    made = aws.create_event_source_mapping(EventSourceArn=arn, FunctionName=function, BatchSize=2)
    for number in range(12):
        sqs.send_message(QueueUrl=url, MessageBody=f"<{number}>", MessageGroupId=f"g{number % 2}")
    text = until(lambda: all(f"<{n}>" in (found := logged(platform, function)) for n in range(12)) and found)
    for group in (0, 1):
        places = [text.index(f"'body': '<{number}>'") for number in range(group, 12, 2)]
        assert places == sorted(places)
    for part in ("'MessageGroupId': 'g0'", "'SequenceNumber': '0", "'MessageDeduplicationId': '"):
        assert part in text
    remove(aws, made["UUID"])
    sqs.delete_queue(QueueUrl=url)


def test_a_stream_is_read_by_tls(aws: Any, platform: Platform, function: str, broker: Broker) -> None:
    aws.update_function_configuration(FunctionName=function, Handler="print")
    endpoint = f"rediss://{broker.tls_endpoint}"
    access = [
        {"Type": "BASIC_AUTH", "URI": f":{broker.password}"},
        {"Type": "SERVER_ROOT_CA_CERTIFICATE", "URI": broker.ca},
    ]
    made = aws.create_event_source_mapping(
        FunctionName=function,
        SelfManagedEventSource={"Endpoints": {"REDIS_SERVERS": [endpoint]}},
        Topics=[function],
        SourceAccessConfigurations=access,
        StartingPosition="TRIM_HORIZON",
    )
    assert made["SelfManagedEventSource"] == {"Endpoints": {"REDIS_SERVERS": [endpoint]}}
    assert made["SourceAccessConfigurations"][1] == access[1]
    client = redis.Redis(port=broker.port, password=broker.password)
    client.xadd(function, {"who": "duck"})
    assert "'fields': {'who': 'duck'}" in until(lambda: logged(platform, function))
    client.close()
    remove(aws, made["UUID"])


def test_a_filter_leaves_out_what_it_does_not_match(
    aws: Any, sqs: Any, platform: Platform, function: str, queue: str
) -> None:
    aws.update_function_configuration(FunctionName=function, Handler="print")
    criteria = {"Filters": [{"Pattern": '{"body": {"kind": [{"prefix": "du"}], "size": [{"numeric": [">", 3]}]}}'}]}
    made = aws.create_event_source_mapping(
        EventSourceArn=arn_of(sqs, queue), FunctionName=function, FilterCriteria=criteria
    )
    assert made["FilterCriteria"] == criteria
    uuid = made["UUID"]
    for body in ('{"kind": "duck", "size": 3}', "plain", '{"kind": "goose", "size": 9}', '{"kind": "duck", "size": 4}'):
        sqs.send_message(QueueUrl=queue, MessageBody=body)

    def empty() -> bool:
        counts = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])["Attributes"]
        states = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
        return {counts[state] for state in states} == {"0"}

    until(lambda: '"size": 4' in logged(platform, function) and empty())
    text = logged(platform, function)
    assert not any(other in text for other in ("plain", "goose", '"size": 3'))
    with pytest.raises(aws.exceptions.InvalidParameterValueException, match="Invalid filter pattern"):
        aws.update_event_source_mapping(UUID=uuid, FilterCriteria={"Filters": [{"Pattern": "{"}]})
    assert aws.get_event_source_mapping(UUID=uuid)["FilterCriteria"] == criteria
    assert aws.update_event_source_mapping(UUID=uuid, BatchSize=1)["FilterCriteria"] == criteria
    assert "FilterCriteria" not in aws.update_event_source_mapping(UUID=uuid, FilterCriteria={"Filters": []})
    sqs.send_message(QueueUrl=queue, MessageBody="plain")
    until(lambda: "plain" in logged(platform, function))
    remove(aws, uuid)


def test_a_server_that_is_not_there_is_told(aws: Any, function: str) -> None:
    made = aws.create_event_source_mapping(
        FunctionName=function,
        SelfManagedEventSource={"Endpoints": {"RABBITMQ_BROKERS": ["127.0.0.1:1"]}},
        Queues=["q"],
    )
    found = until(
        lambda: (
            (one := aws.get_event_source_mapping(UUID=made["UUID"]))["LastProcessingResult"].startswith("PROBLEM")
            and one
        )
    )
    assert found["State"] == "Creating"
    remove(aws, made["UUID"])


@pytest.mark.parametrize(
    "bad",
    [
        {},
        {"EventSourceArn": "arn:aws:sqs:eu-central-1:000000000000:none"},
        {"EventSourceArn": "arn:aws:kinesis:eu-central-1:000000000000:stream/s"},
        {"SelfManagedEventSource": {"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": ["h:1"]}}, "Topics": ["t"]},
        {"SelfManagedEventSource": {"Endpoints": {"REDIS_SERVERS": ["h:1", "i:1"]}}, "Topics": ["t"]},
        {"SelfManagedEventSource": {"Endpoints": {"REDIS_SERVERS": ["h"]}}, "Topics": ["t"]},
        {"SelfManagedEventSource": {"Endpoints": {"REDIS_SERVERS": ["h:1"]}}},
        {"SelfManagedEventSource": {"Endpoints": {"REDIS_SERVERS": ["amqps://h:1"]}}, "Topics": ["t"]},
        {
            "SelfManagedEventSource": {"Endpoints": {"REDIS_SERVERS": ["rediss://h:1"]}},
            "Topics": ["t"],
            "SourceAccessConfigurations": [{"Type": "SERVER_ROOT_CA_CERTIFICATE", "URI": "none"}],
        },
        {"EventSourceArn": "QUEUE", "MaximumRetryAttempts": 1},
        {"EventSourceArn": "QUEUE", "BatchSize": 11},
        {"EventSourceArn": "FIFO", "BatchSize": 11, "MaximumBatchingWindowInSeconds": 1},
        {"EventSourceArn": "FIFO", "MaximumBatchingWindowInSeconds": 1},
        {"EventSourceArn": "QUEUE", "FilterCriteria": {"Filters": [{"Pattern": "{}"}]}},
        {"EventSourceArn": "QUEUE", "FilterCriteria": {"Filters": [{"Pattern": '{"body": [{"like": "x"}]}'}]}},
        {"EventSourceArn": "QUEUE", "FilterCriteria": {"Filters": [{"Pattern": '{"body": ["x"]}'}] * 6}},
        {"EventSourceArn": "QUEUE", "FilterCriteria": {"Filters": [{}]}},
        {"EventSourceArn": "QUEUE", "ScalingConfig": {"MaximumConcurrency": 1000}},
    ],
)
def test_what_makes_no_sense_is_refused(aws: Any, sqs: Any, function: str, queue: str, bad: dict[str, Any]) -> None:
    if bad.get("EventSourceArn") == "QUEUE":
        bad = {**bad, "EventSourceArn": arn_of(sqs, queue)}
    if bad.get("EventSourceArn") == "FIFO":
        made = sqs.create_queue(QueueName=f"{function}.fifo", Attributes={"FifoQueue": "true"})
        bad = {**bad, "EventSourceArn": arn_of(sqs, made["QueueUrl"])}
    with pytest.raises(ClientError) as error:
        aws.create_event_source_mapping(FunctionName=function, **bad)
    assert error.value.response["Error"]["Code"] == "InvalidParameterValueException"


def test_others_queues_and_mappings_do_not_exist(
    aws: Any, sqs: Any, platform: Platform, function: str, queue: str
) -> None:
    other = platform.aws(platform.other_access_key, platform.other_secret)
    other.create_function(
        FunctionName="theirs", Runtime="python3.11", Role=ROLE, Handler="echo", Code={"ZipFile": HELLO}
    )
    with pytest.raises(other.exceptions.InvalidParameterValueException):
        other.create_event_source_mapping(EventSourceArn=arn_of(sqs, queue), FunctionName="theirs")
    made = aws.create_event_source_mapping(EventSourceArn=arn_of(sqs, queue), FunctionName=function, Enabled=False)
    for call in (other.get_event_source_mapping, other.delete_event_source_mapping, other.update_event_source_mapping):
        with pytest.raises(other.exceptions.ResourceNotFoundException):
            call(UUID=made["UUID"])
    assert other.list_event_source_mappings()["EventSourceMappings"] == []
    remove(aws, made["UUID"])
    other.delete_function(FunctionName="theirs")


def test_mappings_in_pages(aws: Any, sqs: Any, function: str) -> None:
    uuids = []
    for number in range(3):
        url = sqs.create_queue(QueueName=f"{function}-{number}")["QueueUrl"]
        made = aws.create_event_source_mapping(EventSourceArn=arn_of(sqs, url), FunctionName=function, Enabled=False)
        uuids.append(made["UUID"])
    pages = aws.get_paginator("list_event_source_mappings").paginate(
        FunctionName=function, PaginationConfig={"PageSize": 2}
    )
    assert [one["UUID"] for page in pages for one in page["EventSourceMappings"]] == sorted(uuids)
    for uuid in uuids:
        remove(aws, uuid)


def test_cfc_s_paths(platform: Platform, sqs: Any, function: str, queue: str) -> None:
    client = Client(platform.socket.parent)
    path = "/v1/event-source-mappings"
    arn = arn_of(sqs, queue)
    made = client.call("POST", path, {"FunctionName": function, "EventSourceBrn": arn, "Enabled": False})
    assert (made["EventSourceBrn"], made["Enabled"], made["FunctionName"]) == (arn, False, function)
    assert client.call("GET", f"{path}/{made['UUID']}")["State"] == "Disabled"
    changed = client.call("PUT", f"{path}/{made['UUID']}", {"BatchSize": 3})
    assert changed["BatchSize"] == 3
    assert [one["UUID"] for one in client.call("GET", f"{path}/?FunctionName={function}")["EventSourceMappings"]] == [
        made["UUID"]
    ]
    client.call("DELETE", f"{path}/{made['UUID']}")
    with pytest.raises(NotFound):
        client.call("GET", f"{path}/nothing")
    with pytest.raises(InvalidRequest):
        client.call("POST", path, {"FunctionName": function})
