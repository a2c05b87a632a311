"""The runtime ``provided`` as a process: bootstraps, the Runtime API over real sockets, failures."""

from __future__ import annotations

import http.client
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.runtime_process import (
    ARN,
    RuntimeProcess,
    eventually,
    invoke_payload,
    load_payload,
    provided_runtime,
)

from alcove.wire.frame import Kind

API = "/2018-06-01/runtime"
MIB = 1024 * 1024
# The bootstrap of AWS's tutorial: a shell and curl.
CURL = """#!/bin/sh
set -eu
url=http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime
while :; do
  curl -sS -D headers -o event "$url/invocation/next"
  id=$(grep -i '^Lambda-Runtime-Aws-Request-Id:' headers | tr -d '\\r' | cut -d' ' -f2)
  echo "handling $id"
  HANDLE
  curl -sS -o answer --data-binary @reply "$url/invocation/$id/WHAT" -H 'Expect:'
done
"""


@pytest.fixture
def runtime() -> Iterator[RuntimeProcess]:
    with provided_runtime() as process:
        yield process


def bootstrap(root: Path, source: str, mode: int = 0o755) -> Path:
    path = root / "bootstrap"
    path.write_text(source)
    path.chmod(mode)
    return root


def curl(handle: str, what: str = "response") -> str:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl here")
    return CURL.replace("HANDLE", handle).replace("WHAT", what)


class Client:
    """Stands for a bootstrap's HTTP client; the bootstrap itself only tells where the API is."""

    def __init__(self, runtime: RuntimeProcess, root: Path, **load: Any) -> None:
        self.runtime = runtime
        bootstrap(root, '#!/bin/sh\necho "$AWS_LAMBDA_RUNTIME_API"\nexec sleep 100\n')
        runtime.send(Kind.LOAD, load_payload(root, "any", **load))
        assert eventually(lambda: "\n" in runtime.stdout())
        self.host, _, port = runtime.stdout().strip().partition(":")
        self.port = int(port)
        self.connection = self.connect()

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.host, self.port, timeout=20)

    def begin_next(self) -> None:
        self.connection.request("GET", f"{API}/invocation/next")

    def loaded(self) -> Client:
        self.begin_next()
        assert self.runtime.receive().kind is Kind.LOADED
        return self

    def invoked(self, event: bytes = b"{}", **call: Any) -> http.client.HTTPResponse:
        """Send an INVOKE and fetch it, as the bootstrap that has asked for it."""
        self.runtime.send(Kind.INVOKE, invoke_payload(event, **call))
        return self.connection.getresponse()

    def call(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, **options: Any
    ) -> tuple[int, Any]:
        self.connection.request(method, API + path, body, headers or {}, **options)
        return self.answer()

    def answer(self) -> tuple[int, Any]:
        response = self.connection.getresponse()
        body = response.read()
        assert response.headers["Content-Type"] == "application/json"
        return response.status, json.loads(body) if body else None


@pytest.fixture
def client(runtime: RuntimeProcess, tmp_path: Path) -> Iterator[Client]:
    client = Client(runtime, tmp_path)
    yield client
    client.connection.close()


# Bootstraps


def test_a_shell_script_with_curl(runtime: RuntimeProcess, tmp_path: Path) -> None:
    runtime.loaded(bootstrap(tmp_path, curl("(cat event; echo !) > reply")))
    for number in range(3):
        frame = runtime.invoke(b"not json %d" % number, request_id=f"r-{number}")
        assert (frame.kind, frame.payload) == (Kind.RESULT, b"not json %d!\n" % number)
        assert runtime.marked(f"r-{number}")
    assert runtime.stdout() == "handling r-0\nhandling r-1\nhandling r-2\n"


def test_errors_of_a_shell_script(runtime: RuntimeProcess, tmp_path: Path) -> None:
    error = '{"errorMessage": "m", "errorType": "T", "stackTrace": ["s"]}'
    runtime.loaded(bootstrap(tmp_path, curl(f"echo '{error}' > reply", "error")))
    assert runtime.failure() == json.loads(error)


