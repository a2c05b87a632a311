"""Streamed answers over the real server: stock boto3 reads events, HTTP clients read chunks."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import socket
import time
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError
from click.testing import CliRunner, Result
from tests.parity.conftest import HELLO, ROLE, Platform
from tests.parity.test_function_urls import call, make

from alcove.cli.app import root

assert make
HTTP = "application/vnd.awslambda.http-integration-response"
HEAD = '{"statusCode": 202, "headers": {"X-A": "b"}, "cookies": ["c=1"]}' + "\0" * 8
JSON = {"Content-Type": "application/json"}


def create(aws: Any, name: str, handler: str, **options: Any) -> str:
    aws.create_function(
        FunctionName=name, Runtime="python3.11", Role=ROLE, Handler=handler, Code={"ZipFile": HELLO}, **options
    )
    return name


def stream(aws: Any, name: str, event: Any, **options: Any) -> tuple[bytes, dict[str, Any], Any]:
    answer = aws.invoke_with_response_stream(FunctionName=name, Payload=json.dumps(event), **options)
    data, complete = b"", []
    for one in answer["EventStream"]:
        if "PayloadChunk" in one:
            data += one["PayloadChunk"]["Payload"]
        else:
            complete.append(one["InvokeComplete"])
    assert len(complete) == 1
    return data, complete[0], answer


@pytest.fixture(scope="module")
def streams(aws: Any) -> Any:
    yield create(aws, "streams", "stream", Timeout=60)
    aws.delete_function(FunctionName="streams")


def test_boto3_reads_the_parts(aws: Any, streams: str) -> None:
    event = {"type": "text/plain", "parts": ["one", "two", "x" * 70_000]}
    data, complete, answer = stream(aws, streams, event, LogType="Tail")
    assert data.decode() == "onetwo" + "x" * 70_000
    assert "ErrorCode" not in complete
    assert "START RequestId" in base64.b64decode(complete["LogResult"]).decode()
    assert (answer["StatusCode"], answer["ExecutedVersion"]) == (200, "$LATEST")
    assert answer["ResponseStreamContentType"] == "application/vnd.amazon.eventstream"
    sent = answer["ResponseMetadata"]["HTTPHeaders"]
    span = sent["traceparent"].split("-")[2]
    assert sent["x-amzn-trace-id"].endswith(f";Parent={span};Sampled=0")
    aws.publish_version(FunctionName=streams)
    assert stream(aws, streams, event, Qualifier="1")[2]["ExecutedVersion"] == "1"
    dry = aws.invoke_with_response_stream(FunctionName=streams, InvocationType="DryRun")
    assert dry["ResponseMetadata"]["HTTPStatusCode"] == 204


def test_a_large_stream_passes_a_small_memory(aws: Any, streams: str) -> None:
    data, complete, _ = stream(aws, streams, {"type": "a/b", "parts": ["z" * 65_536], "times": 300})
    assert (len(data), complete) == (300 * 65_536, {})


def test_a_function_that_fails_in_the_midst(aws: Any, streams: str) -> None:
    error = '{"errorType": "Late", "errorMessage": "no"}'
    data, complete, _ = stream(aws, streams, {"type": "a/b", "parts": ["some"], "error": error})
    assert data == b"some"
    assert (complete["ErrorCode"], json.loads(complete["ErrorDetails"])["errorType"]) == ("Unhandled", "Late")
    data, complete, _ = stream(aws, streams, {"type": "a/b", "parts": ["some"], "error": "exit"})
    assert data == b"some"
    assert json.loads(complete["ErrorDetails"])["errorType"] == "Runtime.ExitError"


def test_a_stream_over_its_limit(aws: Any, streams: str) -> None:
    data, complete, _ = stream(aws, streams, {"type": "a/b", "parts": ["z" * 65_536], "times": 400})
    assert len(data) == 20 << 20
    assert json.loads(complete["ErrorDetails"])["errorType"] == "Function.ResponseSizeTooLarge"


@pytest.mark.parametrize(
    ("handler", "error"), [("raise", "ValueError"), ("initfail", "Boom"), ("hang", "Sandbox.Timedout")]
)
def test_a_function_that_fails_before(aws: Any, handler: str, error: str) -> None:
    name = create(aws, f"early-{handler}", handler, Timeout=1)
    data, complete, _ = stream(aws, name, {})
    assert (data, complete["ErrorCode"]) == (b"", "Unhandled")
    assert json.loads(complete["ErrorDetails"])["errorType"] == error
    aws.delete_function(FunctionName=name)


def test_a_function_that_does_not_stream(aws: Any, function: str) -> None:
    assert stream(aws, function, {"a": 1})[:2] == (b'{"a": 1}', {})


def test_a_streaming_function_invoked_as_a_whole(aws: Any, streams: str) -> None:
    event = {"type": "a/b", "parts": ["one", "two"]}
    answer = aws.invoke(FunctionName=streams, Payload=json.dumps(event))
    assert (answer["Payload"].read(), "FunctionError" in answer) == (b"onetwo", False)


def test_refusals(aws: Any, platform: Platform, streams: str) -> None:
    for arguments, status in (
        ({"FunctionName": "nobody"}, 404),
        ({"FunctionName": "streams", "Payload": "{"}, 400),
        ({"FunctionName": "streams", "InvocationType": "Event"}, 400),
    ):
        with pytest.raises(ClientError) as caught:
            aws.invoke_with_response_stream(**arguments)
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
    other = platform.aws(platform.other_access_key, platform.other_secret)
    with pytest.raises(ClientError):
        other.invoke_with_response_stream(FunctionName="streams")


def test_the_command(platform: Platform, streams: str) -> None:
    def alcove(event: Any, *options: str) -> Result:
        arguments = ["fn", "invoke", streams, json.dumps(event), "--stream", *options]
        return CliRunner().invoke(root, arguments, env={"ALCOVE_RUN": str(platform.socket.parent)})

    parts = {"type": "a/b", "parts": ["one", "two" * 30_000]}
    done = alcove(parts, "--logs")
    assert (done.exit_code, done.stdout) == (0, "one" + "two" * 30_000)
    assert "START RequestId" in done.stderr
    failed = alcove({**parts, "error": '{"errorMessage": "no"}'})
    assert (failed.exit_code, failed.stdout[:3]) == (1, "one")
    assert '"no"' in failed.stderr
    assert alcove(parts, "--json").exit_code == 2


# Function URLs


def test_a_url_streams(platform: Platform, make: Any) -> None:
    _, url = make("stream", InvokeMode="RESPONSE_STREAM")
    plain = call(platform, url, "POST", body=json.dumps({"type": "text/css", "parts": ["a", "b"]}), headers=JSON)
    assert (plain.status, plain.headers["content-type"], plain.body) == (200, "text/css", b"ab")
    assert plain.headers["transfer-encoding"] == "chunked"
    for parts in ([HEAD, "body"], [HEAD[:7], HEAD[7:] + "bo", "dy"], [HEAD + "body"]):
        answer = call(platform, url, "POST", body=json.dumps({"type": HTTP, "parts": parts}), headers=JSON)
        assert (answer.status, answer.headers["x-a"], answer.body) == (202, "b", b"body")
        assert answer.headers["set-cookie"] == "c=1"


def test_a_buffered_url_of_a_streaming_function(platform: Platform, make: Any) -> None:
    _, url = make("stream")
    answer = call(platform, url, "POST", body=json.dumps({"type": HTTP, "parts": [HEAD, "body"]}), headers=JSON)
    assert (answer.status, answer.headers["content-length"], answer.body) == (202, "4", b"body")
    answer = call(platform, url, "POST", body=json.dumps({"type": "text/css", "parts": ["a"]}), headers=JSON)
    assert (answer.headers["content-type"], answer.body) == ("text/css", b"a")


@pytest.mark.parametrize("mode", ["BUFFERED", "RESPONSE_STREAM"])
@pytest.mark.parametrize(
    "parts",
    [["{}"], ["{" + "\0" * 8], ["7" + "\0" * 8], ['{"statusCode": 99}' + "\0" * 8], ["x" * 40_000], []],
)
def test_a_head_that_is_none(platform: Platform, make: Any, mode: str, parts: list[str]) -> None:
    _, url = make("stream", InvokeMode=mode)
    assert call(platform, url, "POST", body=json.dumps({"type": HTTP, "parts": parts}), headers=JSON).status == 502


def test_a_url_whose_function_fails_in_the_midst_has_no_end(platform: Platform, make: Any) -> None:
    _, url = make("stream", InvokeMode="RESPONSE_STREAM")
    event = {"type": "text/css", "parts": ["some"], "error": '{"errorType": "Late"}'}
    with pytest.raises(http.client.IncompleteRead) as caught:
        call(platform, url, "POST", body=json.dumps(event), headers=JSON)
    assert caught.value.partial == b"some"
    _, url = make("raise", InvokeMode="RESPONSE_STREAM")
    assert call(platform, url, "POST", body="{}", headers=JSON).status == 502


def post(url: str, body: str) -> bytes:
    lines = (f"Host: {urlsplit(url).netloc}", "Content-Type: application/json", f"Content-Length: {len(body)}")
    return "\r\n".join(("POST / HTTP/1.1", *lines, "", body)).encode()


def test_a_slow_client_stalls_the_function_until_its_time_out(platform: Platform, make: Any) -> None:
    _, url = make("stream", timeout=1, InvokeMode="RESPONSE_STREAM")
    body = json.dumps({"type": "a/b", "parts": ["z" * 65_536], "times": 300})
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", platform.port))
        client.sendall(post(url, body))
        time.sleep(1.5)
        client.settimeout(20)
        received = b""
        with contextlib.suppress(ConnectionError):
            while data := client.recv(1 << 20):
                received += data
    # Its end never came: the function was stopped while it waited.
    assert not received.endswith(b"0\r\n\r\n")
    assert len(received) < 300 * 65_536


def test_a_client_that_goes_away_leaves_the_function_alone(aws: Any, platform: Platform, make: Any) -> None:
    name, url = make("stream", timeout=60, InvokeMode="RESPONSE_STREAM")
    body = json.dumps({"type": "a/b", "parts": ["z" * 65_536], "times": 300})
    with socket.socket() as client:
        client.connect(("127.0.0.1", platform.port))
        client.sendall(post(url, body))
        assert client.recv(100)
    # The same instance serves the next call: it was neither killed nor left waiting.
    answer = aws.invoke(FunctionName=name, Payload=json.dumps({"type": "a/b", "parts": ["x"]}))
    assert answer["Payload"].read() == b"x"
