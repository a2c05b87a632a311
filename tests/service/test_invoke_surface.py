"""All that concerns invoking a function, by stock boto3 over real machines, in one function's life.

What is looked at one by one over stand-ins in ``tests/parity`` is tried here together, so that few machines start: a
version and its snapshot, the version after it, and an instance of each.
"""

from __future__ import annotations

import base64
import json
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.service.conftest import package
from tests.service.server import Server

LAYER = {"python/word.py": "WORD = 'layered'\n", "data/word": "from /opt\n"}
SOURCE = """
import os, time
import word

def handler(event, context):
    event = event or {}
    if "rawPath" in event:
        return {"statusCode": 201, "headers": {"x-path": event["rawPath"]}, "body": event.get("body", "")}
    if event.get("do") == "raise":
        raise KeyError("asked for")
    if event.get("do") == "sleep":
        time.sleep(event["s"])
    print("printed", event)
    return {
        "colour": os.environ["COLOUR"],
        "event": event,
        "version": context.function_version,
        "word": word.WORD,
        "file": open("/opt/data/word").read().strip(),
    }
"""
CALLS = 24


@pytest.fixture(scope="module")
def client(server: Server) -> Any:
    """Several calls at once, none of them repeated."""
    return server.client(max_pool_connections=16)


@pytest.fixture(scope="module")
def function(client: Any) -> Iterator[str]:
    """A function with a layer; version 1 is red, version 2 and what follows blue, and ``live`` is half of each."""
    name = "invoke-surface"
    layer = client.publish_layer_version(LayerName=name, Content={"ZipFile": package(LAYER)})
    client.create_function(
        FunctionName=name,
        Runtime="python3.11",
        Handler="app.handler",
        Role="arn:aws:iam::000000000000:role/any",
        MemorySize=512,
        Timeout=60,
        Code={"ZipFile": package({"app.py": SOURCE})},
        Environment={"Variables": {"COLOUR": "red"}},
        Layers=[layer["LayerVersionArn"]],
        Publish=True,
    )
    client.update_function_configuration(FunctionName=name, Environment={"Variables": {"COLOUR": "blue"}})
    client.publish_version(FunctionName=name)
    client.create_alias(
        FunctionName=name,
        Name="live",
        FunctionVersion="1",
        RoutingConfig={"AdditionalVersionWeights": {"2": 0.5}},
    )
    yield name
    client.delete_function(FunctionName=name)
    client.delete_layer_version(LayerName=name, VersionNumber=layer["Version"])


def call(client: Any, name: str, event: Any = None, **options: Any) -> tuple[Any, Any]:
    answer = client.invoke(FunctionName=name, Payload=json.dumps(event or {}).encode(), **options)
    return json.loads(answer["Payload"].read()), answer


def test_calls_of_each_kind_and_what_they_tell(client: Any, function: str, server: Server) -> None:
    document, answer = call(client, function, {"n": 1}, Qualifier="1", LogType="Tail")
    assert document == {
        "colour": "red",
        "event": {"n": 1},
        "version": "1",
        "word": "layered",
        "file": "from /opt",
    }
    assert answer["ExecutedVersion"] == "1"
    assert "printed {'n': 1}" in base64.b64decode(answer["LogResult"]).decode()
    document, answer = call(client, function, {"do": "raise"}, Qualifier="1", LogType="Tail")
    assert (answer["StatusCode"], answer["FunctionError"], document["errorType"]) == (200, "Unhandled", "KeyError")
    assert "[ERROR] KeyError" in base64.b64decode(answer["LogResult"]).decode()
    tried = client.invoke(FunctionName=function, Qualifier="1", InvocationType="DryRun")
    assert (tried["StatusCode"], tried["Payload"].read()) == (204, b"")
    queued = client.invoke(FunctionName=function, Qualifier="1", InvocationType="Event", Payload=b'{"later": 1}')
    assert queued["StatusCode"] == 202
    deadline = time.monotonic() + 60
    while True:
        lines = server.call("GET", f"/alcove/v1/functions/{function}/logs?after=0&tail=100")["lines"]
        if any("printed {'later': 1}" in line["text"] for line in lines):
            break
        assert time.monotonic() < deadline
        time.sleep(0.1)
    events = list(client.invoke_with_response_stream(FunctionName=function, Qualifier="1")["EventStream"])
    whole = b"".join(one["PayloadChunk"]["Payload"] for one in events[:-1])
    assert (json.loads(whole)["colour"], events[-1]["InvokeComplete"]) == ("red", {})


