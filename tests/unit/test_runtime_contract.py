"""What every language's runtime keeps to: the same calls, one table of handlers a language."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.runtime_process import (
    ARN,
    RuntimeProcess,
    compile_java,
    eventually,
    java_runtime,
    node_runtime,
    php_runtime,
    python_runtime,
)

from alcove.images.rehearsal import SOURCES
from alcove.wire.frame import Kind

# As AWS declares them; a package brings its own.
LAMBDA = {
    "Context": """
        String getAwsRequestId(); String getLogGroupName(); String getLogStreamName(); String getFunctionName();
        String getFunctionVersion(); String getInvokedFunctionArn(); CognitoIdentity getIdentity();
        ClientContext getClientContext(); int getRemainingTimeInMillis(); int getMemoryLimitInMB();
        LambdaLogger getLogger();""",
    "CognitoIdentity": "String getIdentityId(); String getIdentityPoolId();",
    "ClientContext": "Client getClient(); java.util.Map<String, String> getCustom();",
    "Client": "String getAppTitle();",
    "LambdaLogger": "void log(String message); void log(byte[] message);",
    "RequestHandler<I, O>": "O handleRequest(I input, Context context);",
    "RequestStreamHandler": """
        void handleRequest(java.io.InputStream input, java.io.OutputStream output, Context context)
            throws java.io.IOException;""",
}

CONTEXT_FIELDS = ["request_id", "arn", "function", "version", "memory", "group", "stream", "left", "custom", "app"]


@dataclass(frozen=True)
class Language:
    """A handler that does what its event asks for, and what to expect of it."""

    name: str
    source: str
    error: str
    syntax_error: str
    file: str
    handler: str = "app.handler"


PYTHON = Language(
    name="python",
    file="app.py",
    source="""
import os, sys
counter = 0

def handler(event, context):
    global counter
    counter += 1
    what = event.get("do") if isinstance(event, dict) else "echo"
    if what == "context":
        return {"request_id": context.aws_request_id, "arn": context.invoked_function_arn,
                "function": context.function_name, "version": context.function_version,
                "memory": int(context.memory_limit_in_mb), "group": context.log_group_name,
                "stream": context.log_stream_name, "left": context.get_remaining_time_in_millis(),
                "custom": context.client_context.custom, "app": context.client_context.client.app_title}
    if what == "count":
        return counter
    if what == "env":
        return {name: os.environ.get(name) for name in event["names"]}
    if what == "print":
        print("to stdout: \\u00e4"); sys.stderr.write("to stderr\\n"); return None
    if what == "raise":
        raise ValueError("no \\u00e4")
    if what == "large":
        return "x" * (6 * 1024 * 1024)
    if what == "exit":
        sys.exit(3)
    return event
""",
    error="ValueError",
    syntax_error="def (",
)
NODE = Language(
    name="node",
    file="app.js",
    source="""
let counter = 0;
exports.handler = async (event, context) => {
  counter += 1;
  switch (event && event.do) {
    case 'context': return {request_id: context.awsRequestId, arn: context.invokedFunctionArn,
      function: context.functionName, version: context.functionVersion, memory: Number(context.memoryLimitInMB),
      group: context.logGroupName, stream: context.logStreamName, left: context.getRemainingTimeInMillis(),
      custom: context.clientContext.custom, app: context.clientContext.client.app_title};
    case 'count': return counter;
    case 'env': return Object.fromEntries(event.names.map((name) => [name, process.env[name]]));
    case 'print': console.log('to stdout: \\u00e4'); process.stderr.write('to stderr\\n'); return null;
    case 'raise': throw new RangeError('no \\u00e4');
    case 'large': return 'x'.repeat(6 * 1024 * 1024);
    case 'exit': process.exit(3);
  }
  return event;
};
""",
    error="RangeError",
    syntax_error="function (",
)
PHP = Language(
    name="php",
    file="app.php",
    source="""<?php
function handler($event, $context) {
  static $counter = 0;
  $counter += 1;
  switch ($event['do'] ?? '') {
    case 'context': return ['request_id' => $context->requestId, 'arn' => $context['invokedFunctionArn'],
      'function' => $context->getFunctionName(), 'version' => $context->functionVersion,
      'memory' => (int) $context->memoryLimitInMB, 'group' => $context->logGroupName,
      'stream' => $context->logStreamName, 'left' => $context->getRemainingTimeInMillis(),
      'custom' => $context->clientContext['custom'], 'app' => $context->clientContext['client']['app_title']];
    case 'count': return $counter;
    case 'env':
      $found = [];
      foreach ($event['names'] as $name) $found[$name] = getenv($name) === false ? null : getenv($name);
      return $found;
    case 'print': echo "to stdout: \\u{e4}\\n"; fwrite(STDERR, "to stderr\\n"); return null;
    case 'raise': throw new InvalidArgumentException("no \\u{e4}");
    case 'large': return str_repeat('x', 6 * 1024 * 1024);
    case 'exit': exit(3);
  }
  return $event;
}
""",
    error="InvalidArgumentException",
    syntax_error="<?php function (",
)
JAVA = Language(
    name="java",
    file="App.java",
    source="""
