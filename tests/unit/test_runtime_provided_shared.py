"""Several requests at once under ``provided``: a bootstrap with threads, and the Runtime API's own rules for them."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.runtime_process import RuntimeProcess, invoke_payload, provided_runtime
from tests.unit.test_runtime_provided import API, Client, bootstrap

from alcove.guest.runtimes.channel import Channel
from alcove.guest.runtimes.provided_calls import Call, Calls
from alcove.wire.frame import Frame, Kind

# As AWS's library for Go does it: each of its loops asks for events on its own.
THREADS = """#!/usr/bin/env python3
import http.client, json, os, threading
API = "/2018-06-01/runtime/invocation"
MEET = threading.Barrier(3)

def serve():
    connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    while True:
        connection.request("GET", f"{API}/next")
        answer = connection.getresponse()
        event, id = json.loads(answer.read()), answer.headers["Lambda-Runtime-Aws-Request-Id"]
        print("handling", event, flush=True)
        if event == "exit":
            os._exit(3)
        if event == "hang":
            threading.Event().wait()
        if event != "quick":
            MEET.wait(20)
        what, body = "response", {"id": id, "event": event, "trace": answer.headers["Lambda-Runtime-Trace-Id"]}
        if event == "raise":
            what, body = "error", {"errorType": "Asked", "errorMessage": id}
        connection.request("POST", f"{API}/{id}/{what}", json.dumps(body))
        connection.getresponse().read()

for _ in range(int(os.environ["AWS_LAMBDA_MAX_CONCURRENCY"])):
    threading.Thread(target=serve).start()
