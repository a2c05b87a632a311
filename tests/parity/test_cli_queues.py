"""``alcove queue``, ``alcove mapping`` and ``alcove fn events`` against the real server."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.authority import authority
from tests.parity.conftest import Platform

from alcove.cli.app import root
from alcove.errors import InvalidRequest, NotFound


@pytest.fixture
def alcove(platform: Platform) -> Any:
    def run(*arguments: str) -> str:
        result = CliRunner().invoke(root, [*arguments, "--run", str(platform.socket.parent)])
        if result.exception is not None:
            raise result.exception
        return result.output

    return run


def test_a_queue_by_hand(alcove: Any, function: str) -> None:
    dead = f"{function}-dead"
    alcove("queue", "create", dead)
    made = alcove("queue", "create", function, "--visibility", "40", "--dead-letter", dead, "--max-receives", "2")
    assert function in made
    shown = json.loads(alcove("queue", "show", function, "--json"))
    assert shown["VisibilityTimeout"] == "40"
    assert json.loads(shown["RedrivePolicy"])["maxReceiveCount"] == 2
    alcove("queue", "send", function, "first")
    alcove("queue", "send", function, "second", "--delay", "0")
    assert alcove("queue", "receive", function, "--keep") == "first\n"
    assert set(alcove("queue", "receive", function, "--count", "10").split()) == {"first", "second"}
    assert json.loads(alcove("queue", "receive", function, "--json")) == []
    alcove("queue", "send", function, "third")
    assert [line.split()[:2] for line in alcove("queue", "list").splitlines() if function in line] == [
        [function, "1"],
        [dead, "0"],
    ]
    alcove("queue", "purge", function)
    assert json.loads(alcove("queue", "receive", function, "--json")) == []
    for name in (function, dead):
        alcove("queue", "delete", name)
    with pytest.raises(NotFound):
        alcove("queue", "send", function, "nobody is there")


def test_a_fifo_queue_by_hand(alcove: Any, function: str) -> None:
    name = f"{function}.fifo"
    alcove("queue", "create", name, "--content-dedup")
    assert json.loads(alcove("queue", "show", name, "--json"))["ContentBasedDeduplication"] == "true"
    for body in ("first", "second", "first"):
        alcove("queue", "send", name, body, "--group", "g")
    alcove("queue", "send", name, "third", "--group", "g", "--dedup-id", "once")
    alcove("queue", "send", name, "fourth", "--group", "g", "--dedup-id", "once")
    assert alcove("queue", "receive", name, "--count", "10").split() == ["first", "second", "third"]
    with pytest.raises(InvalidRequest):
        alcove("queue", "send", name, "no group")
    alcove("queue", "delete", name)


def test_a_mapping_by_hand(alcove: Any, function: str) -> None:
    alcove("queue", "create", function)
    made = json.loads(alcove("mapping", "add", f"queue:{function}", function, "--batch", "3", "--partial", "--json"))
    uuid = made["UUID"]
    assert (made["BatchSize"], made["FunctionResponseTypes"]) == (3, ["ReportBatchItemFailures"])
    alcove("queue", "send", function, "x")
    deadline = time.monotonic() + 30
    while json.loads(alcove("mapping", "show", uuid))["LastProcessingResult"] != "OK":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (line,) = [one for one in alcove("mapping", "list", "--function", function).splitlines() if uuid in one]
    assert line.split() == [uuid, f"queue:{function}", function, "Enabled", "OK"]
    assert "Disabling" in alcove("mapping", "update", uuid, "--disable", "--batch", "1", "--filter", '{"body": ["x"]}')
    assert json.loads(alcove("mapping", "show", uuid))["FilterCriteria"] == {
        "Filters": [{"Pattern": '{"body": ["x"]}'}]
    }
    alcove("mapping", "update", uuid, "--filter", "")
    assert "FilterCriteria" not in json.loads(alcove("mapping", "show", uuid))
    alcove("mapping", "remove", uuid)
    alcove("queue", "delete", function)


def test_a_mapping_to_the_outside(alcove: Any, function: str, tmp_path: Path) -> None:
    arguments = ("--user", "me:secret", "--virtual-host", "v", "--retries", "1", "--disabled", "--json")
    made = json.loads(alcove("mapping", "add", "rabbitmq://127.0.0.1:1/q", function, *arguments))
    assert made["SourceAccessConfigurations"] == [
        {"Type": "BASIC_AUTH", "URI": "me:********"},
        {"Type": "VIRTUAL_HOST", "URI": "v"},
    ]
    alcove("mapping", "remove", made["UUID"])
    ca = authority(tmp_path).certificate
    made = json.loads(alcove("mapping", "add", "amqps://127.0.0.1:1/q", function, "--ca", str(ca), *arguments))
    assert made["SourceAccessConfigurations"][-1] == {"Type": "SERVER_ROOT_CA_CERTIFICATE", "URI": ca.read_text()}
    assert f"amqps://127.0.0.1:1/q {function}" in " ".join(alcove("mapping", "list").split())
    alcove("mapping", "remove", made["UUID"])
    with pytest.raises(InvalidRequest):
        alcove("mapping", "add", "amqps://127.0.0.1:1/q", function, "--ca", str(tmp_path / "none"))
    with pytest.raises(InvalidRequest):
        alcove("mapping", "add", "kafka://127.0.0.1:1/q", function)


def test_what_becomes_of_calls(alcove: Any, aws: Any, function: str) -> None:
    alcove("queue", "create", function)
    assert "2 (the default)" in alcove("fn", "events", function)
    shown = alcove("fn", "events", function, "--retries", "1", "--on-failure", f"queue:{function}")
    assert f":{function}\n" in shown
    found = json.loads(alcove("fn", "events", function, "--on-success", f"function:{function}", "--json"))
    assert found["MaximumRetryAttempts"] == 1
    assert found["DestinationConfig"]["OnSuccess"]["Destination"].endswith(f":function:{function}")
    alcove("fn", "events", function, "--dead-letter", f"queue:{function}")
    assert aws.get_function_configuration(FunctionName=function)["DeadLetterConfig"]["TargetArn"].endswith(function)
    alcove("fn", "events", function, "--dead-letter", "")
    assert "DeadLetterConfig" not in aws.get_function_configuration(FunctionName=function)
    assert "(the default)" in alcove("fn", "events", function, "--clear")
    with pytest.raises(NotFound):
        alcove("fn", "events", "nobody", "--retries", "1")
    with pytest.raises(InvalidRequest):
        alcove("fn", "events", function, "--on-failure", "somewhere")
    alcove("queue", "delete", function)