def test_environment_and_descriptors(runtime: RuntimeProcess, tmp_path: Path) -> None:
    handle = "(env; pwd; ls -l /proc/$$/fd; grep SigIgn /proc/$$/status) > reply"
    runtime.loaded(bootstrap(tmp_path, curl(handle)), environment={"MINE": "1"})
    lines = runtime.invoke().payload.decode().splitlines()
    for expected in (
        "MINE=1",
        "_HANDLER=app.handler",
        f"LAMBDA_TASK_ROOT={tmp_path}",
        "AWS_LAMBDA_FUNCTION_NAME=sample",
        "AWS_LAMBDA_FUNCTION_VERSION=7",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE=256",
        "TZ=:UTC",
        "HOME=/tmp",
        str(tmp_path),
    ):
        assert expected in lines
    assert not [line for line in lines if line.startswith(("ALCOVE", "PYTHONPATH"))]
    assert not [line for line in lines if "socket:" in line]
    assert [line for line in lines if line.endswith(" 0 -> /dev/null")]
    ignored = next(line for line in lines if line.startswith("SigIgn")).split()[1]
    # Signals 32 and 33 are glibc's own, and posix_spawn leaves them ignored.
    assert int(ignored, 16) & 0x7FFF_FFFF == 0


@pytest.mark.parametrize(
    ("source", "mode", "kind", "message"),
    [
        (None, 0, "Runtime.InvalidEntrypoint", "Couldn't find valid bootstrap(s): ["),
        ("#!/bin/sh", 0o644, "Runtime.InvalidEntrypoint", "bootstrap: permission denied"),
        ("no program", 0o755, "Runtime.InvalidEntrypoint", "bootstrap: exec format error"),
        ("#!/no/such", 0o755, "Runtime.InvalidEntrypoint", "bootstrap: no such file"),
        ("#!/bin/sh\nexit 3", 0o755, "Runtime.ExitError", "exited with error: exit status 3"),
        ("#!/bin/sh\nkill -9 $$", 0o755, "Runtime.ExitError", "with error: signal: killed"),
    ],
)
def test_bootstraps_that_do_not_start(
    runtime: RuntimeProcess,
    tmp_path: Path,
    source: str | None,
    mode: int,
    kind: str,
    message: str,
) -> None:
    if source is not None:
        bootstrap(tmp_path, source, mode)
    failure = runtime.fails_to_load(tmp_path)
    assert failure["errorType"] == kind
    assert message in failure["errorMessage"]
    assert failure["stackTrace"] == []
    assert runtime.request(Kind.PING, b"still").payload == b"still"


def test_an_end_in_the_middle_of_a_call(runtime: RuntimeProcess, tmp_path: Path) -> None:
    runtime.loaded(bootstrap(tmp_path, curl("exit 5")))
    began = time.monotonic()
    assert runtime.failure() == {
        "errorType": "Runtime.ExitError",
        "errorMessage": "RequestId: r-1 Error: Runtime exited with error: exit status 5",
        "stackTrace": [],
    }
    assert time.monotonic() - began < 2
    assert runtime.process.wait(5) == 1
    assert runtime.marked()


def test_an_end_between_calls(runtime: RuntimeProcess, tmp_path: Path) -> None:
    source = "echo $PPID > ppid; (sleep 0.1; kill -9 $$) & touch reply"
    runtime.loaded(bootstrap(tmp_path, curl(source)))
    runtime.invoke()
    assert runtime.process.wait(5) == 1


