"""Streamed answers of the runtimes as processes: parts, heads, failures before and in the midst, stalled hosts."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.runtime_process import RuntimeProcess, invoke_payload, node_runtime, provided_runtime, python_runtime

from alcove.wire.frame import Kind

HTTP = "application/vnd.awslambda.http-integration-response"
BYTES = "application/octet-stream"
with_node = pytest.mark.skipif(shutil.which("node") is None, reason="there is no node here")

PYTHON = """
def text(event, context):
    yield "gr\\u00fc"
    yield b"\\xff"
    yield bytearray(b"!")

def large(event, context):
    yield b"x" * 200_000
    yield b"y" * event

def head(event, context):
    return iter([{"statusCode": 201, "headers": {"x-a": "b"}}, b"body"])

def nothing(event, context):
    return iter(())

def early(event, context):
    raise ValueError("early")
    yield

def late(event, context):
    yield b"some"
    raise ValueError("late")

def wrong(event, context):
    yield b"some"
    yield 7

def leaves(event, context):
    yield b"some"
    raise SystemExit(3)

def plain(event, context):
    return event
"""
NODE = """
const { pipeline } = require('stream/promises');
const { Readable } = require('stream');
const s = awslambda.streamifyResponse;
exports.text = s(async (event, stream, context) => {
  stream.setContentType('text/plain');
  stream.write('gr\\u00fc');
  await new Promise((resolve) => setTimeout(resolve, 5));
  stream.write(Buffer.from([255]));
  stream.end(context.awsRequestId);
});
exports.large = s(async (event, stream) => {
  await pipeline(Readable.from([Buffer.alloc(200000, 'x'), Buffer.alloc(event, 'y')]), stream);
});
exports.head = s(async (event, stream) => {
  stream = awslambda.HttpResponseStream.from(stream, { statusCode: 201, headers: { 'x-a': 'b' } });
  stream.write('body');
  stream.end();
});
exports.nothing = s(async (event, stream) => { stream.end(); });
exports.unended = s(async (event, stream) => { stream.write('some'); });
exports.pending = s((event, stream) => { stream.write('some'); return new Promise(() => {}); });
exports.early = s(async () => { throw new TypeError('early'); });
exports.late = s(async (event, stream) => { stream.write('some'); throw new TypeError('late'); });
exports.destroyed = s(async (event, stream) => { stream.write('some'); stream.destroy(new TypeError('gone')); });
exports.stray = s(async (event, stream) => {
  stream.write('some');
  setTimeout(() => { throw new TypeError('stray'); }, 1);
  await new Promise((resolve) => setTimeout(resolve, 1000));
});
let kept;
exports.keeps = s(async (event, stream) => { if (kept) kept.write('from before'); kept = stream; stream.end('now'); });
exports.plain = async (event) => event;
"""


@pytest.fixture
def python() -> Iterator[RuntimeProcess]:
    with python_runtime() as process:
        yield process


@pytest.fixture
def node() -> Iterator[RuntimeProcess]:
    with node_runtime() as process:
        yield process


def root(folder: Path, name: str, source: str) -> Path:
    path = folder / name
    path.write_text(source)
    path.chmod(0o755)
    return folder


@pytest.mark.parametrize(
    ("handler", "expected"),
    [
        ("text", ("text/plain; charset=utf-8", "grü".encode() + b"\xff!", None)),
        ("large", (BYTES, b"x" * 200_000 + b"y" * 70_000, None)),
        ("head", (HTTP, b'{"statusCode": 201, "headers": {"x-a": "b"}}' + bytes(8) + b"body", None)),
        ("nothing", (BYTES, b"", None)),
        ("late", (BYTES, b"some", ("ValueError", "late"))),
        ("wrong", (BYTES, b"some", ("TypeError", "a streamed answer is made of bytes or text, not of int"))),
    ],
)
def test_python_handlers_that_yield(
    python: RuntimeProcess, tmp_path: Path, handler: str, expected: tuple[str, bytes, tuple[str, str] | None]
) -> None:
    python.loaded(root(tmp_path, "app.py", PYTHON), f"app.{handler}")
    for request_id in ("r-1", "r-2"):
        content_type, data, error = python.streamed(70_000, request_id=request_id)
        assert (content_type, data) == expected[:2]
        assert (error and (error["errorType"], error["errorMessage"])) == expected[2]
        assert python.marked(request_id)


def test_python_failures(python: RuntimeProcess, tmp_path: Path) -> None:
    python.loaded(root(tmp_path, "app.py", PYTHON), "app.early")
    assert python.failure()["errorMessage"] == "early"


def test_a_python_handler_that_exits_in_the_midst(python: RuntimeProcess, tmp_path: Path) -> None:
    python.loaded(root(tmp_path, "app.py", PYTHON), "app.leaves")
    assert python.streamed()[2]["errorType"] == "Runtime.ExitError"


def test_a_stalled_host_stalls_the_function(python: RuntimeProcess, tmp_path: Path) -> None:
    """What a function makes waits in the socket alone; nothing of it is lost."""
    source = (
        "def handler(event, context):\n"
        "  for n in range(400):\n"
        "    open(event, 'w').write(str(n))\n"
        "    yield b'z' * 65536\n"
    )
    progress = tmp_path / "progress"
    python.loaded(root(tmp_path, "app.py", source))
    number = python.send(Kind.INVOKE, invoke_payload(json.dumps(str(progress)).encode()))
    assert python.receive().kind is Kind.STREAM
    seen = -1
    while not progress.exists() or int(progress.read_text() or 0) != seen:
        seen = int(progress.read_text() or 0) if progress.exists() else -1
        time.sleep(0.2)
    assert seen < 100
    total = 0
    while (frame := python.receive()).kind is Kind.CHUNK:
        total += len(frame.payload)
    assert (frame.kind, frame.id, total) == (Kind.END, number, 400 * 65536)


@with_node
@pytest.mark.parametrize(
    ("handler", "expected"),
    [
        ("text", ("text/plain", "grü".encode() + b"\xffr-1", None)),
        ("large", (BYTES, b"x" * 200_000 + b"y" * 70_000, None)),
        ("head", (HTTP, b'{"statusCode":201,"headers":{"x-a":"b"}}' + bytes(8) + b"body", None)),
        ("nothing", (BYTES, b"", None)),
        ("unended", (BYTES, b"some", None)),
        ("pending", (BYTES, b"some", None)),
        ("late", (BYTES, b"some", "late")),
        ("destroyed", (BYTES, b"some", "gone")),
        ("stray", (BYTES, b"some", "stray")),
    ],
)
def test_node_handlers_that_stream(
    node: RuntimeProcess, tmp_path: Path, handler: str, expected: tuple[str, bytes, str | None]
) -> None:
    node.loaded(root(tmp_path, "app.js", NODE), f"app.{handler}")
    content_type, data, error = node.streamed(70_000)
    assert (content_type, data, error and error["errorMessage"]) == expected
    assert node.marked()


@with_node
def test_node_failures(node: RuntimeProcess, tmp_path: Path) -> None:
    node.loaded(root(tmp_path, "app.js", NODE), "app.early")
    assert node.failure()["errorMessage"] == "early"


@with_node
def test_a_stream_of_an_earlier_call_is_over(node: RuntimeProcess, tmp_path: Path) -> None:
    node.loaded(root(tmp_path, "app.js", NODE), "app.keeps")
    for request_id in ("r-1", "r-2", "r-3"):
        assert node.streamed(request_id=request_id) == (BYTES, b"now", None)


BOOTSTRAP = """#!/usr/bin/python3
import http.client, json, os, socket, sys, time
address = os.environ["AWS_LAMBDA_RUNTIME_API"]
host, _, port = address.partition(":")
api = "/2018-06-01/runtime/invocation/"
while True:
    connection = http.client.HTTPConnection(address)
    connection.request("GET", api + "next")
    answer = connection.getresponse()
    if answer.status != 200:
        # The answer that was cut short is still seen as going on.
        time.sleep(0.02)
        continue
    request_id = answer.headers["Lambda-Runtime-Aws-Request-Id"]
    event = json.loads(answer.read())
    sock = socket.create_connection((host, int(port)))
    def send(text):
        sock.sendall(text.encode() if isinstance(text, str) else text)
    def chunk(data):
        send(b"%x\\r\\n%b\\r\\n" % (len(data), data))
    if event != "plain":
        head = "POST " + api + request_id + "/response HTTP/1.1\\r\\nHost: x\\r\\n"
        send(head + "Lambda-Runtime-Function-Response-Mode: streaming\\r\\nTransfer-Encoding: chunked\\r\\n")
        send("Content-Type: text/css\\r\\nTrailer: Lambda-Runtime-Function-Error-Type\\r\\n\\r\\n")
        for part in range(event.get("parts", 1)):
            chunk(b"part" * event.get("size", 1))
    if event == "plain":
        connection.request("POST", api + request_id + "/response", b'"plain"')
        connection.getresponse().read()
    elif event["end"] == "well":
        send("0\\r\\n\\r\\n")
    elif event["end"] == "trailers":
        import base64
        body = base64.b64encode(b'{"errorType": "Late", "errorMessage": "as told"}').decode()
        send("0\\r\\nLambda-Runtime-Function-Error-Type: Late\\r\\nLambda-Runtime-Function-Error-Body: " + body)
        send("\\r\\n\\r\\n")
    elif event["end"] == "exit":
        sys.exit(3)
    elif event["end"] == "garbage":
        send("no chunk\\r\\n")
    elif event["end"] == "second":
        # Until the first has been seen: of two that come together either may be first.
        time.sleep(1)
        connection.request("POST", api + request_id + "/response", b'"second"')
        assert connection.getresponse().status == 400
        send("0\\r\\n\\r\\n")
    if event != "plain" and event["end"] != "cut":
        sock.recv(100)
    sock.close()
