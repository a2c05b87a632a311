"""Machines of their own for every request, and machines kept ready, with real ones."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

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