def test_unload_kills_the_whole_group(runtime: RuntimeProcess, tmp_path: Path) -> None:
    bootstrap(tmp_path, curl(":").replace("while", "sleep 300 & echo $! $$\nwhile"))
    runtime.loaded(tmp_path)
    pids = runtime.stdout().split()
    runtime.unload()
    assert len(pids) == 2
    for pid in pids:
        stat = Path(f"/proc/{pid}/stat")
        # Orphans of a test's are somebody else's to reap.
        assert eventually(lambda stat=stat: not stat.exists() or ") Z " in stat.read_text())
    assert runtime.failure()["errorType"] == "Runtime.NotLoaded"
    runtime.loaded(bootstrap(tmp_path, curl("echo again > reply")))
    assert runtime.invoke().payload == b"again\n"


def test_a_named_channel_descriptor(tmp_path: Path) -> None:
    with provided_runtime(channel_fd=3) as runtime:
        runtime.loaded(bootstrap(tmp_path, curl("ls -l /proc/$$/fd > reply")))
        assert b"socket:" not in runtime.invoke().payload


def test_ends_with_the_host(tmp_path: Path) -> None:
    with provided_runtime() as runtime:
        runtime.socket.close()
        assert runtime.process.wait(5) == 0


def test_rehearsals(runtime: RuntimeProcess, tmp_path: Path) -> None:
    bootstrap(tmp_path, "#!/bin/sh\nexit 0\n")
    for _ in range(2):
        runtime.loaded(tmp_path, "rehearsal.handler", rehearsal=True)
        assert runtime.invoke(b'{"rehearsal": true}').payload == b'{"rehearsal": true}'
        assert runtime.hook("before_snapshot").kind is Kind.DONE
        runtime.unload()
    runtime.loaded(bootstrap(tmp_path, curl("env > reply")))
    assert b"rehearsal.handler" not in runtime.invoke().payload


# The API


def test_headers_of_an_event(client: Client) -> None:
    response = client.loaded().invoked(
        b"\0\xff raw", deadline_ms=1234, trace_id="Root=1", client_context='{"a":\n1}', identity="i"
    )
    assert response.read() == b"\0\xff raw"
    headers = {k: v for k, v in response.headers.items() if k.startswith("Lambda-")}
    assert headers == {
        "Lambda-Runtime-Aws-Request-Id": "r-1",
        "Lambda-Runtime-Deadline-Ms": "1234",
        "Lambda-Runtime-Invoked-Function-Arn": ARN,
        "Lambda-Runtime-Trace-Id": "Root=1",
        "Lambda-Runtime-Client-Context": '{"a": 1}',
        "Lambda-Runtime-Cognito-Identity": "i",
    }
    answer = client.call("POST", "/invocation/r-1/response", b"\xfe")
    assert answer == (202, {"status": "OK"})
    assert client.runtime.receive()[::2] == (Kind.RESULT, b"\xfe")


def test_chunked_answers_over_one_connection(client: Client) -> None:
    client.loaded()
    for size in (0, 1, 100_000):
        client.invoked().read()
        chunks = [b"x" * size, b"tail"] if size else [b"tail"]
        answer = client.call("POST", "/invocation/r-1/response", iter(chunks), encode_chunked=True)
        assert answer[0] == 202
        assert client.runtime.receive().payload == b"".join(chunks)
        client.begin_next()


def test_errors_in_trailers(client: Client) -> None:
    client.loaded().invoked().read()
    sock = client.connection.sock
    assert sock is not None
    sock.sendall(
        f"POST {API}/invocation/r-1/response HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        "3;x=y\r\nabc\r\n0\r\nLambda-Runtime-Function-Error-Type: Late\r\n\r\n".encode()
    )
    frame = client.runtime.receive()
    assert frame.kind is Kind.FAILURE
    assert json.loads(frame.payload)["errorType"] == "Late"


def test_continue(client: Client) -> None:
    client.loaded().invoked().read()
    sock = client.connection.sock
    assert sock is not None
    head = f"POST {API}/invocation/r-1/response HTTP/1.1\r\nExpect: 100-continue\r\n"
    sock.sendall(f"{head}Content-Length: 3\r\n\r\n".encode())
    assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    sock.sendall(b"abc")
    assert client.runtime.receive().payload == b"abc"