"""


@pytest.mark.parametrize(
    ("end", "error"),
    [
        ("well", None),
        ("second", None),
        ("trailers", "Late"),
        ("cut", "Runtime.TruncatedResponse"),
        ("garbage", "Runtime.TruncatedResponse"),
        ("exit", None),
    ],
)
def test_a_bootstrap_that_streams(tmp_path: Path, end: str, error: str | None) -> None:
    with provided_runtime() as runtime:
        runtime.loaded(root(tmp_path, "bootstrap", BOOTSTRAP))
        found = runtime.streamed({"end": end, "parts": 3, "size": 50_000})
        assert found[:2] == ("text/css", b"part" * 150_000)
        if end == "exit":
            # Whichever is seen first, the end of its process or of its connection.
            assert found[2]["errorType"] in ("Runtime.ExitError", "Runtime.TruncatedResponse")
        else:
            assert (found[2] and found[2]["errorType"]) == error
            assert runtime.marked()
            assert runtime.result("plain", request_id="r-2") == "plain"


def test_a_bootstrap_may_stream_more_than_a_buffered_answer_has(tmp_path: Path) -> None:
    with provided_runtime() as runtime:
        runtime.loaded(root(tmp_path, "bootstrap", BOOTSTRAP))
        assert len(runtime.streamed({"end": "well", "parts": 3, "size": 1 << 20})[1]) == 12 << 20


LAST_WORDS = """#!/usr/bin/python3
import http.client, os, socket
api = os.environ["AWS_LAMBDA_RUNTIME_API"]
connection = http.client.HTTPConnection(api)
connection.request("GET", "/2018-06-01/runtime/invocation/next")
answer = connection.getresponse()
answer.read()
path = "/2018-06-01/runtime/invocation/" + answer.headers["Lambda-Runtime-Aws-Request-Id"] + "/response"
host, port = api.split(":")
sock = socket.create_connection((host, int(port)))
sock.sendall(f"POST {path} HTTP/1.1\\r\\nContent-Length: 6\\r\\n\\r\\n\\"last\\"".encode())
os._exit(0)
"""


def test_an_answer_counts_though_its_bootstrap_ends_with_it(tmp_path: Path) -> None:
    for attempt in range(5):
        with provided_runtime() as runtime:
            folder = tmp_path / str(attempt)
            folder.mkdir()
            runtime.loaded(root(folder, "bootstrap", LAST_WORDS))
            assert runtime.result({}) == "last"
