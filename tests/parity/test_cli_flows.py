"""``alcove flow`` against the real server, and the line that each change leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.parity.conftest import Platform
from tests.parity.test_cli_queues import alcove

from alcove.errors import Conflict, InvalidRequest, NotFound

__all__ = ["alcove"]
WAIT = "name: w\nstart: a\nstates: [{type: wait, name: a, seconds: 1000, end: true}]"


@pytest.fixture
def definition(tmp_path: Path, function: str) -> str:
    path = tmp_path / "flow.yaml"
    state = f"{{type: operation, name: a, resource: {function}, end: true}}"
    path.write_text(f"name: f\nstart: a\nstates: [{state}]\n")
    return str(path)


def test_a_flow_by_hand(alcove: Any, aws: Any, function: str, definition: str, tmp_path: Path) -> None:
    assert alcove("flow", "create", "by-hand", definition, "--description", "d") == "created by-hand\n"
    with pytest.raises(Conflict):
        alcove("flow", "create", "by-hand", definition)
    assert alcove("flow", "create", "by-hand", definition, "--update", "--description", "e") == "updated by-hand\n"
    assert alcove("flow", "get", "by-hand") == Path(definition).read_text()
    assert "by-hand" in alcove("flow", "list")
    assert [one["description"] for one in json.loads(alcove("flow", "list", "--json"))] == ["e"]
    assert alcove("flow", "start", "by-hand", '{"x": 1}', "--name", "one", "--wait") == '{"x":1}\n'
    assert alcove("flow", "status", "by-hand", "one") == 'Succeed  {"x":1}\n'
    assert "one" in alcove("flow", "status", "by-hand")
    events = json.loads(alcove("flow", "history", "by-hand", "one", "--json"))
    assert [one["type"] for one in events][-1] == "ExecutionSucceeded"
    assert "StateOperationExited" in alcove("flow", "history", "by-hand", "one")
    with pytest.raises(InvalidRequest):
        alcove("flow", "start", "by-hand", "{")
    aws.update_function_configuration(FunctionName=function, Handler="raise")
    with pytest.raises(SystemExit) as caught:
        alcove("flow", "start", "by-hand", "--wait")
    assert caught.value.code == 1
    waiting = tmp_path / "wait.yaml"
    waiting.write_text(WAIT)
    alcove("flow", "create", "by-hand", str(waiting), "--update")
    alcove("flow", "start", "by-hand", "--name", "two")
    with pytest.raises(Conflict):
        alcove("flow", "delete", "by-hand")
    assert alcove("flow", "stop", "by-hand", "two") == "two: Stopped\n"
    alcove("flow", "delete", "by-hand")
    with pytest.raises(NotFound):
        alcove("flow", "get", "by-hand")


def test_each_change_leaves_a_line(alcove: Any, platform: Platform, definition: str) -> None:
    alcove("flow", "create", "audited", definition)
    alcove("flow", "start", "audited", "--name", "e", "--wait")
    alcove("flow", "stop", "audited", "e")
    alcove("flow", "delete", "audited")
    lines = [json.loads(line) for line in alcove("audit", "--json").splitlines()]
    assert [line["operation"] for line in lines][-4:] == [
        "bce_flows.create_flow",
        "bce_flows.start_execution",
        "bce_flows.stop_execution",
        "bce_flows.delete_flow",
    ]
    assert [line["resource"] for line in lines][-4:] == ["audited", "e", "e", "flow=audited"]