package app;

import com.amazonaws.services.lambda.runtime.*;
import java.util.*;

public class App implements RequestHandler<Object, Object> {
    private int counter;

    public Object handleRequest(Object input, Context context) {
        counter++;
        if (!(input instanceof Map<?, ?> event)) return input;
        Map<String, Object> found = new LinkedHashMap<>();
        switch (String.valueOf(event.get("do"))) {
            case "context":
                found.put("request_id", context.getAwsRequestId());
                found.put("arn", context.getInvokedFunctionArn());
                found.put("function", context.getFunctionName());
                found.put("version", context.getFunctionVersion());
                found.put("memory", context.getMemoryLimitInMB());
                found.put("group", context.getLogGroupName());
                found.put("stream", context.getLogStreamName());
                found.put("left", context.getRemainingTimeInMillis());
                found.put("custom", context.getClientContext().getCustom());
                found.put("app", context.getClientContext().getClient().getAppTitle());
                return found;
            case "count": return counter;
            case "env":
                for (Object name : (List<?>) event.get("names")) found.put((String) name, System.getenv((String) name));
                return found;
            case "print":
                context.getLogger().log("to stdout: \\u00e4\\n");
                System.err.println("to stderr");
                return null;
            case "raise": throw new IllegalStateException("no \\u00e4");
            case "large": return "x".repeat(6 * 1024 * 1024);
            case "exit": System.exit(3);
            default: return event;
        }
    }
}
""",
    error="java.lang.IllegalStateException",
    syntax_error="",
    handler="app.App",
)
LANGUAGES = [PYTHON, NODE, PHP, JAVA]


@pytest.fixture(scope="session")
def java_app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The handler's package: compiled beside the interfaces that it brings."""
    folder = tmp_path_factory.mktemp("app")
    for name, body in LAMBDA.items():
        path = folder / f"{name.partition('<')[0]}.java"
        path.write_text(f"package com.amazonaws.services.lambda.runtime;\npublic interface {name} {{ {body} }}\n")
    (folder / "App.java").write_text(JAVA.source)
    return compile_java(tmp_path_factory.mktemp("task"), *folder.glob("*.java"))


@pytest.fixture(params=LANGUAGES, ids=lambda language: language.name)
def language(request: pytest.FixtureRequest) -> Language:
    found: Language = request.param
    return found


@pytest.fixture
def start(language: Language, request: pytest.FixtureRequest) -> Iterator[Callable[[], RuntimeProcess]]:
    started: list[RuntimeProcess] = []

    def begin() -> RuntimeProcess:
        if language is JAVA:
            process = java_runtime(request.getfixturevalue("java_classes"))
        else:
            process = {"python": python_runtime, "node": node_runtime, "php": php_runtime}[language.name]()
        started.append(process)
        return process

    yield begin
    for process in started:
        process.close()


