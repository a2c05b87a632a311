"""The runtime ``provided``: the tenant's own ``bootstrap`` behind the Lambda Runtime API.

This process stands between the invocation channel and an HTTP server on loopback, from which the
bootstrap fetches events and to which it posts answers ("Custom runtimes" and "Lambda runtime API"
in the AWS Lambda developer guide, version 2018-06-01). Events and answers pass through as bytes.

One thread, one loop. The channel is read only while no request of the host's is in hand: a
bootstrap that answers never waits for the host.
"""

from __future__ import annotations

import base64
import json
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from typing import Any, NoReturn

from alcove.guest.runtimes.channel import Channel, ChannelClosed
from alcove.guest.runtimes.log_settings import log_variables
from alcove.guest.runtimes.provided_http import (
    CONTINUE,
    MAX_BODY,
    BadRequest,
    Request,
    RequestReader,
    Sink,
    encode_response,
)
from alcove.wire.frame import MAX_CHUNK, Frame, Kind

PORT = 9001
API = "/2018-06-01/runtime/"
_CHUNK = 256 * 1024
_CONNECTIONS = 128
_DEFAULTS = {
    "LANG": "C.UTF-8",
    "TZ": ":UTC",
    "PATH": "/usr/local/bin:/usr/bin:/bin:/opt/bin",
    "HOME": "/tmp",
    "LD_LIBRARY_PATH": "/var/task/lib:/opt/lib",
}
_BYTES = "application/octet-stream"
_JSON = {"Content-Type": "application/json"}
# Python ignores these; the bootstrap starts with nothing ignored.
_DEFAULT_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD)
Answer = tuple[Kind, bytes]
# Status, body, headers; None where the request waits.
Response = tuple[int, bytes, dict[str, str]]
_ACCEPTED: Response = (202, b'{"status":"OK"}', _JSON)


class Connection:
    """One client of the Runtime API."""

    def __init__(self, sock: socket.socket, choose: Callable[[Connection, Request], Sink | None]) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.reader = RequestReader(lambda request: choose(self, request))
        self.out = bytearray()
        self.mask = select.EPOLLIN
        self.request: Request | None = None  # the one that waits
        self.closing = False