"""


@pytest.fixture
def runtime() -> Iterator[RuntimeProcess]:
    with provided_runtime() as process:
        yield process


def threads(runtime: RuntimeProcess, root: Path) -> RuntimeProcess:
    given = {"AWS_LAMBDA_MAX_CONCURRENCY": "4"}
    return runtime.loaded(bootstrap(root, THREADS), environment=given, concurrency=4)


def send(runtime: RuntimeProcess, event: Any, **call: Any) -> int:
    payload = invoke_payload(json.dumps(event).encode(), request_id=f"r-{event}", shared=True, **call)
    return runtime.send(Kind.INVOKE, payload)


def test_requests_are_inside_together_and_answered_as_they_end(runtime: RuntimeProcess, tmp_path: Path) -> None:
    threads(runtime, tmp_path)
    ids = {send(runtime, event, trace_id=f"Root={event}"): event for event in ("a", "b")}
    quick = send(runtime, "quick")
    assert runtime.receive().id == quick
    ids[send(runtime, "raise")] = "raise"
    for _ in range(3):
        frame = runtime.receive()
        event = ids.pop(frame.id)
        document = json.loads(frame.payload)
        if event == "raise":
            assert (frame.kind, document["errorMessage"]) == (Kind.FAILURE, "r-raise")
        else:
            assert frame.kind is Kind.RESULT
            assert document == {"id": f"r-{event}", "event": event, "trace": f"Root={event}"}
        assert runtime.marked(f"r-{event}")
    # The host is answered while they are inside, and one alone is served again.
    assert runtime.request(Kind.PING, b"still").payload == b"still"
    assert runtime.result("quick", request_id="r-last")["id"] == "r-last"


def test_one_that_hangs_holds_up_no_other(runtime: RuntimeProcess, tmp_path: Path) -> None:
    threads(runtime, tmp_path)
    send(runtime, "hang")
    for number in range(8):
        event = invoke_payload(b'"quick"', request_id=f"r-{number}", shared=True)
        assert json.loads(runtime.request(Kind.INVOKE, event).payload)["id"] == f"r-{number}"


def test_an_end_is_told_to_all(runtime: RuntimeProcess, tmp_path: Path) -> None:
    threads(runtime, tmp_path)
    ids = {send(runtime, event): event for event in ("hang", "a", "exit")}
    for _ in range(3):
        frame = runtime.receive()
        document = json.loads(frame.payload)
        assert (frame.kind, document["errorType"]) == (Kind.FAILURE, "Runtime.ExitError")
        assert document["errorMessage"].startswith(f"RequestId: r-{ids.pop(frame.id)} Error: Runtime exited")
    assert runtime.process.wait(5) == 1


# The Runtime API


class Shared(Client):
    """Asks for events on connections of its own."""

    def fetch(self, event: Any, **call: Any) -> tuple[http.client.HTTPConnection, int]:
        connection = self.connect()
        connection.request("GET", f"{API}/invocation/next")
        id = send(self.runtime, event, **call)
        answer = connection.getresponse()
        assert answer.headers["Lambda-Runtime-Aws-Request-Id"] == f"r-{event}"
        answer.read()
        return connection, id


@pytest.fixture
def client(runtime: RuntimeProcess, tmp_path: Path) -> Iterator[Shared]:
    client = Shared(runtime, tmp_path, concurrency=2)
    client.loaded()
    # What it asked for so that it counts as loaded.
    send(runtime, "first")
    client.connection.getresponse().read()
    assert client.call("POST", "/invocation/r-first/response", b"")[0] == 202
    assert runtime.receive().kind is Kind.RESULT
    yield client
    client.connection.close()


def head(connection: http.client.HTTPConnection, request_id: str) -> None:
    """Begin a streamed response; what follows is written to the socket."""
    connection.putrequest("POST", f"{API}/invocation/{request_id}/response")
    connection.putheader("Lambda-Runtime-Function-Response-Mode", "streaming")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.putheader("Content-Type", "text/plain")
    connection.endheaders()


def test_answers_may_come_by_any_connection_in_any_order(client: Shared) -> None:
    _, a = client.fetch("a")
    _, b = client.fetch("b")
    assert client.call("POST", "/invocation/r-first/response", b"")[1]["errorType"] == "InvalidRequestID"
    for request_id, number in (("r-b", b), ("r-a", a)):
        assert client.call("POST", f"/invocation/{request_id}/response", request_id)[0] == 202
        assert client.runtime.receive() == Frame(Kind.RESULT, number, request_id.encode())
        assert client.call("POST", f"/invocation/{request_id}/response", b"again")[0] == 400


def test_no_more_are_out_than_the_function_has_set(client: Shared) -> None:
    client.fetch("a")
    client.fetch("b")
    status, document = client.call("GET", "/invocation/next")
    assert (status, document["errorType"]) == (403, "InvalidStateTransition")
    third = send(client.runtime, "c")
    assert client.call("POST", "/invocation/r-a/response", b"")[0] == 202
    client.runtime.receive()
    client.begin_next()
    client.connection.getresponse().read()
    assert client.call("POST", "/invocation/r-c/response", b"c")[0] == 202
    assert client.runtime.receive() == Frame(Kind.RESULT, third, b"c")


def test_streamed_side_by_side_ended_and_cut_off_each_on_its_own(client: Shared) -> None:
    (left, a), (right, b) = client.fetch("a"), client.fetch("b")
    received = client.runtime.receive
    head(left, "r-a")
    head(right, "r-b")
    # Each comes over a connection of its own: either may be first.
    assert {received() for _ in range(2)} == {Frame(Kind.STREAM, number, b"text/plain") for number in (a, b)}
    for connection, number in ((left, a), (right, b), (left, a)):
        connection.send(b"3\r\nabc\r\n")
        assert received() == Frame(Kind.CHUNK, number, b"abc")
    # Another connection is not let in between.
    assert client.call("POST", "/invocation/r-a/response", b"x")[0] == 400
    right.close()
    cut = received()
    assert (cut.kind, cut.id, json.loads(cut.payload)["errorType"]) == (Kind.END, b, "Runtime.TruncatedResponse")
    left.send(b"0\r\n\r\n")
    assert received() == Frame(Kind.END, a, b"")
    assert client.fetch("c")[1] > b


def test_two_of_one_id_are_not_out_at_once(client: Shared) -> None:
    client.fetch("a")
    send(client.runtime, "a")
    client.begin_next()
    other = client.connect()
    other.request("POST", f"{API}/invocation/r-a/response", b"1")
    assert other.getresponse().status == 202
    assert client.runtime.receive().payload == b"1"
    assert client.connection.getresponse().headers["Lambda-Runtime-Aws-Request-Id"] == "r-a"


@given(st.lists(st.sampled_from(["add", "same", "fetch", "settle"]), max_size=60), st.integers(1, 4))
def test_each_call_is_answered_once_and_no_more_are_out_than_may(steps: list[str], limit: int) -> None:
    answered: list[tuple[int, bytes]] = []
    recorder = SimpleNamespace(send=lambda kind, id, payload: answered.append((id, payload)))
    channel = cast(Channel, recorder)
    calls, added = Calls(), 0
    calls.limit = limit
    out: list[Call] = []
    for step in steps:
        if step in ("add", "same"):
            added += 1
            calls.add(Call(channel, added, {"request_id": "same" if step == "same" else str(added)}, b""))
        elif step == "fetch" and (call := calls.fetch()) is not None:
            out.append(call)
        elif step == "settle" and out:
            calls.settle(call := out.pop(0), Kind.RESULT, call.request_id.encode())
            calls.deliver()
        assert len(out) <= limit
        assert len({call.request_id for call in out}) == len(out)
        assert len(calls) == added - len(answered)
    for call in calls.take_all():
        call.answer(Kind.FAILURE, b"")
    assert sorted(id for id, _ in answered) == list(range(1, added + 1))
    assert not calls
