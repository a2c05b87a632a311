"""HTTP and streamed answers from real machines."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from tests.service.conftest import package
from tests.service.server import Server

Deploy = Callable[..., str]
NODE = """
exports.handler = awslambda.streamifyResponse(async (event, stream) => {
  const headers = { 'content-type': 'text/css', 'x-method': event.requestContext.http.method };
  stream = awslambda.HttpResponseStream.from(stream, { statusCode: 202, headers });
  for (let n = 0; n < 40; n += 1) stream.write(Buffer.alloc(65536, 'n'));
  stream.end('end');
});
"""
PYTHON = """
def handler(event, context):
    yield "first"
    for n in range(event["parts"]):
        yield b"p" * 65536
    if event["parts"] == 2:
        raise ValueError("late")
"""


def test_a_node_function_streams_to_an_http_client(aws: Any, server: Server, deploy: Deploy) -> None:
    code = {"ZipFile": package({"app.js": NODE})}
    name = deploy("", Runtime="nodejs18.x", Code=code)
    made = aws.create_function_url_config(FunctionName=name, AuthType="NONE", InvokeMode="RESPONSE_STREAM")
    url = made["FunctionUrl"]
    everyone = {"Principal": "*", "Action": "lambda:InvokeFunctionUrl", "FunctionUrlAuthType": "NONE"}
    aws.add_permission(FunctionName=name, StatementId="public", **everyone)
    address = urlsplit(server.environment()["ALCOVE_URL"])
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=120)
    connection.request("PUT", "/x", b"body", {"Host": urlsplit(url).netloc})
    answer = connection.getresponse()
    assert (answer.status, answer.headers["x-method"], answer.headers["content-type"]) == (202, "PUT", "text/css")
    assert answer.read() == b"n" * (40 * 65536) + b"end"
    connection.close()


def test_boto3_reads_what_a_python_function_yields(aws: Any, deploy: Deploy) -> None:
    name = deploy(PYTHON)

    def stream(parts: int) -> tuple[bytes, dict[str, Any]]:
        answer = aws.invoke_with_response_stream(FunctionName=name, Payload=json.dumps({"parts": parts}))
        events = list(answer["EventStream"])
        data = b"".join(one["PayloadChunk"]["Payload"] for one in events[:-1])
        return data, events[-1]["InvokeComplete"]

    assert stream(100) == (b"first" + b"p" * (100 * 65536), {})
    data, complete = stream(2)
    assert data == b"first" + b"p" * (2 * 65536)
    assert json.loads(complete["ErrorDetails"])["errorMessage"] == "late"