class ProvidedRuntime:
    """What is loaded, the call in hand, and who waits for what."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._epoll = select.epoll()
        self._listener = socket.create_server(("127.0.0.1", PORT), backlog=_CONNECTIONS)
        self._listener.setblocking(False)
        self._api = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._connections: dict[int, Connection] = {}
        self._children, child = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(child, warn_on_full_buffer=False)
        for fd in (self._listener.fileno(), self._children):
            self._epoll.register(fd, select.EPOLLIN)
        self._pid: int | None = None
        self._ended: int | None = None  # the bootstrap's wait status
        self._rehearsal = False
        self._initialised = False
        self._event: tuple[dict[str, Any], bytes] | None = None  # to be fetched
        self._current: str | None = None  # the request that was fetched
        self._answer: Answer | None = None
        self._frame_id = 0  # of the INVOKE in hand
        self._stream: Connection | None = None  # by which its answer is being streamed
        self._begun = False  # the host knows of a streamed answer
        self._failure: bytes | None = None  # of the bootstrap's initialisation or its restore
        self._waiting_next: list[Connection] = []
        self._waiting_restore: list[Connection] = []

    # The channel

    def run(self) -> NoReturn:
        self._channel.send(Kind.READY, 0, b'{"runtime": "provided", "protocol": 1}')
        answers: dict[Kind, Callable[[Frame], Answer]] = {
            Kind.LOAD: self._on_load,
            Kind.INVOKE: self._on_invoke,
            Kind.HOOK: self._on_hook,
            Kind.UNLOAD: self._on_unload,
            Kind.PING: lambda frame: (Kind.PONG, frame.payload),
        }
        while True:
            try:
                frame = self._receive()
            except ChannelClosed:
                self._stop()
                os._exit(0)
            kind, payload = answers[frame.kind](frame)
            self._channel.send(kind, frame.id, payload)
            if frame.kind is Kind.INVOKE:
                _mark(frame)

    def _receive(self) -> Frame:
        """Serve the bootstrap until the host asks for something. A bootstrap's end is ours too."""
        self._epoll.register(self._channel.fd, select.EPOLLIN)
        try:
            while self._ended is None:
                if self._step():
                    return self._channel.receive()
        finally:
            self._epoll.unregister(self._channel.fd)
        self._stop()
        os._exit(1)

    def _serve_until(self, condition: Callable[[], object]) -> None:
        """Serve the bootstrap until ``condition`` holds or it has ended."""
        while not condition() and self._ended is None:
            self._step()

    def _drain(self) -> None:
        """Take what the bootstrap had sent before it ended; its children send no more."""
        assert self._pid is not None
        try:
            os.killpg(self._pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        moved = True
        while self._answer is None and moved:
            moved = False
            for fd, events in self._epoll.poll(0):
                if fd == self._listener.fileno():
                    self._accept()
                elif (connection := self._connections.get(fd)) is not None:
                    self._on_connection(connection, events)
                else:
                    continue
                moved = True

    def _step(self) -> bool:
        """Wait for something to do and do it; return whether something is on the channel."""
        from_host = False
        for fd, events in self._epoll.poll():
            if fd == self._channel.fd:
                from_host = True
            elif fd == self._children:
                self._reap()
            elif fd == self._listener.fileno():
                self._accept()
            elif (connection := self._connections.get(fd)) is not None:
                self._on_connection(connection, events)
        return from_host

    # What the host asks for

    def _on_load(self, frame: Frame) -> Answer:
        began = time.perf_counter()
        load = json.loads(frame.payload)
        self._rehearsal = load["rehearsal"]
        if self._rehearsal:
            self._rehearse(b"{}")
        else:
            problem = self._start(load)
            if problem is not None:
                self._clear()
                return Kind.FAILURE, problem
        self._initialised = True
        return Kind.LOADED, b'{"init_ms": %.3f}' % ((time.perf_counter() - began) * 1000)

    def _start(self, load: dict[str, Any]) -> bytes | None:
        """Start the bootstrap and wait until it asks for an event; return the failure otherwise."""
        root = load["task_root"]
        paths = [f"{root}/bootstrap", "/opt/bootstrap"]
        program = next((path for path in paths if os.path.isfile(path)), None)
        if program is None:
            message = f"Couldn't find valid bootstrap(s): [{' '.join(paths)}]"
            return _failure("Runtime.InvalidEntrypoint", message)
        environment = {**_DEFAULTS, **_variables(load), **load["environment"]}
        environment["AWS_LAMBDA_RUNTIME_API"] = self._api
        try:
            os.chdir(root)
            self._pid = os.posix_spawn(
                program,
                [program],
                environment,
                file_actions=[(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)],
                setpgroup=0,
                setsigdef=_DEFAULT_SIGNALS,
            )
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            return _failure("Runtime.InvalidEntrypoint", f"fork/exec {program}: {reason}")
        self._serve_until(lambda: self._waiting_next or self._waiting_restore or self._failure)
        if self._failure is not None:
            return self._failure
        if self._ended is not None:
            message = f"Runtime exited with error: {_describe(self._ended)}"
            return _failure("Runtime.ExitError", message)
        return None

    def _on_invoke(self, frame: Frame) -> Answer:
        split = 2 + int.from_bytes(frame.payload[:2], "big")
        call, event = json.loads(frame.payload[2:split]), frame.payload[split:]
        if self._rehearsal:
            return Kind.RESULT, self._rehearse(event)
        if self._pid is None:
            return Kind.FAILURE, _failure("Runtime.NotLoaded", "no bootstrap runs")
        self._release_restored()
        self._event = (call, event)
        self._frame_id, self._stream, self._begun = frame.id, None, False
        self._hand_out()
        self._serve_until(lambda: self._answer is not None)
        if self._answer is None:
            self._drain()
        answer, self._answer = self._answer, None
        if answer is not None and self._begun:
            kind, payload = answer
            return Kind.END, b"" if kind is Kind.RESULT else payload
        if answer is None:
            assert self._ended is not None
            message = f"Runtime exited with error: {_describe(self._ended)}"
            message = f"RequestId: {call['request_id']} Error: {message}"
            return Kind.END if self._begun else Kind.FAILURE, _failure("Runtime.ExitError", message)
        return answer

    def _on_hook(self, frame: Frame) -> Answer:
        """Let a bootstrap go on that waits for its restore, and wait until it is ready."""
        if json.loads(frame.payload)["hook"] == "after_restore" and self._waiting_restore:
            self._release_restored()
            self._serve_until(lambda: self._waiting_next or self._failure)
            if self._failure is not None:
                failure, self._failure = self._failure, None
                return Kind.FAILURE, failure
        return Kind.DONE, b""

    def _on_unload(self, frame: Frame) -> Answer:
        self._clear()
        return Kind.DONE, b""

    def _clear(self) -> None:
        self._stop()
        for connection in list(self._connections.values()):
            self._close(connection)
        self._rehearsal = self._initialised = False
        self._event = self._current = self._answer = self._failure = self._ended = None
        self._stream, self._begun = None, False
        os.chdir("/")

    def _rehearse(self, event: bytes) -> bytes:
        """Walk the server's own paths once, as a bootstrap would."""
        self._event = ({"request_id": "rehearsal", "deadline_ms": 0, "arn": "rehearsal"}, event)
        post = b"POST %sinvocation/rehearsal/response HTTP/1.1\r\nContent-Length: %d\r\n\r\n"
        with socket.create_connection(self._listener.getsockname()) as client:
            client.setblocking(False)
            fetched = self._ask(client, b"GET %sinvocation/next HTTP/1.1\r\n\r\n" % API.encode())
            self._ask(client, post % (API.encode(), len(fetched)) + fetched)
        assert self._answer is not None
        answer, self._answer = self._answer, None
        return answer[1]

    def _ask(self, client: socket.socket, request: bytes) -> bytes:
        client.sendall(request)
        self._epoll.register(client.fileno(), select.EPOLLIN)
        answer = b""
        while b"\r\n\r\n" not in answer:
            self._step()
            try:
                answer += client.recv(_CHUNK)
            except BlockingIOError:
                continue
        self._epoll.unregister(client.fileno())
        return answer.partition(b"\r\n\r\n")[2]

    # The bootstrap

    def _reap(self) -> None:
        try:
            os.read(self._children, 4096)
        except BlockingIOError:
            pass
        while True:
            # Orphans too: in a container we are the first process.
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._pid:
                self._ended = status

    def _stop(self) -> None:
        if self._pid is None:
            return
        try:
            os.killpg(self._pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        if self._ended is None:
            os.waitpid(self._pid, 0)
        self._pid = None

    # Connections

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        if len(self._connections) >= _CONNECTIONS:
            sock.close()
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(sock, self._streams)
        self._connections[connection.fd] = connection
        self._epoll.register(connection.fd, connection.mask)

    def _close(self, connection: Connection) -> None:
        for waiting in (self._waiting_next, self._waiting_restore):
            if connection in waiting:
                waiting.remove(connection)
        self._cut_short(connection)
        if self._connections.pop(connection.fd, None) is not None:
            self._epoll.unregister(connection.fd)
            connection.sock.close()

    def _cut_short(self, connection: Connection) -> None:
        """Nothing more comes from there: a response that it was streaming has failed."""
        if self._stream is connection:
            self._stream = self._current = None
            message = "the response ended before its end was sent"
            self._answer = (Kind.FAILURE, _failure("Runtime.TruncatedResponse", message))

    def _on_connection(self, connection: Connection, events: int) -> None:
        try:
            if events & select.EPOLLOUT:
                self._flush(connection)
            if events & ~select.EPOLLOUT:
                data = connection.sock.recv(_CHUNK)
                if not data:
                    self._close(connection)
                    return
                if not connection.closing:
                    connection.reader.feed(data)
            self._work_off(connection)
        except BlockingIOError:
            pass
        except OSError:
            self._close(connection)

    def _work_off(self, connection: Connection) -> None:
        """Answer each request that has come whole, in order."""
        try:
            while connection.request is None and not connection.closing:
                request = connection.reader.next()
                if request is None:
                    if connection.reader.expects_continue:
                        connection.reader.expects_continue = False
                        self._write(connection, CONTINUE)
                    return
                connection.request = request
                response = self._route(connection, request)
                if response is not None:
                    self._respond(connection, *response)
        except BadRequest as error:
            self._cut_short(connection)
            status, body, headers = _refusal(error.status, "InvalidRequest", str(error))
            connection.closing = True
            self._write(connection, encode_response(status, body, headers, keep=False))

    def _respond(self, connection: Connection, status: int, body: bytes, headers: dict[str, str]) -> None:
        request, connection.request = connection.request, None
        assert request is not None
        connection.closing = not request.keep
        with_body = request.method != "HEAD"
        data = encode_response(status, body, headers, keep=request.keep, with_body=with_body)
        self._write(connection, data)

    def _write(self, connection: Connection, data: bytes) -> None:
        connection.out += data
        try:
            self._flush(connection)
        except OSError:
            self._close(connection)

    def _flush(self, connection: Connection) -> None:
        try:
            while connection.out:
                sent = connection.sock.send(memoryview(connection.out)[:_CHUNK])
                del connection.out[:sent]
        except BlockingIOError:
            pass
        if connection.closing and not connection.out and connection.fd in self._connections:
            # What else it sends is thrown away until it closes: closing now could cost it this.
            connection.sock.shutdown(socket.SHUT_WR)
        mask = select.EPOLLIN | (select.EPOLLOUT if connection.out else 0)
        if mask != connection.mask and connection.fd in self._connections:
            connection.mask = mask
            self._epoll.modify(connection.fd, mask)

    # The Runtime API

    def _route(self, connection: Connection, request: Request) -> Response | None:
        path = request.path.removeprefix(API)
        parts = path.split("/")
        get = post = None
        if path == request.path:
            pass
        elif path == "invocation/next":
            get = self._next
        elif path == "restore/next":
            get = self._restore_next
        elif path in ("init/error", "restore/error"):
            post = self._init_error
        elif len(parts) == 3 and parts[0] == "invocation" and parts[2] in ("response", "error"):
            post = self._settle
        if get is None and post is None:
            return _refusal(404, "InvalidPath", f"no such path: {request.path}")
        if request.method == "GET" and get is not None:
            return get(connection)
        if request.method == "POST" and post is not None:
            return post(request, parts)
        return _refusal(405, "MethodNotAllowed", f"{request.method} is not allowed here")

    def _next(self, connection: Connection) -> Response | None:
        if self._current is not None:
            message = "the event that was fetched before has not been answered"
            return _refusal(403, "InvalidStateTransition", message)
        self._waiting_next.append(connection)
        self._hand_out()
        return None

    def _hand_out(self) -> None:
        """Give the event to whoever has waited longest."""
        if self._event is None or not self._waiting_next:
            return
        connection = self._waiting_next.pop(0)
        (call, event), self._event = self._event, None
        self._current = call["request_id"]
        headers = {
            **_JSON,
            "Lambda-Runtime-Aws-Request-Id": call["request_id"],
            "Lambda-Runtime-Deadline-Ms": str(call["deadline_ms"]),
            "Lambda-Runtime-Invoked-Function-Arn": call["arn"],
        }
        for name, field in (
            ("Lambda-Runtime-Trace-Id", "trace_id"),
            ("Lambda-Runtime-Client-Context", "client_context"),
            ("Lambda-Runtime-Cognito-Identity", "identity"),
        ):
            if value := call.get(field):
                headers[name] = value if isinstance(value, str) else json.dumps(value)
        self._respond(connection, 200, event, headers)

    def _streams(self, connection: Connection, request: Request) -> Sink | None:
        """Return who takes the body of a response that is streamed; the host is told that it begins."""
        path = f"{API}invocation/{self._current}/response"
        mode = request.headers.get("lambda-runtime-function-response-mode", "").lower()
        taken = self._stream is not None or self._rehearsal or self._current is None
        if mode != "streaming" or request.method != "POST" or request.path != path or taken:
            return None
        self._stream, self._begun = connection, True
        given = request.headers.get("content-type", "")
        content_type = given if 0 < len(given) < 256 and given.isprintable() and given.isascii() else _BYTES
        self._channel.send(Kind.STREAM, self._frame_id, content_type.encode())
        return self._pass_on

    def _pass_on(self, data: bytes) -> None:
        """Waits while the host has no room; the bootstrap then waits too."""
        for start in range(0, len(data), MAX_CHUNK):
            self._channel.send(Kind.CHUNK, self._frame_id, data[start : start + MAX_CHUNK])

    def _settle(self, request: Request, parts: list[str]) -> Response:
        """The answer to the current request has come, or its error."""
        if parts[1] != self._current or (self._stream is not None and request.sink is None):
            return _refusal(400, "InvalidRequestID", "Invalid request ID")
        self._current = self._stream = None
        if request.sink is not None:
            failed = "lambda-runtime-function-error-type" in request.headers
            self._answer = (Kind.FAILURE, _reported_in_trailers(request)) if failed else (Kind.RESULT, b"")
            return _ACCEPTED
        kind = "lambda-runtime-function-error-type"
        if request.size > MAX_BODY:
            limit = f"exceeded maximum allowed payload size ({MAX_BODY} bytes)."
            message = f"Response payload size ({request.size} bytes) {limit}"
            self._answer = (Kind.FAILURE, _failure("Function.ResponseSizeTooLarge", message))
            return _refusal(413, "RequestEntityTooLarge", message)
        # A response that was streamed may turn into an error: its trailers say so.
        if parts[2] == "error" or kind in request.headers:
            self._answer = (Kind.FAILURE, _reported(request))
        else:
            self._answer = (Kind.RESULT, request.body)
        return _ACCEPTED

    def _init_error(self, request: Request, parts: list[str]) -> Response:
        if self._initialised and parts[0] == "init":
            return _refusal(403, "InvalidStateTransition", "the runtime is initialised already")
        self._failure = _reported(request)
        return _ACCEPTED

    def _restore_next(self, connection: Connection) -> Response | None:
        self._waiting_restore.append(connection)
        return None

    def _release_restored(self) -> None:
        waiting, self._waiting_restore = self._waiting_restore, []
        for connection in waiting:
            self._respond(connection, 200, b"", _JSON)
            # It may have sent its next request already.
            self._work_off(connection)


def _variables(load: dict[str, Any]) -> dict[str, str]:
    """Return the variables that AWS defines for every function."""
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
        **log_variables(load),
    }


def _describe(status: int) -> str:
    """Describe a wait status as Go does, and so AWS's logs."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exit status {code}"
    return f"signal: {(signal.strsignal(-code) or str(-code)).lower()}"


def _mark(frame: Frame) -> None:
    """Tell the host where this request's output ends."""
    split = 2 + int.from_bytes(frame.payload[:2], "big")
    request_id = json.loads(frame.payload[2:split])["request_id"]
    try:
        os.write(2, b"\0alcove:end:%s\0" % request_id.encode())
    except OSError:
        pass


def _reported(request: Request) -> bytes:
    """Return an error that the bootstrap has reported, completed where it lacks what AWS's have."""
    kind = request.headers.get("lambda-runtime-function-error-type") or "Runtime.Unknown"
    try:
        document = json.loads(request.body)
    except ValueError:
        document = None
    if isinstance(document, dict):
        if "errorType" in document and "errorMessage" in document:
            return request.body
        return json.dumps({"errorType": kind, "errorMessage": "", **document}).encode()
    return _failure(kind, request.body[:65536].decode(errors="replace"))


def _reported_in_trailers(request: Request) -> bytes:
    """Return the error that ended a streamed response; its document is base64 in a trailer."""
    try:
        request.body = base64.b64decode(request.headers.get("lambda-runtime-function-error-body", ""))
    except ValueError:
        request.body = b""
    return _reported(request)


def _failure(kind: str, message: str) -> bytes:
    return json.dumps({"errorType": kind, "errorMessage": message, "stackTrace": []}).encode()


def _refusal(status: int, kind: str, message: str) -> Response:
    return status, json.dumps({"errorMessage": message, "errorType": kind}).encode(), _JSON


def main() -> NoReturn:
    """Run on the descriptor that the environment names, as in a VM, or on 0, as in a container."""
    named = os.environ.pop("ALCOVE_CHANNEL_FD", None)
    fd = os.dup(0) if named is None else int(named)
    os.set_inheritable(fd, False)
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    ProvidedRuntime(Channel(fd)).run()
