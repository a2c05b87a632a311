"""Baidu's stock client for Go: flows and their executions."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from tests.parity.go_sdk.conftest import INVALID, MISSING, brn_of, refused
from tests.stock_clients.go import GoClient, Refused

# What the SDK's own tests make.
DEMO = """\
name: demo
start: initData
states:
  - type: pass
    name: initData
    data:
      hello: world
    end: true
"""


def operation(function: str, *more: str) -> str:
    """The definition of a flow that calls a function."""
    lines = [
        "name: f",
        "start: call",
        "states:",
        "  - type: operation",
        "    name: call",
        f'    resource: "{function}"',
    ]
    return "\n".join((*lines, *more, "    end: true"))


def begin(go: GoClient, flow: str, execution: str = "", data: Any = None) -> Any:
    given = json.dumps({} if data is None else data)
    return go("StartExecution", {"flowName": flow, "executionName": execution, "input": given})


def ended(go: GoClient, flow: str, execution: str) -> Any:
    deadline = time.monotonic() + 30
    while (found := go("DescribeExecution", flow, execution))["status"] == "Running":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def test_the_life_of_a_flow(go: GoClient) -> None:
    made = go("CreateFlow", {"name": "demo-x2", "type": "FDL", "definition": DEMO, "description": "ut test demo"})
    assert (made["name"], made["type"], made["definition"], made["description"]) == (
        "demo-x2",
        "FDL",
        DEMO,
        "ut test demo",
    )
    assert made["created_at"].startswith("20")
    changed = go("UpdateFlow", {"name": "demo-x2", "definition": DEMO.replace("initData", "other"), "description": "2"})
    assert (changed["description"], changed["created_at"]) == ("2", made["created_at"])
    assert "other" in go("DescribeFlow", "demo-x2")["definition"]
    (listed,) = [one for one in go("ListFlow")["flows"] if one["name"] == "demo-x2"]
    assert (listed["type"], listed["createdTime"]) == ("FDL", made["created_at"])
    started = begin(go, "demo-x2", "s3", {"fruits": ["apple", "banana"]})
    assert (started["name"], started["flowName"], started["status"]) == ("s3", "demo-x2", "Running")
    found = ended(go, "demo-x2", "s3")
    assert (found["status"], json.loads(found["input"])) == ("Succeed", {"fruits": ["apple", "banana"]})
    assert json.loads(found["output"]) == {"fruits": ["apple", "banana"], "hello": "world"}
    assert found["flowDefinition"] == go("DescribeFlow", "demo-x2")["definition"]
    assert found["stoppedTime"] >= found["startedTime"] > 1_700_000_000_000
    listed = go("ListExecutions", "demo-x2")
    assert (listed["total"], [one["name"] for one in listed["executions"]]) == (1, ["s3"])
    # The client's names of these fields are not those of the call.
    events = go("GetExecutionHistory", {"name": "demo-x2", "type": "s3", "limit": 40})["events"]
    assert [(one["eventId"], one["type"], one["stateName"]) for one in events] == [
        ("1", "ExecutionStarted", ""),
        ("2", "StatePassEntered", "other"),
        ("3", "StatePassExited", "other"),
        ("4", "ExecutionSucceeded", ""),
    ]
    assert json.loads(events[2]["eventDetail"]) == {"output": json.loads(found["output"])}
    assert events[0]["executionId"].endswith(":demo-x2:s3")
    assert [event["time"] - event["costTime"] for event in events] == [found["startedTime"]] * 4
    assert len(go("GetExecutionHistory", {"name": "demo-x2", "type": "s3", "limit": 2})["events"]) == 2
    # Without a name it gets one.
    ended(go, "demo-x2", begin(go, "demo-x2")["name"])
    go("DeleteFlow", "demo-x2")
    assert refused(go, "DescribeFlow", "demo-x2") == MISSING
    assert refused(go, "DescribeExecution", "demo-x2", "s3") == MISSING


def test_a_flow_of_functions(go: GoClient, name: str) -> None:
    retry = ("    retry:", "      - errors: [CFC.TooManyRequestsException]", "        intervalSeconds: 0")
    go("CreateFlow", {"name": "calls", "definition": operation(brn_of(go, name), *retry)})
    begin(go, "calls", "good", {"a": 1})
    found = ended(go, "calls", "good")
    assert (found["status"], json.loads(found["output"])) == ("Succeed", {"a": 1})
    # A flow gets no further than its functions: no place is left, tried again twice.
    go("SetReservedConcurrentExecutions", {"FunctionName": name, "ReservedConcurrentExecutions": 0})
    begin(go, "calls", "throttled")
    found = ended(go, "calls", "throttled")
    assert (found["status"], json.loads(found["output"])["error"]) == ("Fail", "CFC.TooManyRequestsException")
    kinds = [one["type"] for one in go("GetExecutionHistory", {"name": "calls", "type": "throttled"})["events"]]
    assert kinds.count("StateOperationRetried") == 2
    go("DeleteReservedConcurrentExecutions", {"FunctionName": name})
    go("UpdateFunctionConfiguration", {"FunctionName": name, "Handler": "raise"})
    begin(go, "calls", "raises")
    found = ended(go, "calls", "raises")
    assert (found["status"], json.loads(found["output"])["cause"]) == ("Fail", "no")
    go("DeleteFlow", "calls")


def test_stopping_an_execution(go: GoClient) -> None:
    waiting = "name: f\nstart: w\nstates:\n  - type: wait\n    name: w\n    seconds: 1000\n    end: true"
    go("CreateFlow", {"name": "waits", "definition": waiting})
    begin(go, "waits", "w")
    assert refused(go, "DeleteFlow", "waits") == ("ResourceConflictException", 409)
    assert begin(go, "waits", "w")["status"] == "Running"
    assert refused(begin, go, "waits", "w", {"other": 1}) == ("ResourceConflictException", 409)
    assert go("StopExecution", "waits", "w")["status"] == "Stopped"
    assert go("StopExecution", "waits", "w")["status"] == "Stopped"
    events = go("GetExecutionHistory", {"name": "waits", "type": "w"})["events"]
    assert [one["type"] for one in events] == ["ExecutionStarted", "StateWaitEntered", "ExecutionStopped"]
    go("DeleteFlow", "waits")


def test_flows_that_make_no_sense(go: GoClient, stranger: GoClient, name: str) -> None:
    assert refused(go, "CreateFlow", {"name": "bad", "definition": ""}) == INVALID
    for definition in (
        "start: x",
        "[",
        DEMO.replace("end: true", "next: nothing"),
        DEMO.replace("pass", "dance"),
        operation("brn:bce:cfc:bj:00000000000000000000999999999999:function:x"),
        "x: " + "y" * 70_000,
    ):
        code, status = refused(go, "CreateFlow", {"name": "bad", "definition": definition})
        assert (code, status) in (INVALID, ("RequestTooLargeException", 413))
    with pytest.raises(Refused, match="state 'initData' leads to 'nothing', which is not a state here"):
        go("CreateFlow", {"name": "bad", "definition": DEMO.replace("end: true", "next: nothing")})
    assert refused(go, "UpdateFlow", {"name": "bad", "definition": DEMO}) == MISSING
    assert refused(go, "DeleteFlow", "bad") == MISSING
    assert refused(begin, go, "bad") == MISSING
    for method in ("StopExecution", "DescribeExecution"):
        assert refused(go, method, "bad", "none") == MISSING
    assert refused(go, "ListExecutions", "bad") == MISSING
    assert refused(go, "GetExecutionHistory", {"name": "bad", "type": "none"}) == MISSING
    go("CreateFlow", {"name": "mine", "definition": operation(name)})
    assert refused(go, "CreateFlow", {"name": "mine", "definition": DEMO}) == ("ResourceConflictException", 409)
    assert refused(stranger, "DescribeFlow", "mine") == MISSING
    assert refused(begin, stranger, "mine") == MISSING
    # A stranger's flow of the same function finds none.
    stranger("CreateFlow", {"name": "theirs", "definition": operation(name)})
    begin(stranger, "theirs", "e")
    assert json.loads(ended(stranger, "theirs", "e")["output"])["error"] == "CFC.ResourceNotFoundException"
    stranger("DeleteFlow", "theirs")
    go("DeleteFlow", "mine")
