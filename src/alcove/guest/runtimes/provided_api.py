"""The Lambda Runtime API, version 2018-06-01 ("Lambda runtime API" in the AWS Lambda developer guide).

Events are handed to whoever has waited longest; as many may be out at once as the function has set, each answered,
failed or streamed on its own, by whatever connection.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from alcove.guest.runtimes.provided_calls import Call, Calls
from alcove.guest.runtimes.provided_errors import ERROR_TYPE, JSON, Response, failure, refusal, reported
from alcove.guest.runtimes.provided_errors import reported_in_trailers as reported_late
from alcove.guest.runtimes.provided_http import MAX_BODY, Request, Sink
from alcove.guest.runtimes.provided_server import Connection
from alcove.wire.frame import Kind

PATH = "/2018-06-01/runtime/"
_BYTES = "application/octet-stream"
_ACCEPTED: Response = (202, b'{"status":"OK"}', JSON)
_HEADERS = (
    ("Lambda-Runtime-Trace-Id", "trace_id"),
    ("Lambda-Runtime-Client-Context", "client_context"),
    ("Lambda-Runtime-Cognito-Identity", "identity"),
)


class RuntimeApi:
    """``Routes`` of the server. ``failure`` is that of the bootstrap's initialisation or its restore."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self.respond: Callable[[Connection, Response], None] = lambda connection, response: None
        self.initialised = False
        self.failure: bytes | None = None
        self.waiting_next: list[Connection] = []
        self.waiting_restore: list[Connection] = []

    # What the runtime asks for

    def hand_out(self) -> None:
        """Give the events that wait to those that wait for one."""
        while self.waiting_next and (call := self._calls.fetch()) is not None:
            self.respond(self.waiting_next.pop(0), (200, call.event, _headers(call)))

    def release_restored(self) -> None:
        """Let those go on that wait for a restore."""
        waiting, self.waiting_restore = self.waiting_restore, []
        for connection in waiting:
            self.respond(connection, (200, b"", JSON))

    # Routes

    def route(self, connection: Connection, request: Request) -> Response | None:
        path = request.path.removeprefix(PATH)
        parts = path.split("/")
        get: Callable[[Connection], Response | None] | None = None
        post: Callable[[Connection, Request, list[str]], Response] | None = None
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
            return refusal(404, "InvalidPath", f"no such path: {request.path}")
        if request.method == "GET" and get is not None:
            return get(connection)
        if request.method == "POST" and post is not None:
            return post(connection, request, parts)
        return refusal(405, "MethodNotAllowed", f"{request.method} is not allowed here")

    def choose(self, connection: Connection, request: Request) -> Sink | None:
        """Return who takes the body of a response that is streamed; the host is told that it begins."""
        if request.method != "POST" or not _says_that_it_streams(request.headers):
            return None
        _, _, rest = request.path.partition(f"{PATH}invocation/")
        request_id, _, what = rest.partition("/")
        call = self._calls.find(request_id)
        if call is None or call.begun or what != "response":
            return None
        connection.streaming = call
        given = request.headers.get("content-type", "")
        call.begin(given if 0 < len(given) < 256 and given.isprintable() and given.isascii() else _BYTES)
        return call.write

    def lost(self, connection: Connection) -> None:
        """Nothing more comes from there: a response that it was streaming has failed."""
        for waiting in (self.waiting_next, self.waiting_restore):
            if connection in waiting:
                waiting.remove(connection)
        call, connection.streaming = connection.streaming, None
        if call is not None and self._calls.find(call.request_id) is call:
            message = "the response ended before its end was sent"
            self._calls.settle(call, Kind.FAILURE, failure("Runtime.TruncatedResponse", message))
            self.hand_out()

    def _next(self, connection: Connection) -> Response | None:
        if self._calls.full:
            message = "the event that was fetched before has not been answered"
            return refusal(403, "InvalidStateTransition", message)
        self.waiting_next.append(connection)
        self.hand_out()
        return None

    def _restore_next(self, connection: Connection) -> Response | None:
        self.waiting_restore.append(connection)
        return None

    def _init_error(self, connection: Connection, request: Request, parts: list[str]) -> Response:
        if self.initialised and parts[0] == "init":
            return refusal(403, "InvalidStateTransition", "the runtime is initialised already")
        self.failure = reported(request)
        return _ACCEPTED

    def _settle(self, connection: Connection, request: Request, parts: list[str]) -> Response:
        """The answer to a request that was fetched has come, or its error."""
        call = self._calls.find(parts[1])
        if call is None or (call.begun and connection.streaming is not call):
            return refusal(400, "InvalidRequestID", "Invalid request ID")
        connection.streaming = None
        response, kind, payload = _outcome(call, request, parts[2])
        self._calls.settle(call, kind, payload)
        self.hand_out()
        return response


def _says_that_it_streams(headers: dict[str, str]) -> bool:
    """By the mode, as the guide has it; AWS's library for Go says none, but announces that an error may follow."""
    mode = headers.get("lambda-runtime-function-response-mode", "").lower()
    if mode or headers.get("content-type", "").startswith("application/json"):
        return mode == "streaming"
    chunked = headers.get("transfer-encoding", "").lower() == "chunked"
    return chunked and ERROR_TYPE in headers.get("trailer", "").lower()


def _outcome(call: Call, request: Request, what: str) -> tuple[Response, Kind, bytes]:
    """Return what the bootstrap is answered, and what the host is told."""
    if call.begun:
        # Its trailers say whether it went well.
        failed = ERROR_TYPE in request.headers
        return _ACCEPTED, Kind.FAILURE if failed else Kind.RESULT, reported_late(request) if failed else b""
    if request.size > MAX_BODY:
        limit = f"exceeded maximum allowed payload size ({MAX_BODY} bytes)."
        message = f"Response payload size ({request.size} bytes) {limit}"
        document = failure("Function.ResponseSizeTooLarge", message)
        return refusal(413, "RequestEntityTooLarge", message), Kind.FAILURE, document
    # A response that was streamed may turn into an error: its trailers say so.
    if what == "error" or ERROR_TYPE in request.headers:
        return _ACCEPTED, Kind.FAILURE, reported(request)
    return _ACCEPTED, Kind.RESULT, request.body


def _headers(call: Call) -> dict[str, str]:
    headers = {
        **JSON,
        "Lambda-Runtime-Aws-Request-Id": call.request_id,
        "Lambda-Runtime-Deadline-Ms": str(call.metadata["deadline_ms"]),
        "Lambda-Runtime-Invoked-Function-Arn": call.metadata["arn"],
    }
    for name, field in _HEADERS:
        if value := call.metadata.get(field):
            headers[name] = value if isinstance(value, str) else json.dumps(value)
    return headers