@pytest.fixture
def task(language: Language, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    if language is JAVA:
        app: Path = request.getfixturevalue("java_app")
        return app
    (tmp_path / language.file).write_text(language.source)
    return tmp_path


@pytest.fixture
def runtime(language: Language, start: Callable[[], RuntimeProcess], task: Path) -> RuntimeProcess:
    return start().loaded(task, language.handler)


@pytest.mark.parametrize(
    "event",
    [
        None,
        True,
        0,
        -7,
        12345678901,
        1.5,
        "text \u00e4\U0001f600\n",
        [],
        [1, "two", None],
        {"a": {"b": [1, 2.5, "\u0000"]}},
    ],
    ids=repr,
)
def test_events_and_answers_are_json(runtime: RuntimeProcess, event: object) -> None:
    assert runtime.result(event) == event


def test_the_context(runtime: RuntimeProcess) -> None:
    client = {"client": {"app_title": "shop"}, "custom": {"k": "v"}, "env": {"locale": "de"}}
    deadline = int(time.time() * 1000) + 10_000
    found = runtime.result({"do": "context"}, client_context=json.dumps(client), deadline_ms=deadline)
    assert sorted(found) == sorted(CONTEXT_FIELDS)
    assert 0 < found.pop("left") <= 10_000
    assert found == {
        "request_id": "r-1",
        "arn": ARN,
        "function": "sample",
        "version": "7",
        "memory": 256,
        "group": "/alcove/sample",
        "stream": "[7]",
        "custom": {"k": "v"},
        "app": "shop",
    }


def test_no_time_is_left_after_the_deadline(runtime: RuntimeProcess) -> None:
    client = json.dumps({"client": {}, "custom": None})
    assert runtime.result({"do": "context"}, client_context=client, deadline_ms=1)["left"] == 0


def test_the_environment(language: Language, start: Callable[[], RuntimeProcess], task: Path) -> None:
    logging = {"format": "JSON", "level": "WARN"}
    runtime = start().loaded(task, language.handler, environment={"COLOUR": "blue \u00e4"}, logging=logging)
    names = ["COLOUR", "AWS_LAMBDA_LOG_FORMAT", "AWS_LAMBDA_LOG_LEVEL", "_HANDLER", "LAMBDA_TASK_ROOT", "HOME",
             "AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "ALCOVE_CHANNEL_FD"]  # fmt: skip
    found = runtime.result({"do": "env", "names": names})
    assert found.pop("ALCOVE_CHANNEL_FD", None) is None
    assert found == {
        "COLOUR": "blue \u00e4",
        "AWS_LAMBDA_LOG_FORMAT": "JSON",
        "AWS_LAMBDA_LOG_LEVEL": "WARN",
        "_HANDLER": language.handler,
        "LAMBDA_TASK_ROOT": str(task),
        "AWS_LAMBDA_FUNCTION_NAME": "sample",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
        "HOME": "/tmp",
    }


def test_state_stays_between_calls(runtime: RuntimeProcess) -> None:
    assert [runtime.result({"do": "count"}) for _ in range(3)] == [1, 2, 3]


def test_what_it_prints_comes_before_the_marker(runtime: RuntimeProcess) -> None:
    runtime.result({"do": "print"}, request_id="r-9")
    assert runtime.marked("r-9")
    assert "to stdout: \u00e4" in runtime.stdout()
    assert runtime.stderr().index("to stderr") < runtime.stderr().index("\0alcove:end:r-9\0")


def test_an_error_is_told_and_the_runtime_lives_on(language: Language, runtime: RuntimeProcess) -> None:
    failure = runtime.failure({"do": "raise"})
    assert (failure["errorType"], failure["errorMessage"]) == (language.error, "no \u00e4")
    stack = failure.get("stackTrace", failure.get("trace"))
    assert language.file in "".join(stack)
    assert "guest/runtimes" not in "".join(stack)
    assert runtime.marked()
    assert runtime.result(1) == 1


def test_too_large_an_answer(runtime: RuntimeProcess) -> None:
    failure = runtime.failure({"do": "large"})
    assert failure["errorType"] == "Function.ResponseSizeTooLarge"
    limit = "Response payload size (6291458 bytes) exceeded maximum allowed payload size (6291456 bytes)."
    assert failure["errorMessage"] == limit


def test_an_event_that_is_not_json(runtime: RuntimeProcess) -> None:
    for event in (b"{not json", b'{"a":1}}', b"[1,]", b"\xff\xfe"):
        frame = runtime.invoke(event)
        assert frame.kind is Kind.FAILURE, event
        assert json.loads(frame.payload)["errorType"] == "Runtime.UnmarshalError"


def test_an_exit_is_told(language: Language, runtime: RuntimeProcess) -> None:
    failure = runtime.failure({"do": "exit"})
    assert failure["errorType"] == "Runtime.ExitError"
    assert failure["errorMessage"].startswith("RequestId: r-1 Error: Runtime exited")


@pytest.mark.parametrize(
    ("handler", "kinds"),
    [
        ("nowhere.handler", {"Runtime.ImportModuleError"}),
        ("app.nothing", {"Runtime.HandlerNotFound"}),
        ("app", {"Runtime.MalformedHandlerName"}),
    ],
)
def test_handlers_that_are_not_there(
    language: Language, start: Callable[[], RuntimeProcess], task: Path, handler: str, kinds: set[str]
) -> None:
    if language is JAVA:
        handler = {"nowhere.handler": "nowhere.App", "app.nothing": "app.App::nothing", "app": "::x"}[handler]
    runtime = start()
    assert runtime.fails_to_load(task, handler)["errorType"] in kinds
    assert runtime.request(Kind.PING, b"still here").payload == b"still here"


def test_code_that_does_not_parse(language: Language, start: Callable[[], RuntimeProcess], tmp_path: Path) -> None:
    if language is JAVA:
        (tmp_path / "App.class").write_bytes(b"no class file")
        assert start().fails_to_load(tmp_path, "App")["errorType"] == "java.lang.ClassFormatError"
        return
    (tmp_path / language.file).write_text(language.syntax_error)
    assert start().fails_to_load(tmp_path)["errorType"] == "Runtime.UserCodeSyntaxError"


def test_a_rehearsal_leaves_nothing(
    language: Language, start: Callable[[], RuntimeProcess], task: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    sample = tmp_path_factory.mktemp("sample")
    for name, source in SOURCES.items():
        (sample / name).write_text(source)
    runtime = start()
    for _ in range(2):
        runtime.loaded(sample, "rehearsal.handler", rehearsal=True)
        assert "rehearsal" in json.dumps(runtime.result({"rehearsal": True}))
        runtime.unload()
    runtime.loaded(task, language.handler)
    assert runtime.result({"do": "count"}) == 1


def test_java_logs_objects_where_it_is_told(java_classes: Path, java_app: Path) -> None:
    with java_runtime(java_classes) as runtime:
        runtime.loaded(java_app, JAVA.handler, logging={"format": "JSON", "level": "INFO"})
        runtime.result({"do": "print"}, request_id="r-3")
        line = json.loads(runtime.stdout())
    assert (line["message"], line["AWSRequestId"]) == ("to stdout: \u00e4\n", "r-3")


def test_it_ends_with_its_channel(runtime: RuntimeProcess) -> None:
    runtime.socket.close()
    assert eventually(lambda: runtime.process.poll() is not None)
