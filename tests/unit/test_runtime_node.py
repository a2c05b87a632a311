"""The Node.js runtime as a process: handlers, contexts, failures, requests that share it."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.runtime_process import ARN, RuntimeProcess, cut, eventually, invoke_payload, node_runtime

from alcove.wire.frame import Kind

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="there is no node here")


@pytest.fixture
def runtime() -> Iterator[RuntimeProcess]:
    with node_runtime() as process:
        yield process


def write(root: Path, source: str, name: str = "app.js") -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)
    return root


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("exports.handler = async (event) => ({ got: event })", {"got": [1]}),
        ("exports.handler = (event) => Promise.resolve(event)", [1]),
        ("exports.handler = (event) => event", [1]),
        ("exports.handler = (event, context, callback) => callback(null, 'x')", "x"),
        ("exports.handler = (e, c, callback) => { setTimeout(callback, 20, null, 5) }", 5),
        ("exports.handler = (event, context) => context.succeed('s')", "s"),
        ("exports.handler = (event, context) => context.done(null, 'd')", "d"),
        ("exports.handler = async () => undefined", None),
        ("exports.handler = async () => () => 1", None),
        ("exports.handler = (event, context, callback) => {}", None),
        ("exports.handler = () => new Promise(() => {})", None),
        ("exports.handler = async () => 'gr\\u00fc\\u00df\\ud83d\\ude00'", "grüß😀"),
    ],
)
def test_ways_to_answer(runtime: RuntimeProcess, tmp_path: Path, source: str, expected: Any) -> None:
    runtime.loaded(write(tmp_path, source))
    assert runtime.result([1]) == expected
    assert runtime.marked()
    assert runtime.result([1], request_id="r-2") == expected
    assert runtime.marked("r-2")


def test_a_callback_waits_for_an_empty_event_loop(runtime: RuntimeProcess, tmp_path: Path) -> None:
    source = """
    let late = 0
    exports.handler = (wait, context, callback) => {
      context.callbackWaitsForEmptyEventLoop = wait
      setTimeout(() => { late++ }, 150)
      callback(null, { get late() { return late } })
    }"""
    runtime.loaded(write(tmp_path, source))
    assert runtime.result(True) == {"late": 1}
    assert runtime.result(False) == {"late": 1}
    # Timers run on between calls.
    time.sleep(0.3)
    assert runtime.result(False) == {"late": 2}


def test_a_late_callback_does_not_answer_the_next_call(runtime: RuntimeProcess, tmp_path: Path) -> None:
    source = """
    exports.handler = (event, context, callback) => {
      if (event === 2) { setTimeout(callback, 200, null, 'second'); return }
      setTimeout(callback, 50, null, 'stale')
      context.succeed('first')
    }"""
    runtime.loaded(write(tmp_path, source))
    assert runtime.result(1) == "first"
    assert runtime.result(2) == "second"


@pytest.mark.parametrize(
    ("name", "handler", "source", "package"),
    [
        ("app.mjs", "app.handler", "export const handler = async () => 1", None),
        ("app.cjs", "app.handler", "exports.handler = async () => 1", None),
        ("app.js", "app.handler", "export const handler = async () => 1", '{"type": "module"}'),
        (
            "app.js",
            "app.handler",
            "const one = await 1; export const handler = async () => one",
            '{"type": "module"}',
        ),
        ("app.mjs", "app.handler", "export default { handler: async () => 1 }", None),
        ("app.js", "app.a.b", "exports.a = { b: async () => 1 }", None),
        ("dir/sub/app.js", "dir/sub/app.handler", "exports.handler = async () => 1", None),
        ("d.ir/app.js", "d.ir/app.handler", "exports.handler = async () => 1", None),
        ("app/index.js", "app.handler", "exports.handler = async () => 1", None),
        ("node_modules/lib/index.js", "lib.handler", "exports.handler = async () => 1", None),
    ],
)
def test_where_handlers_are_found(
    runtime: RuntimeProcess,
    tmp_path: Path,
    name: str,
    handler: str,
    source: str,
    package: str | None,
) -> None:
    write(tmp_path, source, name)
    if package:
        write(tmp_path, package, "package.json")
    assert runtime.loaded(tmp_path, handler).result() == 1


@pytest.mark.parametrize(
    ("handler", "source", "kind", "message"),
    [
        ("app.handler", "require('missing-one')", "Runtime.ImportModuleError", "missing-one"),
        ("other.handler", "", "Runtime.ImportModuleError", "Cannot find module 'other'"),
        ("app.handler", "exports.x = 1", "Runtime.HandlerNotFound", "app.handler is undefined"),
        ("app.handler", "exports.handler = 1", "Runtime.HandlerNotFound", "is not a function"),
        ("app.handler", "let let = ;", "Runtime.UserCodeSyntaxError", "SyntaxError: "),
        ("app", "", "Runtime.MalformedHandlerName", "Bad handler"),
        ("../app.handler", "", "Runtime.MalformedHandlerName", "not a valid handler name"),
        ("app.handler", "throw new TypeError('at load')", "TypeError", "at load"),
        ("app.handler", "throw 'text'", "string", "text"),
    ],
)
def test_failures_to_load(
    runtime: RuntimeProcess, tmp_path: Path, handler: str, source: str, kind: str, message: str
) -> None:
    failure = runtime.fails_to_load(write(tmp_path, source), handler)
    assert failure["errorType"] == kind
    assert message in failure["errorMessage"]
    assert "alcove" not in "".join(failure["trace"])
    assert sorted(failure) == ["errorMessage", "errorType", "trace"]
    assert runtime.request(Kind.PING, b"x").payload == b"x"


@pytest.mark.parametrize(
    ("source", "code"),
    [("process.exit(7)", 7), ("process.exit()", 0)],
)
def test_exit_while_loading(runtime: RuntimeProcess, tmp_path: Path, source: str, code: int) -> None:
    failure = runtime.fails_to_load(write(tmp_path, source))
    assert failure["errorType"] == "Runtime.ExitError"
    assert failure["errorMessage"].endswith(f"exit status {code}")
    assert runtime.process.wait(5) == code


def test_loading_that_never_ends_fails(runtime: RuntimeProcess, tmp_path: Path) -> None:
    root = write(tmp_path, "await new Promise(() => {})", "app.mjs")
    assert runtime.fails_to_load(root)["errorType"] == "Runtime.ExitError"
    assert runtime.process.wait(5) == 13


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        ("throw new RangeError('no')", "RangeError", "no"),
        ("return Promise.reject(new TypeError('later'))", "TypeError", "later"),
        ("return Promise.reject()", "undefined", "undefined"),
        ("callback(new Error('called'))", "Error", "called"),
        ("callback('text')", "string", "text"),
        ("callback({ a: 1 })", "object", "[object Object]"),
        ("callback(Object.create(null))", "Runtime.UnknownReason", "cannot be read"),
        ("context.fail('failed')", "string", "failed"),
        ("context.fail()", "string", "handled"),
        ("class Own extends Error { name = 'Own' }; throw new Own('o')", "Own", "o"),
        ("const a = {}; a.a = a; callback(null, a)", "Runtime.MarshalError", "circular"),
        ("callback(null, 1n)", "Runtime.MarshalError", "BigInt"),
        (
            "callback(null, 'x'.repeat(6 * 1024 * 1024))",
            "Function.ResponseSizeTooLarge",
            "Response payload size (6291458 bytes) exceeded maximum allowed payload size",
        ),
    ],
)
def test_failures_of_calls(runtime: RuntimeProcess, tmp_path: Path, body: str, kind: str, message: str) -> None:
    source = f"exports.handler = (event, context, callback) => {{ if (event) {{ {body} }} }}"
    runtime.loaded(write(tmp_path, source))
    failure = runtime.failure(True)
    assert failure["errorType"] == kind
    assert message in failure["errorMessage"]
    assert isinstance(failure["trace"], list)
    assert not [line for line in failure["trace"] if "guest/runtimes" in line]
    assert runtime.marked()
    assert runtime.result(False) is None


def test_a_trace_names_the_tenants_lines(runtime: RuntimeProcess, tmp_path: Path) -> None:
    runtime.loaded(write(tmp_path, "exports.handler = async () => {\n  null.x\n}"))
    trace = runtime.failure()["trace"]
    assert trace[0].startswith("TypeError: Cannot read properties of null")
    assert f"{tmp_path}/app.js:2:" in trace[1]


@pytest.mark.parametrize(
    ("body", "kind", "message", "code"),
    [
        ("setTimeout(() => { throw new TypeError('stray') }, 5)", "TypeError", "stray", 129),
        (
            "Promise.reject(new Error('lost')); setTimeout(callback, 500)",
            "Runtime.UnhandledPromiseRejection",
            "Error: lost",
            128,
        ),
        ("setTimeout(() => process.exit(3), 5)", "Runtime.ExitError", "exit status 3", 3),
        ("process.exit(0)", "Runtime.ExitError", "RequestId: r-1 Error: Runtime exited", 0),
    ],
)
def test_ends_in_the_middle_of_a_call(
    runtime: RuntimeProcess, tmp_path: Path, body: str, kind: str, message: str, code: int
) -> None:
    runtime.loaded(write(tmp_path, f"exports.handler = (e, context, callback) => {{ {body} }}"))
    failure = runtime.failure()
    assert failure["errorType"] == kind
    assert message in failure["errorMessage"]
    assert runtime.process.wait(5) == code
    assert runtime.marked()


@pytest.mark.parametrize("body", ["process.exit(4)", "throw new Error('stray')"])
def test_an_end_between_calls_does_not_wait_for_the_host(runtime: RuntimeProcess, tmp_path: Path, body: str) -> None:
    source = f"exports.handler = async () => {{ setTimeout(() => {{ {body} }}, 50) }}"
    runtime.loaded(write(tmp_path, source))
    assert runtime.result() is None
    assert runtime.process.wait(5) == -signal.SIGKILL


def test_environment(runtime: RuntimeProcess, tmp_path: Path) -> None:
    source = "exports.handler = async () => [process.env, process.cwd(), __filename, String(new Date(0))]"
    runtime.loaded(write(tmp_path, source), environment={"MINE": "1", "LANG": "de_DE.UTF-8"})
    environment, folder, file, epoch = runtime.result(trace_id="Root=1")
    assert environment == {
        "LANG": "de_DE.UTF-8",
        "TZ": ":UTC",
        "PATH": "/usr/local/bin:/usr/bin:/bin:/opt/bin",
        "HOME": "/tmp",
        "LD_LIBRARY_PATH": "/var/task/lib:/opt/lib",
        "NODE_PATH": "/opt/nodejs/node18/node_modules:/opt/nodejs/node_modules:/opt/node_modules:/usr/share/nodejs",
        "_HANDLER": "app.handler",
        "LAMBDA_TASK_ROOT": str(tmp_path),
        "LAMBDA_RUNTIME_DIR": "/opt/alcove",
        "AWS_EXECUTION_ENV": "AWS_Lambda_nodejs18.x",
        "AWS_LAMBDA_FUNCTION_NAME": "sample",
        "AWS_LAMBDA_FUNCTION_VERSION": "7",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
        "AWS_LAMBDA_LOG_GROUP_NAME": "/alcove/sample",
        "AWS_LAMBDA_LOG_STREAM_NAME": "[7]",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_FORMAT": "Text",
        "_X_AMZN_TRACE_ID": "Root=1",
        "MINE": "1",
    }
    assert (folder, file) == (str(tmp_path), f"{tmp_path}/app.js")
    assert epoch.startswith("Thu Jan 01 1970 00:00:00")
    assert "_X_AMZN_TRACE_ID" not in runtime.result()[0]


def test_context(runtime: RuntimeProcess, tmp_path: Path) -> None:
    source = """
    exports.handler = async (event, context) =>
      ({ ...context, left: context.getRemainingTimeInMillis() })"""
    runtime.loaded(write(tmp_path, source))
    deadline = int(time.time() * 1000) + 60_000
    context = runtime.result(client_context='{"custom": {"a": 1}}', deadline_ms=deadline)
    assert 50_000 < context.pop("left") <= 60_000
    assert context == {
        "callbackWaitsForEmptyEventLoop": True,
        "functionName": "sample",
        "functionVersion": "7",
        "invokedFunctionArn": ARN,
        "memoryLimitInMB": "256",
        "awsRequestId": "r-1",
        "requestId": "r-1",
        "logGroupName": "/alcove/sample",
        "logStreamName": "[7]",
        "clientContext": {"custom": {"a": 1}},
    }
    assert runtime.result(deadline_ms=0)["left"] == 0


def test_payloads_of_six_megabytes(runtime: RuntimeProcess, tmp_path: Path) -> None:
    runtime.loaded(write(tmp_path, "exports.handler = async (event) => event"))
    event = json.dumps("x" * (6 * 1024 * 1024 - 2)).encode()
    frame = runtime.invoke(event)
    assert (frame.kind, frame.payload == event) == (Kind.RESULT, True)


def test_frames_in_small_pieces_and_in_one(runtime: RuntimeProcess, tmp_path: Path) -> None:
    for byte in b"\0\0\0\3\x19\0\0\0\1abc":
        runtime.socket.sendall(bytes([byte]))
        time.sleep(0.002)
    assert runtime.receive()[1:] == (1, b"abc")
    runtime.socket.sendall(b"\0\0\0\3\x19\0\0\0\2abc\0\0\0\0\x19\0\0\0\3")
    assert [runtime.receive()[1:], runtime.receive()[1:]] == [(2, b"abc"), (3, b"")]


def test_events_that_are_not_json(runtime: RuntimeProcess, tmp_path: Path) -> None:
    runtime.loaded(write(tmp_path, "exports.handler = async (event) => event"))
    frame = runtime.invoke(b"{not json")
    assert frame.kind is Kind.FAILURE
    assert json.loads(frame.payload)["errorType"] == "Runtime.UnmarshalError"
    assert runtime.invoke(b"").payload == b"null"


def test_output_comes_before_the_marker(runtime: RuntimeProcess, tmp_path: Path) -> None:
    source = "exports.handler = async () => { console.log('out'); console.error('err') }"
    runtime.loaded(write(tmp_path, source)).result()
    assert runtime.marked()
    assert [line.split("\t")[1:] for line in runtime.stdout().splitlines()] == [
        ["r-1", "INFO", "out"],
        ["r-1", "ERROR", "err"],
    ]
    assert runtime.stderr() == "\0alcove:end:r-1\0"


def test_children_do_not_inherit_the_channel(runtime: RuntimeProcess, tmp_path: Path) -> None:
    source = """
    const { execFileSync, spawnSync } = require('child_process')
    exports.handler = async () => [
      execFileSync('sh', ['-c', 'ls -l /proc/$$/fd; env']).toString(),
      spawnSync('ls', ['-l', '/proc/self/fd'], { stdio: 'pipe' }).stdout.toString(),
      require('fs').readlinkSync('/proc/self/fd/3'), require('fs').readlinkSync('/proc/self/fd/0'),
    ]"""
    first, second, channel, stdin = runtime.loaded(write(tmp_path, source)).result()
    assert channel.startswith("socket:")
    assert channel not in first + second
    assert "ALCOVE" not in first
    assert stdin == "/dev/null"


def test_ends_with_the_host(tmp_path: Path) -> None:
    with node_runtime() as runtime:
        runtime.socket.close()
        assert runtime.process.wait(5) == 0


def test_refuses_an_unknown_frame(runtime: RuntimeProcess) -> None:
    runtime.socket.sendall(b"\0\0\0\0\x63\0\0\0\1")
    assert eventually(lambda: runtime.process.poll() == 65)


def test_shared_requests_run_side_by_side_and_are_answered_as_they_end(runtime: RuntimeProcess, tmp_path: Path) -> None:
    source = """
    const waiting = [];
    exports.handler = async (event, context) => {
      if (event === 'go') waiting.splice(0).forEach((wake) => wake());
      else await new Promise((wake) => waiting.push(wake));
      if (event === 'raise') throw new RangeError(context.awsRequestId);
      return [event, context.awsRequestId];
    };
    """
    runtime.loaded(write(tmp_path, source))
    ids = {}
    for event in ("a", "b", "raise", "go"):
        payload = invoke_payload(json.dumps(event).encode(), request_id=f"r-{event}", shared=True)
        ids[runtime.send(Kind.INVOKE, payload)] = event
    assert ids[(first := runtime.receive()).id] == "go"
    assert json.loads(first.payload) == ["go", "r-go"]
    for _ in range(3):
        frame = runtime.receive()
        event = ids[frame.id]
        document = json.loads(frame.payload)
        if event == "raise":
            assert (document["errorType"], document["errorMessage"]) == ("RangeError", "r-raise")
        else:
            assert document == [event, f"r-{event}"]
        assert runtime.marked(f"r-{event}")
    assert runtime.result("go", request_id="r-last") == ["go", "r-last"]


def test_each_request_finds_its_own_trace(runtime: RuntimeProcess, tmp_path: Path) -> None:
    """As AWS's SDK and its libraries look for it: they write to the global where nothing is there."""
    source = """'use strict';
    globalThis.awslambda = globalThis.awslambda || {};
    globalThis.awslambda.added = true;
    const waiting = [];
    exports.handler = async (event, context) => {
      const store = globalThis.awslambda.InvokeStore;
      store.set('mine', event);
      let refused = false;
      try { store.set(Symbol.for('_AWS_LAMBDA_REQUEST_ID'), 'x'); } catch { refused = true; }
      if (event === 'go') waiting.splice(0).forEach((wake) => wake());
      else if (event !== 'alone') await new Promise((wake) => waiting.push(wake));
      return [store.getRequestId(), store.getXRayTraceId(), context.xRayTraceId, store.get('mine'), refused,
        process.env._X_AMZN_TRACE_ID];
    };
    """
    runtime.loaded(write(tmp_path, source))
    alone = runtime.result("alone", request_id="r-0", trace_id="Root=0")
    assert alone == ["r-0", "Root=0", "Root=0", "alone", True, "Root=0"]
    ids = {}
    for event in ("a", "b", "go"):
        call = {"request_id": f"r-{event}", "trace_id": f"Root={event}", "shared": True}
        ids[runtime.send(Kind.INVOKE, invoke_payload(json.dumps(event).encode(), **call))] = event
    for _ in range(3):
        frame = runtime.receive()
        event = ids[frame.id]
        found = json.loads(frame.payload)
        assert found == [f"r-{event}", f"Root={event}", f"Root={event}", event, True, None]


