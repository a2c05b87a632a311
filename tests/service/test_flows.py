"""A flow whose states run in real machines."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from click.testing import CliRunner
from tests.service.conftest import package
from tests.service.server import Server

from alcove.cli.app import root
from alcove.cli.client import FUNCTIONS

SOURCE = "def handler(event, context):\n    return {'packed': 'a ' + event['part']}\n"
FLOW = """
name: pack-all
start: each
states:
  - type: foreach
    name: each
    inputCollection: .parts
    iterationParam: part
    outputCollection: .packed
    iterator:
      start: one
      states:
        - {type: operation, name: one, resource: pack, end: true}
    end: true
"""


def test_a_flow_calls_functions_in_machines(server: Server, tmp_path: Path) -> None:
    code = {"ZipFile": base64.b64encode(package({"app.py": SOURCE})).decode()}
    function = {"FunctionName": "pack", "Runtime": "python3.11", "Handler": "app.handler", "Timeout": 60}
    server.call("POST", FUNCTIONS, {**function, "Role": "arn:aws:iam::000000000000:role/any", "Code": code})
    (tmp_path / "flow.yaml").write_text(FLOW)
    run = ["--run", str(server.run)]

    def alcove(*words: str) -> str:
        done = CliRunner().invoke(root, ["flow", *words, *run])
        assert done.exit_code == 0, (done.output, done.exception)
        return done.output

    alcove("create", "pack-all", str(tmp_path / "flow.yaml"))
    told = alcove("start", "pack-all", '{"parts": ["box", "lid"]}', "--name", "first", "--wait")
    assert json.loads(told)["packed"] == [{"packed": "a box"}, {"packed": "a lid"}]
    starts = [one for one in server.instances() if one["function"] == "pack"]
    assert starts
    assert {one["isolation"] for one in starts} == {"vm"}
    alcove("delete", "pack-all")
    server.call("DELETE", f"{FUNCTIONS}/pack")