def test_events_and_answers_of_six_megabytes(client: Client) -> None:
    event = bytes(range(256)) * (6 * MIB // 256)
    assert client.loaded().invoked(event).read() == event
    assert client.call("POST", "/invocation/r-1/response", event)[0] == 202
    frame = client.runtime.receive()
    assert (frame.kind, frame.payload == event) == (Kind.RESULT, True)


@pytest.mark.parametrize("chunked", [False, True])
def test_answers_that_are_too_large(client: Client, chunked: bool) -> None:
    client.loaded().invoked().read()
    body: Any = b"x" * (6 * MIB + 1)
    if chunked:
        body = iter([body[: 3 * MIB], body[3 * MIB :]])
    status, document = client.call("POST", "/invocation/r-1/response", body, encode_chunked=chunked)
    assert (status, document["errorType"]) == (413, "RequestEntityTooLarge")
    frame = client.runtime.receive()
    assert frame.kind is Kind.FAILURE
    assert json.loads(frame.payload)["errorType"] == "Function.ResponseSizeTooLarge"
    # The same connection serves on.
    client.begin_next()
    assert client.invoked(b"next").read() == b"next"


@pytest.mark.parametrize(
    ("body", "kind", "expected"),
    [
        (
            b'{"errorMessage": "m", "errorType": "T"}',
            "Function.Other",
            {"errorMessage": "m", "errorType": "T"},
        ),
        (b'{"errorMessage": "m"}', "Function.K", {"errorMessage": "m", "errorType": "Function.K"}),
        (
            b"plain",
            "Function.K",
            {"errorMessage": "plain", "errorType": "Function.K", "stackTrace": []},
        ),
        (b"", None, {"errorMessage": "", "errorType": "Runtime.Unknown", "stackTrace": []}),
    ],
)
def test_reported_errors(client: Client, body: bytes, kind: str | None, expected: dict[str, Any]) -> None:
    client.loaded().invoked().read()
    headers = {"Lambda-Runtime-Function-Error-Type": kind} if kind else {}
    assert client.call("POST", "/invocation/r-1/error", body, headers)[0] == 202
    frame = client.runtime.receive()
    assert (frame.kind, json.loads(frame.payload)) == (Kind.FAILURE, expected)


def test_init_errors(client: Client) -> None:
    body = b'{"errorMessage": "m", "errorType": "T", "stackTrace": []}'
    assert client.call("POST", "/init/error", body) == (202, {"status": "OK"})
    frame = client.runtime.receive()
    assert (frame.kind, frame.payload) == (Kind.FAILURE, body)


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("GET", "/nothing", 404, "InvalidPath"),
        ("POST", "/invocation/a/b/c", 404, "InvalidPath"),
        ("POST", "/invocation/next", 405, "MethodNotAllowed"),
        ("PUT", "/invocation/r-1/response", 405, "MethodNotAllowed"),
        ("POST", "/invocation/r-9/response", 400, "InvalidRequestID"),
        ("POST", "/invocation/r-9/error", 400, "InvalidRequestID"),
        ("POST", "/init/error", 403, "InvalidStateTransition"),
        ("GET", "/invocation/next", 403, "InvalidStateTransition"),
    ],
)
def test_refusals(client: Client, method: str, path: str, status: int, kind: str) -> None:
    client.loaded().invoked().read()
    answered, document = client.call(method, path, b"{}" if method != "GET" else None)
    assert (answered, document["errorType"]) == (status, kind)
    assert document["errorMessage"]
    assert client.call("POST", "/invocation/r-1/response", b"ok")[0] == 202
    assert client.runtime.receive().payload == b"ok"


