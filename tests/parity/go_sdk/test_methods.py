"""Baidu's stock client for Go: every method that it has, those of flows in ``test_flows``."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest
from baidubce.exception import BceHttpClientError
from tests.parity.conftest import Platform, zipped
from tests.parity.go_sdk.conftest import CODE, INVALID, MISSING, brn_of, create, refused
from tests.parity.test_sqs import client_of
from tests.stock_clients.go import GoClient


def test_the_life_of_a_function(go: GoClient) -> None:
    made = create(go, "go-life", Timeout=7, Description="d", Environment={"Variables": {"COLOUR": "red"}})
    assert (made["FunctionName"], made["Version"], made["Timeout"]) == ("go-life", "$LATEST", 7)
    assert made["UpdatedAt"].startswith("20")
    shown = go("GetFunction", {"FunctionName": "go-life"})
    assert shown["Code"]["Location"].startswith("http")
    assert shown["Configuration"]["CodeSha256"] == made["CodeSha256"]
    changed = go("UpdateFunctionConfiguration", {"FunctionName": "go-life", "Timeout": 9, "Description": "e"})
    assert (changed["Timeout"], changed["Handler"], changed["Description"]) == (9, "echo", "e")
    found = go("GetFunctionConfiguration", {"FunctionName": "go-life"})
    assert (found["Timeout"], found["Environment"]) == (9, {"Variables": {"COLOUR": "red"}})
    published = go("PublishVersion", {"FunctionName": "go-life", "Description": "one"})
    assert (published["Version"], published["Description"]) == ("1", "one")
    other = base64.b64encode(zipped({"app.py": b"z = 1\n"})).decode()
    updated = go("UpdateFunctionCode", {"FunctionName": "go-life", "ZipFile": other, "Publish": True})
    assert updated["Version"] == "2"
    versions = go("ListVersionsByFunction", {"FunctionName": "go-life"})["Versions"]
    assert [one["Version"] for one in versions] == ["$LATEST", "1", "2"]
    go("DeleteFunction", {"FunctionName": "go-life", "Qualifier": "1"})
    assert refused(go, "GetFunction", {"FunctionName": "go-life", "Qualifier": "1"}) == MISSING
    go("DeleteFunction", {"FunctionName": "go-life"})
    assert refused(go, "GetFunction", {"FunctionName": "go-life"}) == MISSING


def test_what_a_function_may_be_made_with(go: GoClient, platform: Platform) -> None:
    sqs = client_of(platform)
    queue = sqs.create_queue(QueueName="go-dead")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    made = create(
        go,
        "go-more",
        Publish=True,
        PodConcurrentQuota=1,
        DeadLetterTopic=arn,
        AsyncInvokeConfig={
            "MaxRetryAttempts": 1,
            "MaxRetryIntervalInSeconds": 90,
            "OnFailure": {"Type": "kafka", "Destination": arn},
        },
    )
    assert (made["Version"], made["Timeout"], made["DeadLetterTopic"]) == ("1", 3, arn)
    shown = go("GetFunctionConfiguration", {"FunctionName": "go-more"})
    asynchronous = shown["AsyncInvokeConfig"]
    assert (asynchronous["MaxRetryAttempts"], asynchronous["MaxRetryIntervalInSeconds"]) == (1, 90)
    assert asynchronous["OnFailure"] == {"Type": "kafka", "Destination": arn}
    assert shown["PodConcurrentQuota"] == 1
    go("DeleteFunction", {"FunctionName": "go-more"})
    sqs.delete_queue(QueueUrl=queue)


@pytest.mark.parametrize(
    "more",
    [
        {"Runtime": "python2"},
        {"Code": {"ZipFile": "AAAA"}},
        {"Code": {"ZipFile": "", "BosBucket": "b", "BosObject": "o"}},
        {"Timeout": 100_000},
        {"PodConcurrentQuota": 1000},
        {"VpcConfig": {"VpcId": "v"}},
        {"CFSConfig": {"FsId": "f"}},
        {"DeadLetterTopic": "nothing"},
        {"AsyncInvokeConfig": {"MaxRetryAttempts": 100}},
        {"AsyncInvokeConfig": {"OnSuccess": {"Type": "pigeon", "Destination": "x"}}},
        {"Environment": {"Variables": {"1 2": "x"}}},
        {"Layers": [{"Brn": "x"}]},
    ],
)
def test_what_makes_no_sense_is_refused(go: GoClient, more: dict[str, Any]) -> None:
    assert refused(create, go, "go-bad", **more) == INVALID
    assert refused(go, "GetFunction", {"FunctionName": "go-bad"}) == MISSING


def test_invocations(go: GoClient, name: str) -> None:
    arguments = {"FunctionName": name, "Payload": {"a": [1]}, "LogType": "Tail"}
    answer = go("Invocations", arguments)
    assert (json.loads(answer["Payload"]), answer["FunctionError"]) == ({"a": [1]}, "")
    assert "START RequestId" in answer["LogResult"]
    assert go("Invoke", {"FunctionName": name})["Payload"] == "{}"
    for kind in ("Event", "DryRun"):
        assert go("Invoke", {"FunctionName": name, "InvocationType": kind, "Payload": "[1]"})["Payload"] == ""
    assert refused(go, "Invoke", {"FunctionName": name, "Qualifier": "7"}) == MISSING
    go("UpdateFunctionConfiguration", {"FunctionName": name, "Handler": "raise"})
    failed = go("Invoke", {"FunctionName": brn_of(go, name), "Payload": {}})
    assert (failed["FunctionError"], json.loads(failed["Payload"])["errorMessage"]) == ("Unhandled", "no")
    too_large = {"FunctionName": name, "Payload": ["x" * (6 << 20)]}
    assert refused(go, "Invoke", too_large) == ("RequestTooLargeException", 413)


def test_functions_in_pages(go: GoClient) -> None:
    names = [f"go-page-{number:02}" for number in range(53)]
    for one in names:
        create(go, one)
    found: list[str] = []
    marker = 0
    while True:
        page = go("ListFunctions", {"Marker": marker, "MaxItems": 20})
        found += [one["FunctionName"] for one in page["Functions"]]
        if not page["NextMarker"]:
            break
        marker = int(page["NextMarker"])
    assert [one for one in found if one.startswith("go-page-")] == names
    assert len(found) == len(set(found))
    # Without a size as many as there are in a page, and where to go on.
    assert go("ListFunctions", {})["NextMarker"] == "50"
    for one in names:
        go("DeleteFunction", {"FunctionName": one})


def test_versions_of_all_functions(go: GoClient, platform: Platform) -> None:
    """Of a version's number the client's own documents speak; ALL only the Python client lets through."""
    for one, more in (("go-ver-a", 2), ("go-ver-b", 0), ("go-ver-c", 1)):
        create(go, one)
        for number in range(more):
            code = base64.b64encode(zipped({"app.py": f"z = {number}\n".encode()})).decode()
            go("UpdateFunctionCode", {"FunctionName": one, "ZipFile": code, "Publish": True})
    cfc = platform.cfc()

    def listed(version: str, client: Any = go) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        marker = "0"
        while marker:
            if client is go:
                page = go("ListFunctions", {"FunctionVersion": version, "Marker": int(marker), "MaxItems": 2})
                found += [(one["FunctionName"][7:], one["Version"]) for one in page["Functions"]]
                marker = page["NextMarker"]
            else:
                page = cfc.list_functions(function_version=version, marker=int(marker), max_items=2)
                found += [(one.FunctionName[7:], one.Version) for one in page.Functions]
                marker = page.NextMarker
        return [one for one in found if one[0] in ("a", "b", "c")]

    latest = [("a", "$LATEST"), ("b", "$LATEST"), ("c", "$LATEST")]
    assert listed("") == listed("$LATEST") == latest
    assert listed("1") == [("a", "1"), ("c", "1")]
    assert listed("ALL", cfc) == [("a", "$LATEST"), ("a", "1"), ("a", "2"), *latest[1:], ("c", "1")]
    assert listed("2", cfc) == [("a", "2")]
    with pytest.raises(BceHttpClientError) as caught:
        cfc.list_functions(function_version="newest")
    assert caught.value.last_error.status_code == 400
    for one in ("go-ver-a", "go-ver-b", "go-ver-c"):
        go("DeleteFunction", {"FunctionName": one})


def test_aliases(go: GoClient, name: str) -> None:
    go("PublishVersion", {"FunctionName": name})
    made = go("CreateAlias", {"FunctionName": name, "FunctionVersion": "1", "Name": "live", "Description": "d"})
    assert (made["Name"], made["FunctionVersion"], made["FunctionName"]) == ("live", "1", name)
    assert made["AliasBrn"].endswith(f":function:{name}:live")
    go("CreateAlias", {"FunctionName": name, "FunctionVersion": "$LATEST", "Name": "next"})
    changed = go(
        "UpdateAlias", {"FunctionName": name, "AliasName": "live", "FunctionVersion": "$LATEST", "Description": "e"}
    )
    assert (changed["FunctionVersion"], changed["Description"]) == ("$LATEST", "e")
    assert go("GetAlias", {"FunctionName": name, "AliasName": "live"})["Description"] == "e"
    first = go("ListAliases", {"FunctionName": name, "MaxItems": 1})
    second = go("ListAliases", {"FunctionName": name, "MaxItems": 1, "Marker": int(first["NextMarker"])})
    assert [page["Aliases"][0]["Name"] for page in (first, second)] == ["live", "next"]
    assert second["NextMarker"] == ""
    assert go("Invoke", {"FunctionName": name, "Qualifier": "live", "Payload": "1"})["Payload"] == "1"
    go("DeleteAlias", {"FunctionName": name, "AliasName": "next"})
    assert refused(go, "GetAlias", {"FunctionName": name, "AliasName": "next"}) == MISSING
    assert refused(
        go, "CreateAlias", {"FunctionName": name, "FunctionVersion": "9", "Name": "x"}
    ) == MISSING  # fmt: skip


def test_reserved_concurrency(go: GoClient, name: str) -> None:
    go("SetReservedConcurrentExecutions", {"FunctionName": name, "ReservedConcurrentExecutions": 3})
    go("SetReservedConcurrentExecutions", {"FunctionName": name, "ReservedConcurrentExecutions": 0})
    assert refused(go, "Invoke", {"FunctionName": name}) == ("TooManyRequestsException", 429)
    go("DeleteReservedConcurrentExecutions", {"FunctionName": name})
    assert go("Invoke", {"FunctionName": name})["Payload"] == "{}"


TRIGGERS = {
    "dueros": None,
    "duedge": {"Domain": "a.example", "EventType": "viewer", "Path": "/x"},
    "cfc-http-trigger/v1/CFCAPI": {"ResourcePath": "/hello", "Method": "GET", "AuthType": "anonymous"},
    "cfc-crontab-trigger/v1/": {"Name": "t", "ScheduleExpression": "rate(9 minutes)", "Enabled": "Disabled"},
    "cdn": {"EventType": "CdnDomainCreated", "Domains": ["a.example"], "Remark": "r", "Status": "enabled"},
    "bos/go-bucket": {"Resource": "/in*.jpg", "Status": "enabled", "EventType": ["PutObject"], "Name": "n"},
}


@pytest.mark.parametrize("source", TRIGGERS)
def test_triggers(go: GoClient, name: str, source: str) -> None:
    target = brn_of(go, name)
    made = go("CreateTrigger", {"Target": target, "Source": source, "Data": TRIGGERS[source]})["Relation"]
    assert (made["Target"], made["Source"]) == (target, source)
    listed = go("ListTriggers", {"FunctionBrn": target})["Relation"]
    assert [one["RelationId"] for one in listed] == [made["RelationId"]]
    change = {"RelationId": made["RelationId"], "Target": target, "Source": source, "Data": TRIGGERS[source]}
    assert go("UpdateTrigger", change)["Relation"]["RelationId"] == made["RelationId"]
    go("DeleteTrigger", {"RelationId": made["RelationId"], "Target": target, "Source": source})
    assert go("ListTriggers", {"FunctionBrn": target})["Relation"] == []


def test_triggers_that_make_no_sense(go: GoClient, name: str) -> None:
    target = brn_of(go, name)
    assert refused(go, "CreateTrigger", {"Target": target, "Source": "kafka"}) == INVALID
    bad = {"Name": "t", "ScheduleExpression": "often"}
    assert refused(go, "CreateTrigger", {"Target": target, "Source": "cfc-crontab-trigger/v1/", "Data": bad}) == INVALID
    gone = {"RelationId": "nothing", "Target": target, "Source": "dueros"}
    assert refused(go, "DeleteTrigger", gone) == MISSING
    assert refused(go, "CreateTrigger", {"Target": target.replace(name, "nobody"), "Source": "dueros"}) == MISSING


def test_messages_of_a_queue(go: GoClient, platform: Platform, name: str) -> None:
    sqs = client_of(platform)
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    brn = brn_of(go, name)
    document = {"Type": "bms", "FunctionName": brn, "EventSourceBrn": name, "Enabled": False}
    made = go("CreateEventSource", document)
    assert (made["Type"], made["FunctionName"], made["BatchSize"], made["Enabled"]) == ("bms", name, 10, False)
    assert made["EventSourceBrn"].endswith(f":{name}")
    assert made["FunctionBrn"] == brn
    shown = go("GetEventSource", {"UUID": made["UUID"]})
    assert (shown["State"], shown["EventSourceBrn"]) == ("Disabled", made["EventSourceBrn"])
    # The client sends all of its fields, the empty ones too: they change nothing.
    changed = go("UpdateEventSource", {"UUID": made["UUID"], "FuncEventSource": {"Type": "bms", "BatchSize": 3}})
    assert (changed["BatchSize"], changed["Enabled"], changed["FunctionBrn"]) == (3, False, brn)
    again = {"Type": "bms", "EventSourceBrn": made["EventSourceBrn"]}
    assert go("UpdateEventSource", {"UUID": made["UUID"], "FuncEventSource": again})["BatchSize"] == 3
    listed = go("ListEventSource", {"FunctionName": brn})["EventSourceMappings"]
    assert [one["UUID"] for one in listed] == [made["UUID"]]
    other = {"Type": "bms", "EventSourceBrn": "another"}
    assert refused(go, "UpdateEventSource", {"UUID": made["UUID"], "FuncEventSource": other}) == INVALID
    for bad in ({"EventSourceBrn": ""}, {"EventSourceBrn": "nothing"}, {"StartingPosition": "LATEST"}):
        assert refused(go, "CreateEventSource", {**document, **bad}) == INVALID
    go("DeleteEventSource", {"UUID": made["UUID"]})
    assert refused(go, "DeleteEventSource", {"UUID": "nothing"}) == MISSING
    sqs.delete_queue(QueueUrl=url)


def test_a_stream(go: GoClient, name: str) -> None:
    stream = {"MetaHostEndpoint": "127.0.0.1", "MetaHostPort": 1, "PipeName": "p", "StartPoint": -2}
    access = {"ACLName": "reader", "ACLPassword": "secret", "ClusterName": "c", "PipeletNum": 1}
    document = {"Type": "datahub_topic", "FunctionName": brn_of(go, name), "Enabled": False, **stream, **access}
    made = go("CreateEventSource", document)
    assert {field: made[field] for field in stream} == stream
    assert (made["Type"], made["ACLName"], made["BatchSize"]) == ("datahub_topic", "reader", 100)
    assert "secret" not in json.dumps(made)
    change = {"Type": "datahub_topic", "BatchSize": 5, **stream, "ACLPassword": made["ACLPassword"]}
    assert go("UpdateEventSource", {"UUID": made["UUID"], "FuncEventSource": change})["BatchSize"] == 5
    moved = {**change, "PipeName": "q"}
    assert refused(go, "UpdateEventSource", {"UUID": made["UUID"], "FuncEventSource": moved}) == INVALID
    for bad in ({"StartPoint": 7}, {"PipeName": ""}, {"MetaHostEndpoint": "a b"}, {"MetaHostPort": 99_999}):
        assert refused(go, "CreateEventSource", {**document, **bad}) == INVALID
    go("DeleteEventSource", {"UUID": made["UUID"]})


def test_layers(go: GoClient, name: str) -> None:
    layer = {"LayerName": "go-layer", "CompatibleRuntimes": ["python3.11"], "Content": {"ZipFile": CODE}}
    made = go("PublishLayer", {**layer, "Description": "d", "LicenseInfo": "MIT"})
    assert (made["Version"], made["Description"], made["LicenseInfo"]) == (1, "d", "MIT")
    assert made["LayerVersionBrn"] == f"{made['LayerBrn']}:1"
    go("PublishLayer", layer)
    wanted = {"LayerName": "go-layer", "VersionNumber": "1"}
    shown = go("GetLayerVersion", wanted)
    assert shown["Content"]["CodeSha256"] == made["Content"]["CodeSha256"]
    assert go("GetLayerVersionByBrn", {**wanted, "Brn": made["LayerVersionBrn"]})["Version"] == 1
    layers = go("ListLayers", {"PageNo": 1, "PageSize": 10})
    assert [one["LatestMatchingVersion"]["Version"] for one in layers["Layers"] if one["LayerName"] == "go-layer"] == [
        2
    ]
    assert layers["Total"] == len(layers["Layers"])
    versions = go("ListLayerVersions", {"LayerName": "go-layer", "PageNo": 1, "PageSize": 10})
    assert ([one["Version"] for one in versions["LayerVersions"]], versions["Total"]) == ([2, 1], 2)
    create(go, "go-layered", Layers=[{"Brn": made["LayerVersionBrn"]}])
    layered = go("GetFunctionConfiguration", {"FunctionName": "go-layered"})["Layers"]
    assert [(one["Brn"], one["Version"]) for one in layered] == [(made["LayerVersionBrn"], 1)]
    go("DeleteFunction", {"FunctionName": "go-layered"})
    go("DeleteLayerVersion", wanted)
    assert refused(go, "GetLayerVersion", wanted) == MISSING
    go("DeleteLayer", {"LayerName": "go-layer"})
    assert refused(go, "DeleteLayer", {"LayerName": "go-layer"}) == MISSING
    assert refused(go, "PublishLayer", {**layer, "Content": {"ZipFile": "AAAA"}}) == INVALID


def test_services(go: GoClient, stranger: GoClient) -> None:
    made = go("CreateService", {"ServiceName": "shop", "ServiceDesc": "d", "ServiceConf": '{"a": 1}'})
    assert (made["ServiceName"], made["ServiceDesc"], made["ServiceConfig"]) == ("shop", "d", {"a": 1})
    assert create(go, "go-grouped", ServiceName="shop")["ServiceName"] == "shop"
    changed = go("UpdateService", {"ServiceName": "shop", "ServiceDesc": "e"})
    assert (changed["ServiceDesc"], changed["ServiceConf"]) == ("e", '{"a": 1}')
    assert go("GetService", {"ServiceName": "default"})["ServiceName"] == "default"
    assert [one["ServiceName"] for one in go("ListServices")["Services"]] == ["default", "shop"]
    assert [one["ServiceName"] for one in stranger("ListServices")["Services"]] == ["default"]
    assert refused(go, "DeleteService", {"ServiceName": "shop"}) == ("ResourceConflictException", 409)
    go("DeleteFunction", {"FunctionName": "go-grouped"})
    go("DeleteService", {"ServiceName": "shop"})
    assert refused(go, "GetService", {"ServiceName": "shop"}) == MISSING
    assert refused(go, "CreateService", {"ServiceName": "default"}) == ("ResourceConflictException", 409)
    assert refused(go, "DeleteService", {"ServiceName": "default"}) == ("ResourceConflictException", 409)
    assert refused(create, go, "go-grouped", ServiceName="nothing") == MISSING


def test_blueprints(go: GoClient) -> None:
    document = {"BlueprintID": "hello-python", "FunctionName": "go-print", "ServiceName": "default"}
    made = go("CreateFunctionByBlueprint", {**document, "Environment": {"Variables": {"COLOUR": "red"}}})
    assert (made["Runtime"], made["Handler"]) == ("python3.11", "index.handler")
    go("DeleteFunction", {"FunctionName": "go-print"})
    assert refused(go, "CreateFunctionByBlueprint", {**document, "BlueprintID": "x"}) == MISSING


def test_another_tenant_sees_nothing(go: GoClient, stranger: GoClient, name: str) -> None:
    brn = brn_of(go, name)
    for method, arguments in (
        ("GetFunction", {"FunctionName": brn}),
        ("DeleteFunction", {"FunctionName": brn}),
        ("Invoke", {"FunctionName": brn}),
        ("CreateTrigger", {"Target": brn, "Source": "dueros"}),
        ("ListTriggers", {"FunctionBrn": brn}),
        ("CreateEventSource", {"FunctionName": brn, "Type": "bms", "EventSourceBrn": "q"}),
    ):
        assert refused(stranger, method, arguments) == MISSING


def test_signatures(platform: Platform) -> None:
    with GoClient(platform.url, platform.access_key, "wrong") as client:
        assert refused(client, "ListFunctions", {}) == ("SignatureDoesNotMatch", 403)
        assert refused(client, "ListServices") == ("SignatureDoesNotMatch", 403)
    with GoClient(platform.url, "nobody", "wrong") as client:
        assert refused(client, "ListFunctions", {}) == ("InvalidAccessKeyId", 403)


def test_each_method_has_a_test(go: GoClient) -> None:
    assert len(go.methods) >= 50
    tried = "".join(path.read_text() for path in Path(__file__).parent.glob("*.py"))
    assert go.methods <= set(re.findall(r'"([A-Z]\w+)"', tried))
