"""Stock runtimes under ``provided``, unmodified, in real machines: AWS's clients for Python, Node.js and Java, its
library for Go.
"""

from __future__ import annotations

import io
import json
import os
import time
import zipfile
from collections.abc import Callable
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


def test_the_stock_node_client_streams(aws: Any, deploy: Callable[..., str]) -> None:
    code = {"ZipFile": zipped(build("node"))}
    function = deploy("", Runtime="provided.al2023", Handler="app.stream", Code=code, MemorySize=512, Timeout=60)

    def stream(**event: Any) -> tuple[bytes, dict[str, Any]]:
        answer = aws.invoke_with_response_stream(FunctionName=function, Payload=json.dumps(event))
        *parts, last = answer["EventStream"]
        return b"".join(part["PayloadChunk"]["Payload"] for part in parts), last["InvokeComplete"]

    assert stream(parts=120) == (b"r" * (120 * 65536) + b"end", {})
    data, complete = stream(parts=2, fail=True)
    assert data == b"r" * (2 * 65536)
    assert json.loads(complete["ErrorDetails"])["errorMessage"] == "in the midst"
    assert stream(parts=0) == (b"end", {})
