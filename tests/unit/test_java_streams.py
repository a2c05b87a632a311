"""Java handlers that write to an OutputStream, and requests that share a Java runtime."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.runtime_process import RuntimeProcess, compile_java, cut, invoke_payload, java_runtime

from alcove.wire.frame import Kind

BYTES = "application/octet-stream"
HTTP = "application/vnd.awslambda.http-integration-response"
SOURCE = """
package app;

import java.io.*;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.*;

public class Streams {
    static final CyclicBarrier THREE = new CyclicBarrier(3);
    static final CountDownLatch LATER = new CountDownLatch(1);
    static OutputStream kept;

    static byte[] bytes(String text) { return text.getBytes(StandardCharsets.UTF_8); }

    public void echo(InputStream input, OutputStream output) throws IOException { input.transferTo(output); }
    public void written(InputStream input, OutputStream output) throws Exception {
        for (String part : new String(input.readAllBytes(), StandardCharsets.UTF_8).split("\\\\|", -1)) {
            if (part.equals("flush")) output.flush();
            else if (part.equals("NULs")) output.write(new byte[8]);
            else if (part.startsWith("/")) while (!new File(part).exists()) Thread.sleep(10);
            else if (part.equals("throw")) throw new IllegalStateException("as asked");
            else if (part.equals("large")) output.write(new byte[200_000]);
            else if (part.equals("exit")) System.exit(3);
            else output.write(bytes(part));
        }
    }
    public void letters(InputStream input, OutputStream output) throws IOException {
        for (int letter; (letter = input.read()) >= 0;) output.write(Character.toUpperCase(letter));
    }
    public void keeps(InputStream input, OutputStream output) throws IOException {
        if (kept != null) try { kept.write(bytes("late")); } catch (IOException error) { output.write(bytes("over")); }
        kept = output;
    }
    public void large(InputStream input, OutputStream output) throws Exception {
        int size = Integer.parseInt(new String(input.readAllBytes()));
        THREE.await();
        for (int part = 0; part < 40; part++) output.write(new byte[size]);
    }
    static final java.io.PrintStream EARLY = System.out;
    private static void print(String event) throws Exception {
        for (int number = 0; number < 20; number++) {
            THREE.await();
            EARLY.print("printed by ");
            System.out.println(event + " " + number);
            System.err.println("error of " + event);
        }
        EARLY.write('\\n');
        System.out.print("no end of " + event);
    }
    public String[] share(String event, com.amazonaws.services.lambda.runtime.Context context) throws Exception {
        context.getLogger().log("seen " + event);
        switch (event) {
            case "later" -> LATER.await();
            case "x", "y", "z" -> print(event);
            case "now" -> LATER.countDown();
            case "raise" -> { THREE.await(); throw new IllegalStateException(context.getAwsRequestId()); }
            case "exit" -> System.exit(3);
            case "sleep" -> Thread.sleep(60_000);
            default -> THREE.await();
        }
        return new String[] {event, context.getAwsRequestId(), Thread.currentThread().getContextClassLoader().getName(),
            System.getProperty("com.amazonaws.xray.traceHeader"), context.getXrayTraceId()};
    }
}
"""
CONTEXT = """package com.amazonaws.services.lambda.runtime;
public interface Context { String getAwsRequestId(); String getXrayTraceId(); LambdaLogger getLogger(); }
"""
LOGGER = "package com.amazonaws.services.lambda.runtime;\npublic interface LambdaLogger { void log(String message); }\n"


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    for name, text in {"Streams": SOURCE, "Context": CONTEXT, "LambdaLogger": LOGGER}.items():
        (folder / f"{name}.java").write_text(text)
    return compile_java(tmp_path_factory.mktemp("task"), *folder.glob("*.java"))


@pytest.fixture
def runtime(java_classes: Path) -> Iterator[RuntimeProcess]:
    with java_runtime(java_classes) as process:
        yield process


def answer(runtime: RuntimeProcess, event: bytes, **call: Any) -> tuple[str, bytes, Any]:
    """Return the answer's type, "" where it does not stream, its bytes and its error's message."""
    number = runtime.send(Kind.INVOKE, invoke_payload(event, **call))
    kind, data = "", b""
    while True:
        frame = runtime.receive()
        assert frame.id == number
        if frame.kind is Kind.STREAM:
            kind = frame.payload.decode()
        elif frame.kind is Kind.CHUNK:
            assert len(frame.payload) <= 65536
            data += frame.payload
        elif frame.kind is Kind.RESULT:
            return kind, frame.payload, None
        else:
            assert frame.kind is (Kind.END if kind else Kind.FAILURE)
            return kind, data, json.loads(frame.payload)["errorMessage"] if frame.payload else None


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ("some|more", (BYTES, b"somemore", None)),
        ("large|large", (BYTES, bytes(400_000), None)),
        ("some|throw", (BYTES, b"some", "as asked")),
        ("throw", ("", b"", "as asked")),
        ("", ("", b"", None)),
        # One object, as handlers of AWS's write it, is an ordinary answer.
        ('{"a": "}|{\\""}\n|flush', ("", b'{"a": "}{\\""}\n', None)),
        ('{"a": |throw', ("", b"", "as asked")),
        # A part of one that is flushed is to be seen.
        ('{"a": |flush|1}', (BYTES, b'{"a": 1}', None)),
        ('{"n": 1}\n|{"n": 2}\n', (BYTES, b'{"n": 1}\n{"n": 2}\n', None)),
        # Eight NULs end a head.
        ('{"statusCode": 201}|flush|NULs|body', (HTTP, b'{"statusCode": 201}' + bytes(8) + b"body", None)),
        ('{"statusCode": 201}|NULs|throw', (HTTP, b'{"statusCode": 201}' + bytes(8), "as asked")),
        ('{"statusCode": 201}\0|body', (BYTES, b'{"statusCode": 201}\0body', None)),
    ],
)
def test_what_is_written(runtime: RuntimeProcess, task: Path, parts: str, expected: tuple[str, bytes, Any]) -> None:
    runtime.loaded(task, "app.Streams::written")
    for request_id in ("r-1", "r-2"):
        assert answer(runtime, parts.encode(), request_id=request_id) == expected
        assert runtime.marked(request_id)


def test_bytes_flow_as_they_are_written(runtime: RuntimeProcess, task: Path, tmp_path: Path) -> None:
    """The host has the first part while the handler waits for what comes after that."""
    runtime.loaded(task, "app.Streams::written")
    runtime.send(Kind.INVOKE, invoke_payload(f"begun|{tmp_path / 'go'}|ended".encode()))
    assert [runtime.receive().payload for _ in range(2)] == [BYTES.encode(), b"begun"]
    (tmp_path / "go").touch()
    assert [runtime.receive().payload for _ in range(2)] == [b"ended", b""]


def test_single_bytes_wait_for_more(runtime: RuntimeProcess, task: Path) -> None:
    runtime.loaded(task, "app.Streams::letters")
    assert answer(runtime, b"raw") == ("", b"RAW", None)
    assert answer(runtime, b"a" * 150_000) == (BYTES, b"A" * 150_000, None)


@pytest.mark.parametrize(("size", "kind"), [(6 << 20, ""), ((6 << 20) + 1, BYTES)])
def test_an_object_that_no_ordinary_answer_holds_streams(
    runtime: RuntimeProcess, task: Path, size: int, kind: str
) -> None:
    text = b'{"a": "' + b"x" * (size - 9) + b'"}'
    assert answer(runtime.loaded(task, "app.Streams::echo"), text) == (kind, text, None)


def test_a_stream_of_an_earlier_call_is_over(runtime: RuntimeProcess, task: Path) -> None:
    runtime.loaded(task, "app.Streams::keeps")
    assert answer(runtime, b"") == ("", b"", None)
    assert answer(runtime, b"") == (BYTES, b"over", None)


def test_an_exit_ends_the_stream(runtime: RuntimeProcess, task: Path) -> None:
    runtime.loaded(task, "app.Streams::written")
    kind, data, error = answer(runtime, b"some|exit")
    assert (kind, data) == (BYTES, b"some")
    assert error.startswith("RequestId: r-1 Error: Runtime exited")
    assert runtime.marked()


def share(runtime: RuntimeProcess, event: str) -> int:
    call = {"request_id": f"r-{event}", "shared": True, "trace_id": f"Root={event}"}
    return runtime.send(Kind.INVOKE, invoke_payload(json.dumps(event).encode(), **call))


def test_shared_requests_run_side_by_side_and_are_answered_as_they_end(runtime: RuntimeProcess, task: Path) -> None:
    runtime.loaded(task, "app.Streams::share", logging={"format": "JSON", "level": "INFO"})
    # Three that wait for one another: they are inside at once, in one object.
    ids = {share(runtime, event): event for event in ("a", "b", "raise")}
    for _ in ids.copy():
        frame = runtime.receive()
        event = ids.pop(frame.id)
        document = json.loads(frame.payload)
        if event == "raise":
            assert (frame.kind, document["errorMessage"]) == (Kind.FAILURE, "r-raise")
        else:
            assert document == [event, f"r-{event}", None, None, f"Root={event}"]
        assert runtime.marked(f"r-{event}")
    later, now = share(runtime, "later"), share(runtime, "now")
    assert {runtime.receive().id, runtime.receive().id} == {later, now}
    # Each line names its own request.
    lines = [json.loads(line) for line in runtime.stdout().splitlines()]
    assert all(line["message"] == f"seen {line['AWSRequestId'].removeprefix('r-')}" for line in lines)
    # And one alone again.
    assert runtime.result("now", request_id="r-last", trace_id="Root=1")[3:] == ["Root=1", "Root=1"]


def test_each_shared_request_has_its_own_output(runtime: RuntimeProcess, task: Path) -> None:
    runtime.loaded(task, "app.Streams::share", concurrency=3)
    for event in "xyz":
        share(runtime, event)
    assert {runtime.receive().kind for _ in "xyz"} == {Kind.RESULT}
    assert all(runtime.marked(f"r-{event}") for event in "xyz")
    found = cut(runtime, [f"r-{event}" for event in "xyz"])
    for event in "xyz":
        printed = "".join(f"printed by {event} {number}\n" for number in range(20))
        errors = f"error of {event}\n" * 20
        assert found[f"r-{event}"] == f"seen {event}{printed}\nno end of {event}{errors}"


def test_an_end_is_told_to_all_that_share_the_runtime(runtime: RuntimeProcess, task: Path) -> None:
    runtime.loaded(task, "app.Streams::share")
    ids = {share(runtime, event) for event in ("sleep", "exit")}
    found = [runtime.receive() for _ in ids]
    assert {frame.id for frame in found} == ids
    assert {json.loads(frame.payload)["errorType"] for frame in found} == {"Runtime.ExitError"}
    assert runtime.process.wait(10) == 3


def test_answers_of_threads_are_whole(runtime: RuntimeProcess, task: Path) -> None:
    """Frames of answers that are made at the same time do not mix."""
    runtime.loaded(task, "app.Streams::large")
    sizes = {runtime.send(Kind.INVOKE, invoke_payload(b"%d" % size, shared=True)): size for size in range(65000, 65003)}
    received = dict.fromkeys(sizes, 0)
    ended: set[int] = set()
    while len(ended) < 3:
        frame = runtime.receive()
        if frame.kind is Kind.CHUNK:
            assert len(frame.payload) == sizes[frame.id]
            received[frame.id] += len(frame.payload)
        elif frame.kind is Kind.END:
            ended.add(frame.id)
    assert received == {number: 40 * size for number, size in sizes.items()}
