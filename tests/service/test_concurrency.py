"""Machines of their own for every request, machines kept ready, and machines that are shared, with real ones."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.service.conftest import package

SOURCE = """
import uuid
SEEN = []

def handler(event, context):
    SEEN.append(event)
    boot_id = open("/proc/sys/kernel/random/boot_id").read().strip()
    return {"seen": len(SEEN), "boot_id": boot_id, "random": str(uuid.uuid4())}
"""


def call(aws: Any, name: str, version: str) -> tuple[dict[str, Any], str]:
    answer = aws.invoke(FunctionName=name, Qualifier=version, Payload=b"1")
    assert "FunctionError" not in answer
    return json.loads(answer["Payload"].read()), answer["ResponseMetadata"]["HTTPHeaders"]["x-alcove-start"]


def test_a_new_machine_for_every_request_then_one_that_is_kept_ready(aws: Any, deploy: Callable[..., str]) -> None:
    name = deploy(SOURCE, Tags={"alcove:fresh-vm": "true"})
    arn = aws.get_function(FunctionName=name)["Configuration"]["FunctionArn"]
    version = aws.publish_version(FunctionName=name)["Version"]
    found = [call(aws, name, version) for _ in range(3)]
    assert [answer["seen"] for answer, _ in found] == [1, 1, 1]
    assert len({answer["boot_id"] for answer, _ in found}) == 3
    assert len({answer["random"] for answer, _ in found}) == 3
    assert all(start.startswith("restored; why=a new sandbox for every request") for _, start in found)

    aws.tag_resource(Resource=arn, Tags={"alcove:fresh-vm": "false"})
    aws.put_provisioned_concurrency_config(FunctionName=name, Qualifier=version, ProvisionedConcurrentExecutions=1)
    deadline = time.monotonic() + 120
    while aws.get_provisioned_concurrency_config(FunctionName=name, Qualifier=version)["Status"] != "READY":
        assert time.monotonic() < deadline
        time.sleep(0.2)
    answers = []
    for _ in range(8):
        answer, start = call(aws, name, version)
        assert start.startswith("warm")
        answers.append(answer)
    # What was restored ahead may take turns with it; none is new for each call any more.
    assert len({answer["boot_id"] for answer in answers}) < 8
    assert max(answer["seen"] for answer in answers) > 1


# Each waits for the other: they are in the machine at once, and print in turn.
SHARED = {
    "python3.11": """
import threading
BOTH = threading.Barrier(2)

def handler(event, context):
    for number in range(5):
        BOTH.wait(15)
        print("printed by", event, number)
""",
    "nodejs18": """
let waiting = null;
const both = () => new Promise((wake) => {
  if (waiting === null) { waiting = wake; return; }
  waiting(); waiting = null; wake();
});
exports.handler = async (event) => {
  for (let number = 0; number < 5; number += 1) {
    await both();
    console.log('printed by', event, number);
  }
};
""",
}


@pytest.mark.parametrize("runtime", SHARED)
def test_each_of_two_requests_in_a_machine_has_its_own_log(aws: Any, deploy: Callable[..., str], runtime: str) -> None:
    file = "app.py" if runtime == "python3.11" else "app.js"
    code = {"ZipFile": package({file: SHARED[runtime]})}
    name = deploy("", Runtime=runtime, Code=code, Timeout=60, Tags={"alcove:concurrency": "2"})
    aws.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 240})

    def call(event: str) -> list[str]:
        answer = aws.invoke(FunctionName=name, Payload=json.dumps(event).encode(), LogType="Tail")
        assert "FunctionError" not in answer, answer["Payload"].read()
        lines = base64.b64decode(answer["LogResult"]).decode().splitlines()
        return [line.split("\t")[-1] for line in lines if "printed by" in line]

    with ThreadPoolExecutor(2) as callers:
        found = list(callers.map(call, "ab"))
    assert found == [[f"printed by {event} {number}" for number in range(5)] for event in "ab"]
