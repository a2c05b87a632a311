"""Stock runtimes under ``provided``, unmodified, in real machines: AWS's clients for Python, Node.js and Java, its
libraries for Go and Rust.
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.stock_runtimes.build import build


def zipped(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                info = zipfile.ZipInfo(str(path.relative_to(folder)), (2024, 1, 1, 0, 0, 0))
                info.external_attr = (0o100755 if os.access(path, os.X_OK) else 0o100644) << 16
                archive.writestr(info, path.read_bytes(), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("python", "ValueError"),
        ("node", "RangeError"),
        ("go", "errorString"),
        ("java", "java.lang.IllegalStateException"),
    ],
    ids=str,
)
def test_a_stock_runtime_serves(aws: Any, deploy: Callable[..., str], name: str, kind: str) -> None:
    function = deploy(
        "",
        Runtime="provided.al2023",
        Handler="app.handler",
        Code={"ZipFile": zipped(build(name))},
        MemorySize=512,
        Timeout=60,
    )
    for number in (1, 2):
        answer = aws.invoke(FunctionName=function, Payload=json.dumps({"n": number, "ä": "ö"}))
        found = json.loads(answer["Payload"].read())
        assert "FunctionError" not in answer, found
        assert found["echo"] == {"n": number, "ä": "ö"}
        assert found["requestId"] == answer["ResponseMetadata"]["RequestId"]
        assert found["arn"].endswith(f":function:{function}")
        assert (found["function"], found["memory"], found["root"]) == (function, 512, "/var/task")
        left = found["left"] if "left" in found else found["deadline"] - time.time() * 1000
        # The guest's clock is set when it is restored, to the millisecond.
        assert 0 < left <= 61_000
    failed = aws.invoke(FunctionName=function, Payload=b'{"fail": true}')
    assert failed["FunctionError"] == "Unhandled"
    document = json.loads(failed["Payload"].read())
    assert (document["errorType"], document["errorMessage"]) == (kind, "as asked")
    # It lives on.
    again = json.loads(aws.invoke(FunctionName=function, Payload=b"{}")["Payload"].read())
    assert again["echo"] == {}


def streamed(aws: Any, function: str, **event: Any) -> tuple[bytes, dict[str, Any]]:
    answer = aws.invoke_with_response_stream(FunctionName=function, Payload=json.dumps(event))
    assert answer["ResponseMetadata"]["HTTPHeaders"]["x-amzn-trace-id"].startswith("Root=1-")
    *parts, last = answer["EventStream"]
    return b"".join(part["PayloadChunk"]["Payload"] for part in parts), last["InvokeComplete"]


def test_the_stock_node_client_streams(aws: Any, deploy: Callable[..., str]) -> None:
    code = {"ZipFile": zipped(build("node"))}
    function = deploy("", Runtime="provided.al2023", Handler="app.stream", Code=code, MemorySize=512, Timeout=60)

    stream = partial(streamed, aws, function)
    assert stream(parts=120) == (b"r" * (120 * 65536) + b"end", {})
    data, complete = stream(parts=2, fail=True)
    assert data == b"r" * (2 * 65536)
    assert json.loads(complete["ErrorDetails"])["errorMessage"] == "in the midst"
    assert stream(parts=0) == (b"end", {})


def together(aws: Any, function: str, event: Any, count: int) -> tuple[list[Any], set[str]]:
    """Invoke so often at once; return the answers and the machines that gave them."""

    def one(_: int) -> tuple[Any, str]:
        answer = aws.invoke(FunctionName=function, Payload=json.dumps(event))
        found = json.loads(answer["Payload"].read())
        assert "FunctionError" not in answer, found
        return found, answer["ResponseMetadata"]["HTTPHeaders"]["x-alcove-sandbox"]

    with ThreadPoolExecutor(count) as pool:
        answers = list(pool.map(one, range(count)))
    return [found for found, _ in answers], {machine for _, machine in answers}


def provided(deploy: Callable[..., str], name: str) -> str:
    code, tags = {"ZipFile": zipped(build(name))}, {"alcove:concurrency": "4"}
    return deploy("", Runtime="provided.al2023", Handler="x", Code=code, MemorySize=512, Timeout=60, Tags=tags)


def test_go_takes_several_requests_in_one_machine_and_streams(aws: Any, deploy: Callable[..., str]) -> None:
    function = provided(deploy, "go")
    answers, machines = together(aws, function, {"meet": True}, 4)
    assert len({answer["requestId"] for answer in answers}) == 4
    assert len(machines) == 1
    # The library sends a reader's bytes as they come, and its failure after them.
    assert streamed(aws, function, parts=120) == (b"g" * (120 * 65536), {})
    data, complete = streamed(aws, function, parts=2, fail=True)
    assert data == b"g" * (2 * 65536)
    assert json.loads(complete["ErrorDetails"])["errorMessage"] == "in the midst"
    # What is put together for who does not read a stream is bounded as an answer is.
    whole = aws.invoke(FunctionName=function, Payload=b'{"parts": 3}')
    assert whole["Payload"].read() == b"g" * (3 * 65536)


def test_the_example_in_rust(aws: Any, deploy: Callable[..., str]) -> None:
    function = provided(deploy, "rust")
    answers, machines = together(aws, function, {"text": "as swift as the wind"}, 4)
    assert {(answer["words"], answer["longest"]) for answer in answers} == {(5, "swift")}
    assert len({answer["request_id"] for answer in answers}) == 4
    assert len(machines) == 1
    failed = aws.invoke(FunctionName=function, Payload=b"{}", LogType="Tail")
    assert json.loads(failed["Payload"].read())["errorMessage"] == "the event has no text"
    report = base64.b64decode(failed["LogResult"]).decode().splitlines()[-1]
    used = re.search("\tMax Memory Used: ([0-9]+) MB", report)
    assert used is not None, report
    assert 1 <= int(used[1]) < 512