def test_each_shared_request_has_its_own_output(runtime: RuntimeProcess, tmp_path: Path) -> None:
    source = """
    exports.handler = async (event) => {
      if (event === 'alone') return console.log('alone');
      for (let number = 0; number < 10; number += 1) {
        process.stdout.write(`out ${event} `);
        process.stderr.write(Buffer.from(`error ${event}\\n`), () => {});
        console.log(`logged ${event} ${number}`);
        await new Promise((wake) => setTimeout(wake, 2));
      }
      return event;
    };
    """
    runtime.loaded(write(tmp_path, source))
    runtime.result("alone", request_id="r-alone")
    for event in ("a", "b", "go"):
        runtime.send(Kind.INVOKE, invoke_payload(json.dumps(event).encode(), request_id=f"r-{event}", shared=True))
    for _ in range(3):
        assert runtime.receive().kind is Kind.RESULT
    assert all(runtime.marked(f"r-{event}") for event in ("a", "b", "go"))
    found = cut(runtime, ["r-alone", "r-a", "r-b", "r-go"])
    assert "alone" in found["r-alone"]
    for event in ("a", "b", "go"):
        text = found[f"r-{event}"]
        assert (text.count(f"out {event} "), text.count(f"error {event}\n")) == (10, 10)
        assert text.count("out ") == text.count("error ") == text.count("logged ") == 10


def test_an_end_is_told_to_all_that_share_the_runtime(runtime: RuntimeProcess, tmp_path: Path) -> None:
    source = """
    exports.handler = async (event) => {
      if (event === 'exit') process.exit(3);
      await new Promise((wake) => setTimeout(wake, 60000));
    };
    """
    runtime.loaded(write(tmp_path, source))
    for event in ("a", "b", "exit"):
        runtime.send(Kind.INVOKE, invoke_payload(json.dumps(event).encode(), request_id=f"r-{event}", shared=True))
    found = [runtime.receive() for _ in range(3)]
    assert {frame.kind for frame in found} == {Kind.FAILURE}
    assert {json.loads(frame.payload)["errorType"] for frame in found} == {"Runtime.ExitError"}
    assert runtime.process.wait(10) == 3