def test_head_has_no_body(client: Client) -> None:
    client.loaded().invoked().read()
    assert client.call("HEAD", "/invocation/next") == (405, None)
    assert client.call("GET", "/nothing")[0] == 404


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"garbage\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 10_000, 431),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 7000000\r\n\r\n", 413),
        (b"GET / HTTP/1.0\r\n\r\n", 404),
        (b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", 404),
    ],
)
def test_malformed_requests_end_their_connection(client: Client, request_bytes: bytes, status: int) -> None:
    client.connection.connect()
    sock = client.connection.sock
    assert sock is not None
    sock.sendall(request_bytes)
    answer = b""
    while chunk := sock.recv(4096):
        answer += chunk
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert b"errorType" in answer
    client.connection.close()
    client.loaded()


def test_a_client_that_goes_away_loses_no_event(client: Client) -> None:
    client.loaded()
    client.connection.close()
    client.connection = client.connect()
    client.begin_next()
    time.sleep(0.1)
    assert client.invoked(b"kept").read() == b"kept"


def test_requests_one_after_another_without_waiting(client: Client) -> None:
    client.loaded().invoked().read()
    sock = client.connection.sock
    assert sock is not None
    post = f"POST {API}/invocation/r-1/response HTTP/1.1\r\nContent-Length: 2\r\n\r\nok"
    sock.sendall(f"{post}GET {API}/invocation/next HTTP/1.1\r\n\r\n".encode())
    assert client.runtime.receive().payload == b"ok"
    assert b"202 Accepted" in sock.recv(4096)
    client.runtime.send(Kind.INVOKE, invoke_payload(b"second"))
    assert sock.recv(4096).endswith(b"second")


def test_restore(client: Client) -> None:
    client.connection.request("GET", f"{API}/restore/next")
    assert client.runtime.receive().kind is Kind.LOADED
    assert client.runtime.hook("before_snapshot").kind is Kind.DONE
    number = client.runtime.send(Kind.HOOK, b'{"hook": "after_restore"}')
    assert client.answer() == (200, None)
    client.begin_next()
    assert client.runtime.receive()[:2] == (Kind.DONE, number)
    assert client.invoked(b"after").read() == b"after"


def test_restore_errors(client: Client) -> None:
    client.connection.request("GET", f"{API}/restore/next")
    client.runtime.receive()
    client.runtime.send(Kind.HOOK, b'{"hook": "after_restore"}')
    assert client.answer() == (200, None)
    assert client.call("POST", "/restore/error", b'{"errorMessage": "m"}')[0] == 202
    assert client.runtime.receive().kind is Kind.FAILURE


def test_without_a_snapshot_a_call_lets_the_restored_go_on(client: Client) -> None:
    client.connection.request("GET", f"{API}/restore/next")
    client.runtime.receive()
    client.runtime.send(Kind.INVOKE, invoke_payload(b"event"))
    assert client.answer() == (200, None)
    client.begin_next()
    assert client.connection.getresponse().read() == b"event"


@pytest.mark.parametrize(
    ("content_type", "trailer", "streamed"),
    [
        ("application/octet-stream", "Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body", True),
        ("application/json", "Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body", False),
        ("application/octet-stream", "X-Other", False),
    ],
)
def test_chunks_that_announce_an_error_are_streamed_unless_they_are_json(
    client: Client, content_type: str, trailer: str, streamed: bool
) -> None:
    """As aws-lambda-go sends what a reader holds, and every answer that is an object."""
    client.loaded().invoked().read()
    headers = {"Transfer-Encoding": "chunked", "Content-Type": content_type, "Trailer": trailer}
    assert client.call("POST", "/invocation/r-1/response", iter([b"some"]), headers, encode_chunked=True)[0] == 202
    frames = [client.runtime.receive() for _ in range(3 if streamed else 1)]
    kinds = [Kind.STREAM, Kind.CHUNK, Kind.END] if streamed else [Kind.RESULT]
    assert [frame.kind for frame in frames] == kinds
    assert b"some" in [frame.payload for frame in frames]
