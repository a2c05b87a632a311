"""The runtime ``provided``: the tenant's own ``bootstrap`` behind the Lambda Runtime API.

This process stands between the invocation channel and an HTTP server on loopback, from which the bootstrap
fetches events and to which
it posts answers ("Custom runtimes" and "Lambda runtime API" in the AWS Lambda developer guide, version
2018-06-01). Events and
answers pass through as bytes.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NoReturn

from alcove.guest.runtimes.channel import Channel, ChannelClosed
from alcove.wire.frame import Frame, Kind

PORT = 9001
BASE = "/2018-06-01/runtime"
MAX_RESULT = 6 * 1024 * 1024
_DEFAULTS = {
    "LANG": "C.UTF-8",
    "TZ": ":UTC",
    "PATH": "/usr/local/bin:/usr/bin:/bin:/opt/bin",
    "HOME": "/tmp",
    "LD_LIBRARY_PATH": "/var/task/lib:/opt/lib",
    "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{PORT}",
}
Answer = tuple[Kind, bytes]


@dataclass
class Exchange:
    """What the channel's thread and the server's threads share, under ``changed``."""

    changed: threading.Condition = field(default_factory=threading.Condition)
    waiting: int = 0  # bootstraps that ask for the next event
    event: tuple[dict[str, Any], bytes] | None = None  # to be fetched
    current: str | None = None  # the request that is being handled
    answer: Answer | None = None
    init_failure: bytes | None = None


class Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, exchange: Exchange) -> None:
        super().__init__(("127.0.0.1", PORT), Api)
        self.exchange = exchange

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


class Api(BaseHTTPRequestHandler):
    """The Runtime API."""

    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, format: str, *arguments: Any) -> None:
        """Requests are not logged: the log is the tenant's."""

    def do_GET(self) -> None:
        if self.path == f"{BASE}/invocation/next":
            self._next()
        elif self.path == f"{BASE}/restore/next":
            self._answer(200)
        else:
            self._refuse(404, "InvalidPath", f"no such path: {self.path}")

    def do_POST(self) -> None:
        body = self._body()
        if body is None:
            return
        parts = self.path.removeprefix(BASE).strip("/").split("/")
        exchange = self.server.exchange
        if parts in (["init", "error"], ["restore", "error"]):
            with exchange.changed:
                exchange.init_failure = body or self._named_failure()
                exchange.changed.notify_all()
            self._answer(202)
        elif len(parts) == 3 and parts[0] == "invocation" and parts[2] in ("response", "error"):
            self._settle(parts[1], parts[2] == "error", body)
        else:
            self._refuse(404, "InvalidPath", f"no such path: {self.path}")

    def _next(self) -> None:
        exchange = self.server.exchange
        with exchange.changed:
            exchange.waiting += 1
            exchange.changed.notify_all()
            exchange.changed.wait_for(lambda: exchange.event is not None)
            assert exchange.event is not None
            meta, payload = exchange.event
            exchange.event = None
            exchange.waiting -= 1
            exchange.current = meta["request_id"]
        headers = {
            "Lambda-Runtime-Aws-Request-Id": meta["request_id"],
            "Lambda-Runtime-Deadline-Ms": str(meta["deadline_ms"]),
            "Lambda-Runtime-Invoked-Function-Arn": meta["arn"],
        }
        if meta["trace_id"]:
            headers["Lambda-Runtime-Trace-Id"] = meta["trace_id"]
        if meta["client_context"]:
            headers["Lambda-Runtime-Client-Context"] = meta["client_context"]
        self._answer(200, payload, headers)

    def _settle(self, request_id: str, failed: bool, body: bytes) -> None:
        exchange = self.server.exchange
        with exchange.changed:
            if request_id != exchange.current:
                self._refuse(400, "InvalidRequestID", "the request is not the one that is being handled")
                return
            if failed:
                answer = (Kind.FAILURE, body or self._named_failure())
            elif len(body) > MAX_RESULT:
                message = f"Response payload size ({len(body)} bytes) exceeded maximum allowed payload size"
                answer = (Kind.FAILURE, failure("Function.ResponseSizeTooLarge", f"{message} ({MAX_RESULT} bytes)."))
            else:
                answer = (Kind.RESULT, body)
            exchange.current, exchange.answer = None, answer
            exchange.changed.notify_all()
        if answer[0] is Kind.FAILURE and not failed:
            self._refuse(413, "RequestEntityTooLarge", "the response is too large")
        else:
            self._answer(202)

    def _named_failure(self) -> bytes:
        return failure(self.headers.get("Lambda-Runtime-Function-Error-Type", "Runtime.Unknown"), "")

    def _body(self) -> bytes | None:
        """Read the body, by length or in chunks; None where it was refused."""
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            chunks, size = [], 0
            while length := int(self.rfile.readline(32).split(b";")[0] or b"0", 16):
                size += length
                if size > 2 * MAX_RESULT:
                    self._refuse(413, "RequestEntityTooLarge", "the body is too large")
                    return None
                chunks.append(self.rfile.read(length))
                self.rfile.readline(8)
            self.rfile.readline(8)
            return b"".join(chunks)
        length = int(self.headers.get("Content-Length") or 0)
        if length > 2 * MAX_RESULT:
            self._refuse(413, "RequestEntityTooLarge", "the body is too large")
            return None
        return self.rfile.read(length)

    def _refuse(self, status: int, kind: str, message: str) -> None:
        self.close_connection = status == 413
        self._answer(status, json.dumps({"errorType": kind, "errorMessage": message}).encode())

    def _answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response_only(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        # One write: headers are buffered until then.
        self._headers_buffer.append(b"\r\n" + body)  # type: ignore[attr-defined]
        self.flush_headers()


class ProvidedRuntime:
    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._exchange = Exchange()
        self._bootstrap: subprocess.Popen[bytes] | None = None
        self._rehearsal = False
        self._server = Server(self._exchange)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def run(self) -> NoReturn:
        self._channel.send(Kind.READY, 0, b'{"runtime": "provided", "protocol": 1}')
        answers: dict[Kind, Callable[[Frame], Answer]] = {
            Kind.LOAD: self._on_load,
            Kind.INVOKE: self._on_invoke,
            Kind.HOOK: lambda frame: (Kind.DONE, b""),
            Kind.UNLOAD: self._on_unload,
            Kind.PING: lambda frame: (Kind.PONG, frame.payload),
        }
        while True:
            try:
                frame = self._channel.receive()
            except ChannelClosed:
                self._stop()
                os._exit(0)
            kind, payload = answers[frame.kind](frame)
            self._channel.send(kind, frame.id, payload)
            if frame.kind is Kind.INVOKE:
                _mark(frame)
                if self._bootstrap is not None and self._bootstrap.poll() is not None:
                    os._exit(1)

    def _on_load(self, frame: Frame) -> Answer:
        began = time.perf_counter()
        load = json.loads(frame.payload)
        self._rehearsal = load["rehearsal"]
        if self._rehearsal:
            self._rehearse()
        else:
            problem = self._start(load)
            if problem is not None:
                return Kind.FAILURE, problem
        return Kind.LOADED, b'{"init_ms": %.3f}' % ((time.perf_counter() - began) * 1000)

    def _start(self, load: dict[str, Any]) -> bytes | None:
        """Start the bootstrap and wait until it asks for its first event; return the failure otherwise."""
        root = load["task_root"]
        program = next((path for path in (f"{root}/bootstrap", "/opt/bootstrap") if os.path.isfile(path)), None)
        if program is None:
            return failure(
                "Runtime.InvalidEntrypoint", f"Couldn't find valid bootstrap(s): [{root}/bootstrap /opt/bootstrap]"
            )
        try:
            self._bootstrap = subprocess.Popen(
                [program],
                cwd=root,
                env={**_DEFAULTS, **_variables(load), **load["environment"]},
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            return failure("Runtime.InvalidEntrypoint", f"{program}: {error.strerror}")
        exchange, bootstrap = self._exchange, self._bootstrap
        with exchange.changed:
            while not (exchange.waiting or exchange.init_failure or bootstrap.poll() is not None):
                exchange.changed.wait(0.05)
            if exchange.waiting:
                return None
            if exchange.init_failure:
                return exchange.init_failure
        return failure("Runtime.ExitError", f"Runtime exited with error: {_status(bootstrap)}")

    def _on_invoke(self, frame: Frame) -> Answer:
        split = 2 + int.from_bytes(frame.payload[:2], "big")
        meta = json.loads(frame.payload[2:split])
        exchange = self._exchange
        if self._rehearsal:
            return Kind.RESULT, frame.payload[split:]
        bootstrap = self._bootstrap
        if bootstrap is None:
            return Kind.FAILURE, failure("Runtime.NotLoaded", "no bootstrap runs")
        with exchange.changed:
            exchange.answer = None
            exchange.event = (meta, frame.payload[split:])
            exchange.changed.notify_all()
            while exchange.answer is None:
                # A bootstrap that ends tells nobody: look every now and then.
                exchange.changed.wait(0.1)
                if exchange.answer is None and bootstrap.poll() is not None:
                    message = f"RequestId: {meta['request_id']} Error: Runtime exited with error: {_status(bootstrap)}"
                    return Kind.FAILURE, failure("Runtime.ExitError", message)
            return exchange.answer

    def _rehearse(self) -> None:
        """Walk the server's own paths once, as a bootstrap would."""
        import http.client

        with self._exchange.changed:
            self._exchange.event = (
                {"request_id": "rehearsal", "deadline_ms": 0, "arn": "", "trace_id": "", "client_context": ""},
                b"{}",
            )
        client = http.client.HTTPConnection("127.0.0.1", PORT, timeout=10)
        try:
            client.request("GET", f"{BASE}/invocation/next")
            client.getresponse().read()
            client.request("POST", f"{BASE}/invocation/rehearsal/response", b"{}")
            client.getresponse().read()
        finally:
            client.close()

    def _on_unload(self, frame: Frame) -> Answer:
        self._stop()
        exchange = self._exchange
        with exchange.changed:
            exchange.event = exchange.answer = exchange.current = exchange.init_failure = None
        self._rehearsal = False
        return Kind.DONE, b""

    def _stop(self) -> None:
        if self._bootstrap is not None:
            try:
                os.killpg(self._bootstrap.pid, 9)
            except ProcessLookupError:
                pass
            self._bootstrap.wait()
            self._bootstrap = None


def _variables(load: dict[str, Any]) -> dict[str, str]:
    return {
        "_HANDLER": load["handler"],
        "LAMBDA_TASK_ROOT": load["task_root"],
        "LAMBDA_RUNTIME_DIR": "/opt/alcove",
        "AWS_LAMBDA_FUNCTION_NAME": load["function_name"],
        "AWS_LAMBDA_FUNCTION_VERSION": load["version"],
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(load["memory_mib"]),
        "AWS_LAMBDA_LOG_GROUP_NAME": load["log_group"],
        "AWS_LAMBDA_LOG_STREAM_NAME": load["log_stream"],
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
    }


def _status(process: subprocess.Popen[bytes]) -> str:
    code = process.returncode
    return f"exit status {code}" if code >= 0 else f"signal: {-code}"


def _mark(frame: Frame) -> None:
    split = 2 + int.from_bytes(frame.payload[:2], "big")
    request_id = json.loads(frame.payload[2:split])["request_id"]
    try:
        os.write(2, b"\0alcove:end:%s\0" % request_id.encode())
    except OSError:
        pass


def failure(kind: str, message: str) -> bytes:
    return json.dumps({"errorType": kind, "errorMessage": message, "stackTrace": []}).encode()


def main() -> NoReturn:
    """In a VM the channel's descriptor is named in the environment; in a container it is descriptor 0."""
    named = os.environ.pop("ALCOVE_CHANNEL_FD", None)
    fd = os.dup(0) if named is None else int(named)
    os.set_inheritable(fd, False)
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    ProvidedRuntime(Channel(fd)).run()
