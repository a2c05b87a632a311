"""A runtime with a guest image of its own, a larger /tmp and JSON logs, from the API to the machine."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

from tests.service.conftest import package

PHP = """<?php
function handler($event, $context) {
    if (isset($event["parts"])) return (function () use ($event) {
        yield ["statusCode" => 201];
        for ($n = 0; $n < $event["parts"]; $n++) yield str_repeat("x", 65536);
    })();
    $size = disk_total_space("/tmp") / 1048576;
    return ["hello" => $event["name"], "tmp" => $size, "left" => $context->getRemainingTimeInMillis()];
}
"""


def test_php_with_a_larger_disk_and_workers(aws: Any, deploy: Callable[..., str]) -> None:
    """Its image is built where no test has needed it before: the function is Pending meanwhile."""
    name = deploy(
        "",
        Runtime="php8.2",
        Code={"ZipFile": package({"app.php": PHP})},
        EphemeralStorage={"Size": 1024},
        Timeout=60,
        Tags={"alcove:concurrency": "4"},
    )
    aws.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 240})
    answer = aws.invoke(FunctionName=name, Payload=b'{"name": "Ada"}')
    found = json.loads(answer["Payload"].read())
    assert "FunctionError" not in answer, found
    assert found["hello"] == "Ada"
    assert 1024 <= found["tmp"] < 1100
    assert found["left"] > 0
    *parts, last = aws.invoke_with_response_stream(FunctionName=name, Payload=b'{"parts": 40}')["EventStream"]
    data = b"".join(part["PayloadChunk"]["Payload"] for part in parts)
    assert data == b'{"statusCode":201}' + bytes(8) + b"x" * (40 * 65536)
    assert last == {"InvokeComplete": {}}


def test_json_logs(aws: Any, deploy: Callable[..., str]) -> None:
    source = "import logging\n\ndef handler(event, context):\n    logging.getLogger().info('sold %s', event['what'])\n"
    name = deploy(source, LoggingConfig={"LogFormat": "JSON", "ApplicationLogLevel": "INFO"})
    answer = aws.invoke(FunctionName=name, Payload=b'{"what": "tea"}', LogType="Tail")
    lines = base64.b64decode(answer["LogResult"]).decode().splitlines()
    start, line, report = (json.loads(line) for line in lines)
    assert (start["type"], report["type"]) == ("platform.start", "platform.report")
    assert line["message"] == "sold tea"
    assert (line["level"], line["requestId"]) == ("INFO", answer["ResponseMetadata"]["RequestId"])
