"""Log lines in the shapes that AWS documents: text and JSON, of the runtimes that shape them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.runtime_process import RuntimeProcess, cut, invoke_payload, node_runtime, python_runtime

from alcove.wire.frame import Kind

STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
PYTHON = """
import logging, os
log = logging.getLogger("shop")
def handler(event, context):
    log.debug("below")
    log.info("sold %d", 2, extra={"item": "tea"})
    try:
        1 / 0
    except ZeroDivisionError:
        log.exception("failed")
    if event:
        raise ValueError("no")
    return [os.environ["AWS_LAMBDA_LOG_FORMAT"], os.environ.get("AWS_LAMBDA_LOG_LEVEL")]
"""
NODE = """
exports.handler = async (event) => {
  console.debug('below');
  console.info('sold %d', 2);
  console.warn({item: 'tea'});
  console.error('failed', new RangeError('why'));
  console.log('two\\nlines');
  if (event) throw new RangeError('no');
  return [process.env.AWS_LAMBDA_LOG_FORMAT, process.env.AWS_LAMBDA_LOG_LEVEL ?? null];
};
"""


@pytest.fixture
def python(tmp_path: Path) -> Iterator[RuntimeProcess]:
    (tmp_path / "app.py").write_text(PYTHON)
    with python_runtime() as process:
        yield process


@pytest.fixture
def node(tmp_path: Path) -> Iterator[RuntimeProcess]:
    (tmp_path / "app.js").write_text(NODE)
    with node_runtime() as process:
        yield process


def printed(process: RuntimeProcess, request_id: str = "r-1") -> str:
    assert process.marked(request_id)
    return process.stdout()


def objects(process: RuntimeProcess, request_id: str = "r-1") -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in printed(process, request_id).splitlines()]
    for line in lines:
        assert re.fullmatch(STAMP, line["timestamp"])
    return lines


def test_python_text(python: RuntimeProcess, tmp_path: Path) -> None:
    assert python.loaded(tmp_path).result(None) == ["Text", None]
    # The root logger's level is WARNING, as on AWS.
    first, *stack = printed(python).splitlines()
    assert re.fullmatch(rf"\[ERROR\]\t{STAMP.replace('{3}', '+')}\tr-1\tfailed", first)
    assert stack[-1] == "ZeroDivisionError: division by zero"


def test_python_json(python: RuntimeProcess, tmp_path: Path) -> None:
    process = python.loaded(tmp_path, logging={"format": "JSON", "level": "INFO"})
    assert process.result(None, request_id="r-2") == ["JSON", "INFO"]
    sold, failed = objects(process, "r-2")
    assert {name: sold[name] for name in ("level", "message", "logger", "requestId", "item")} == {
        "level": "INFO", "message": "sold 2", "logger": "shop", "requestId": "r-2", "item": "tea",
    }  # fmt: skip
    assert (failed["level"], failed["errorType"], failed["errorMessage"]) == (
        "ERROR", "ZeroDivisionError", "division by zero",
    )  # fmt: skip
    assert failed["location"].endswith("app.py:handler:10")


def test_python_levels(python: RuntimeProcess, tmp_path: Path) -> None:
    process = python.loaded(tmp_path, logging={"format": "JSON", "level": "FATAL"})
    process.result(None)
    assert objects(process) == []


def test_python_tells_what_failed(python: RuntimeProcess, tmp_path: Path) -> None:
    python.loaded(tmp_path).failure(1)
    assert "[ERROR] ValueError: no\nTraceback (most recent call last):\n" in printed(python)
    assert python.stdout().rstrip().endswith('raise ValueError("no")')


def test_python_forgets_a_function(python: RuntimeProcess, tmp_path: Path) -> None:
    python.loaded(tmp_path, logging={"format": "JSON", "level": "DEBUG"}).result(None)
    python.unload()
    before = len(printed(python))
    python.loaded(tmp_path).result(None, request_id="r-2")
    assert printed(python, "r-2")[before:].startswith("[ERROR]\t")


def test_node_text(node: RuntimeProcess, tmp_path: Path) -> None:
    assert node.loaded(tmp_path).result(None) == ["Text", None]
    lines = [line.split("\t") for line in printed(node).split("\n")[:-1]]
    assert all(re.fullmatch(STAMP, line[0]) and line[1] == "r-1" for line in lines)
    assert [line[2] for line in lines] == ["DEBUG", "INFO", "WARN", "ERROR", "INFO"]
    assert lines[1][3] == "sold 2"
    # One entry is one line.
    assert lines[4][3] == "two\rlines"


def test_node_json(node: RuntimeProcess, tmp_path: Path) -> None:
    process = node.loaded(tmp_path, logging={"format": "JSON", "level": "INFO"})
    assert process.result(None, request_id="r-2") == ["JSON", "INFO"]
    sold, tea, failed, two = objects(process, "r-2")
    assert {line["requestId"] for line in (sold, tea, failed, two)} == {"r-2"}
    assert (sold["level"], sold["message"]) == ("INFO", "sold 2")
    assert (tea["level"], tea["message"]) == ("WARN", {"item": "tea"})
    assert (failed["level"], failed["errorType"], failed["errorMessage"]) == ("ERROR", "RangeError", "why")
    assert two["message"] == "two\nlines"


def test_node_levels_and_failures(node: RuntimeProcess, tmp_path: Path) -> None:
    process = node.loaded(tmp_path, logging={"format": "JSON", "level": "ERROR"})
    process.failure(1)
    failed, told = objects(process)
    assert failed["errorMessage"] == "why"
    assert (told["level"], told["message"]["errorType"], told["message"]["errorMessage"]) == (
        "ERROR",
        "RangeError",
        "no",
    )


SHARED_NODE = """
exports.handler = async (event) => {
  await new Promise((resolve) => setTimeout(resolve, event));
  console.log('after', event);
};
"""
SHARED_PYTHON = """
import logging, time
def handler(event, context):
    time.sleep(event / 1000)
    logging.getLogger().warning("after %d", event)
"""


@pytest.mark.parametrize(("file", "source"), [("app.js", SHARED_NODE), ("app.py", SHARED_PYTHON)])
def test_lines_of_requests_side_by_side_are_their_own(tmp_path: Path, file: str, source: str) -> None:
    (tmp_path / file).write_text(source)
    with (node_runtime if file == "app.js" else python_runtime)() as process:
        process.loaded(tmp_path, logging={"format": "JSON", "level": "INFO"})
        waits = {"r-1": 200, "r-2": 50, "r-3": 100}
        for request_id, wait in waits.items():
            process.send(Kind.INVOKE, invoke_payload(str(wait).encode(), request_id=request_id, shared=True))
        for _ in waits:
            assert process.receive().kind is Kind.RESULT
        assert all(process.marked(request_id) for request_id in waits)
        found = {name: json.loads(text) for name, text in cut(process, list(waits)).items()}
    assert all(line["requestId"] == name for name, line in found.items())
    messages = {name: line["message"] for name, line in found.items()}
    assert messages == {name: f"after {wait}" for name, wait in waits.items()}