def test_an_alias_shares_its_calls_and_a_url_follows_it(client: Any, function: str, server: Server) -> None:
    colours = {"1": "red", "2": "blue"}
    found: Counter[str] = Counter()
    for _ in range(CALLS):
        document, answer = call(client, function, Qualifier="live")
        assert colours[answer["ExecutedVersion"]] == document["colour"]
        found[document["version"]] += 1
    # Of 24 fair draws all fall to one side once in eight million times.
    assert set(found) == {"1", "2"}
    url = client.create_function_url_config(FunctionName=function, Qualifier="live", AuthType="NONE")["FunctionUrl"]
    everyone = {"Principal": "*", "Action": "lambda:InvokeFunctionUrl", "FunctionUrlAuthType": "NONE"}
    client.add_permission(FunctionName=function, Qualifier="live", StatementId="public", **everyone)
    host, base = url.split("/")[2], server.environment()["ALCOVE_URL"]
    request = urllib.request.Request(f"{base}/a/b", b"body", {"Host": host, "Content-Type": "text/plain"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert (answer.status, answer.headers["x-path"], answer.read()) == (201, "/a/b", b"body")


def test_a_cap_is_exact_and_what_is_provisioned_is_warm(client: Any, function: str) -> None:
    client.put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=1)

    def attempt(number: int) -> int:
        try:
            call(client, function, {"do": "sleep", "s": 3}, Qualifier="1")
        except client.exceptions.TooManyRequestsException:
            return 429
        return 200

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(attempt, range(4))) == [200, 429, 429, 429]
    client.delete_function_concurrency(FunctionName=function)
    named = {"FunctionName": function, "Qualifier": "2"}
    client.put_provisioned_concurrency_config(**named, ProvisionedConcurrentExecutions=1)
    deadline = time.monotonic() + 120
    while client.get_provisioned_concurrency_config(**named)["Status"] != "READY":
        assert time.monotonic() < deadline
        time.sleep(0.2)
    _, answer = call(client, function, Qualifier="2")
    assert answer["ResponseMetadata"]["HTTPHeaders"]["x-alcove-start"].startswith("warm")
    client.delete_provisioned_concurrency_config(**named)


def test_a_change_of_the_environment_loses_no_call(client: Any, function: str) -> None:
    """Calls of ``$LATEST`` go on while it is changed; each answers by the one environment or the other."""
    assert call(client, function)[0]["colour"] == "blue"
    stop: list[bool] = []

    def go_on(number: int) -> list[str]:
        seen = []
        while not stop:
            document, answer = call(client, function)
            assert "FunctionError" not in answer, document
            seen.append(document["colour"])
        return seen

    with ThreadPoolExecutor(2) as pool:
        callers = [pool.submit(go_on, number) for number in range(2)]
        try:
            client.update_function_configuration(FunctionName=function, Environment={"Variables": {"COLOUR": "green"}})
            client.get_waiter("function_updated_v2").wait(FunctionName=function)
            assert call(client, function)[0]["colour"] == "green"
        finally:
            stop.append(True)
        seen = [caller.result() for caller in callers]
    assert set().union(*seen) <= {"blue", "green"}
    # Nobody goes back to what was before.
    assert all(one == sorted(one) for one in seen)
