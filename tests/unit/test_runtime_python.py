"""The Python runtime as a process: handlers, contexts, failures, rehearsal, seeds, hooks."""

from __future__ import annotations

import json
import py_compile
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.runtime_process import ARN, SOURCES, RuntimeProcess, cut, invoke_payload, python_runtime

from alcove.wire.frame import Kind

TENANT = SOURCES / "alcove/guest/tenant"


@pytest.fixture
def runtime() -> Iterator[RuntimeProcess]:
    with python_runtime() as process:
        yield process


def write(root: Path, source: str, name: str = "app.py") -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)
    return root


def handler(body: str) -> str:
    return f"def handler(event, context):\n    {body}\n"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("return event", {"a": [1, "grüß😀"]}),
        ("return None", None),
        ("pass", None),
        ("return (1, 2)", [1, 2]),
        ("return '\\ud800'", "\ud800"),
    ],
)
def test_answers(runtime: RuntimeProcess, tmp_path: Path, body: str, expected: Any) -> None:
    runtime.loaded(write(tmp_path, handler(body)))
    for number in range(2):
        request_id = f"r-{number}"
        assert runtime.result({"a": [1, "grüß😀"]}, request_id=request_id) == expected
        assert runtime.marked(request_id)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("app.py", "app.handler"),
        ("folder/app.py", "folder/app.handler"),
        ("folder/app.py", "folder.app.handler"),
        ("app/__init__.py", "app.handler"),
    ],
)
def test_where_handlers_are_found(runtime: RuntimeProcess, tmp_path: Path, file: str, name: str) -> None:
    assert runtime.loaded(write(tmp_path, handler("return 1"), file), name).result() == 1


def test_bytecode_beside_the_source_is_used(runtime: RuntimeProcess, tmp_path: Path) -> None:
    write(tmp_path, handler("return [__name__, __file__, __spec__.name, __package__]"))
    unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
    py_compile.compile(str(tmp_path / "app.py"), invalidation_mode=unchecked, doraise=True)
    write(tmp_path, "raise RuntimeError('the source was read')")
    assert runtime.loaded(tmp_path).result() == ["app", f"{tmp_path}/app.py", "app", ""]


@pytest.mark.parametrize(
    ("name", "source", "kind", "message"),
    [
        ("app.handler", "import no_such", "Runtime.ImportModuleError", "No module named 'no_such'"),
        ("other.handler", "", "Runtime.ImportModuleError", "Unable to import module 'other'"),
        ("app.handler", "x = 1", "Runtime.HandlerNotFound", "Handler 'handler' missing on module"),
        ("app.handler", "handler = 1", "Runtime.HandlerNotFound", "missing on module 'app'"),
        ("app.handler", "def (", "Runtime.UserCodeSyntaxError", "Syntax error in module 'app'"),
        ("app", "", "Runtime.MalformedHandlerName", "Bad handler 'app'"),
        ("sys.exit", "", "Runtime.BuiltInModuleConflict", "built-in module sys"),
        ("app.handler", "raise KeyError('k')", "KeyError", "'k'"),
        ("app.handler", "raise SystemExit(3)", "Runtime.ExitError", "3"),
        ("app.handler", "exit(4)", "Runtime.ExitError", "4"),
    ],
)
def test_failures_to_load(
    runtime: RuntimeProcess, tmp_path: Path, name: str, source: str, kind: str, message: str
) -> None:
    failure = runtime.fails_to_load(write(tmp_path, source), name)
    assert failure["errorType"] == kind
    assert message in failure["errorMessage"]
    assert sorted(failure) == ["errorMessage", "errorType", "stackTrace"]
    assert runtime.request(Kind.PING, b"x").payload == b"x"


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        ("raise ValueError('no')", "ValueError", "no"),
        ("raise type('Own', (Exception,), {})('o')", "Own", "o"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt", ""),
        ("raise SystemExit(3)", "Runtime.ExitError", "RequestId: r-1 Error: Runtime exited"),
        ("exit()", "Runtime.ExitError", "exit status 0"),
        ("return {1, 2}", "Runtime.MarshalError", "set is not JSON serializable"),
        ("a = []; a.append(a); return a", "Runtime.MarshalError", "Circular"),
        (
            "return 'x' * (6 * 1024 * 1024)",
            "Function.ResponseSizeTooLarge",
            "Response payload size (6291458 bytes) exceeded maximum allowed payload size",
        ),
        ("return handler(event, context)", "RecursionError", "maximum recursion depth"),
        (
            "raise type('Own', (Exception,), {'__str__': lambda self: 1 / 0})()",
            "Own",
            "",
        ),
    ],
)
def test_failures_of_calls(runtime: RuntimeProcess, tmp_path: Path, body: str, kind: str, message: str) -> None:
    runtime.loaded(write(tmp_path, f"def handler(event, context):\n    if event: {body}\n"))
    failure = runtime.failure(True)
    assert failure["errorType"] == kind
    assert message in failure["errorMessage"]
    assert isinstance(failure["stackTrace"], list)
    assert runtime.marked()
    assert runtime.result(False) is None


def test_a_stack_names_the_tenants_lines(runtime: RuntimeProcess, tmp_path: Path) -> None:
    runtime.loaded(write(tmp_path, handler("raise ValueError('no')")))
    assert runtime.failure()["stackTrace"][-1] == (
        f"  File \"{tmp_path}/app.py\", line 2, in handler\n    raise ValueError('no')\n"
    )


def test_events_that_are_not_json(runtime: RuntimeProcess, tmp_path: Path) -> None:
    runtime.loaded(write(tmp_path, handler("return event")))
    for event in (b"{not json", b"\xff\xfe\xfd"):
        frame = runtime.invoke(event)
        assert frame.kind is Kind.FAILURE
        assert json.loads(frame.payload)["errorType"] == "Runtime.UnmarshalError"
    assert runtime.invoke(b"").payload == b"null"


def test_environment(runtime: RuntimeProcess, tmp_path: Path) -> None:
    body = "import os; return [dict(os.environ), os.getcwd(), __file__]"
    runtime.loaded(write(tmp_path, handler(body)), environment={"MINE": "1", "LANG": "de"})
    environment, folder, file = runtime.result(trace_id="Root=1")
    assert environment == {
        "LANG": "de",
        "TZ": ":UTC",
        "PATH": "/usr/local/bin:/usr/bin:/bin:/opt/bin",
        "HOME": "/tmp",
        "LD_LIBRARY_PATH": "/var/task/lib:/opt/lib",
        "_HANDLER": "app.handler",
        "LAMBDA_TASK_ROOT": str(tmp_path),
        "LAMBDA_RUNTIME_DIR": "/opt/alcove",
        "AWS_EXECUTION_ENV": "AWS_Lambda_python3.11",
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
    assert (folder, file) == (str(tmp_path), f"{tmp_path}/app.py")
    assert "_X_AMZN_TRACE_ID" not in runtime.result()[0]


CONTEXT = """
def handler(event, context):
    return {
        "name": context.function_name, "version": context.function_version,
        "arn": context.invoked_function_arn, "memory": context.memory_limit_in_mb,
        "id": [context.aws_request_id, context.request_id],
        "log": [context.log_group_name, context.log_stream_name],
        "identity": context.identity.cognito_identity_id,
        "client": context.client_context and context.client_context.custom,
        "left": context.get_remaining_time_in_millis(),
    }
"""


def test_context(runtime: RuntimeProcess, tmp_path: Path) -> None:
    runtime.loaded(write(tmp_path, CONTEXT))
    deadline = int(time.time() * 1000) + 60_000
    context = runtime.result(client_context='{"custom": {"a": 1}}', deadline_ms=deadline)
    assert 50_000 < context.pop("left") <= 60_000
    assert context == {
        "name": "sample",
        "version": "7",
        "arn": ARN,
        "memory": "256",
        "id": ["r-1", "r-1"],
        "log": ["/alcove/sample", "[7]"],
        "identity": None,
        "client": {"a": 1},
    }
    assert runtime.result(deadline_ms=0)["left"] == 0


def test_payloads_of_six_megabytes(runtime: RuntimeProcess, tmp_path: Path) -> None:
    runtime.loaded(write(tmp_path, handler("return event")))
    event = json.dumps("x" * (6 * 1024 * 1024 - 2)).encode()
    frame = runtime.invoke(event)
    assert (frame.kind, frame.payload == event) == (Kind.RESULT, True)


def test_output_comes_before_the_marker(runtime: RuntimeProcess, tmp_path: Path) -> None:
    body = "import sys; print('out'); print('err', end='', file=sys.stderr)"
    runtime.loaded(write(tmp_path, handler(body))).result()
    assert runtime.marked()
    assert (runtime.stdout(), runtime.stderr()) == ("out\n", "err\0alcove:end:r-1\0")


@pytest.mark.parametrize(
    "body",
    [
        "import sys; sys.stdout = sys.stderr = None",
        "import sys; sys.stdout.close()",
        "import os; os.close(1)",
        "import sys; sys.stdout = object()",
    ],
)
def test_the_tenant_may_lose_its_output(runtime: RuntimeProcess, tmp_path: Path, body: str) -> None:
    runtime.loaded(write(tmp_path, handler(body + "; return 1")))
    assert runtime.result() == 1
    assert runtime.marked()
    assert runtime.request(Kind.PING).kind is Kind.PONG


def test_an_abrupt_end(runtime: RuntimeProcess, tmp_path: Path) -> None:
    runtime.loaded(write(tmp_path, handler("import os; os._exit(9)")))
    with pytest.raises(EOFError):
        runtime.result()
    assert runtime.process.wait(5) == 9


def test_children_do_not_inherit_the_channel(runtime: RuntimeProcess, tmp_path: Path) -> None:
    body = (
        "import os, subprocess;"
        " own = str([os.readlink(f'/proc/self/fd/{n}') for n in range(10)"
        " if os.path.lexists(f'/proc/self/fd/{n}')]);"
        " run = lambda close: subprocess.run(['ls', '-l', '/proc/self/fd'], close_fds=close,"
        " capture_output=True, text=True).stdout; return [own, run(True) + run(False)]"
    )
    own, theirs = runtime.loaded(write(tmp_path, handler(body))).result()
    assert "socket:" in own
    assert "socket:" not in theirs
    assert "0 -> /dev/null" in theirs


def test_a_broken_pipe_is_an_exception(tmp_path: Path) -> None:
    """As the agent starts it: forked, with the defaults of every signal."""
    code = (
        "import signal; signal.signal(signal.SIGPIPE, signal.SIG_DFL);"
        "from alcove.guest.runtimes.python import main; main()"
    )
    body = "import os; r, w = os.pipe(); os.close(r); os.write(w, b'x')"
    with RuntimeProcess([sys.executable, "-B", "-c", code]) as runtime:
        runtime.loaded(write(tmp_path, handler(body)))
        assert runtime.failure()["errorType"] == "BrokenPipeError"


REHEARSAL = "import json\n\ndef handler(event, context):\n    return {'echo': json.dumps(event)}\n"


def test_a_rehearsal_leaves_no_trace(runtime: RuntimeProcess, tmp_path: Path) -> None:
    sample = write(tmp_path / "sample", REHEARSAL, "rehearsal.py")
    for _ in range(2):
        runtime.loaded(sample, "rehearsal.handler", rehearsal=True, environment={"SEEN": "1"})
        assert runtime.result({"a": 1}) == {"echo": '{"a": 1}'}
        runtime.unload()
    assert runtime.failure()["errorType"] == "Runtime.NotLoaded"
    body = "import os, sys; return [list(sys.modules), sys.path, list(sys.path_importer_cache), dict(os.environ)]"
    modules, path, importers, environment = runtime.loaded(write(tmp_path, handler(body))).result()
    assert "rehearsal" not in modules
    assert str(sample) not in path + importers
    assert "SEEN" not in environment
    assert path.count(str(tmp_path)) == 1


def test_another_module_takes_a_rehearsals_place(runtime: RuntimeProcess, tmp_path: Path) -> None:
    """As in a sandbox: both are mounted at the same path."""
    write(tmp_path, REHEARSAL, "rehearsal.py")
    runtime.loaded(tmp_path, "rehearsal.handler", rehearsal=True).result()
    runtime.unload()
    write(tmp_path, handler("import other; return other.VALUE"), "rehearsal.py")
    write(tmp_path, "VALUE = 'tenant'", "other.py")
    assert runtime.loaded(tmp_path, "rehearsal.handler").result() == "tenant"


def test_two_processes_draw_differently(tmp_path: Path) -> None:
    write(tmp_path, "import random\nFIRST = random.random()\n" + handler("return FIRST"))
    with python_runtime() as one, python_runtime() as other:
        assert one.loaded(tmp_path).result() != other.loaded(tmp_path).result()


def test_a_restore_seeds_anew(runtime: RuntimeProcess, tmp_path: Path) -> None:
    source = "import random\ndef handler(event, context):\n    if event: random.seed(1)\n    return random.random()\n"
    runtime.loaded(write(tmp_path, source))
    first, known = runtime.result(True), runtime.result(False)
    assert (runtime.result(True), runtime.result(False)) == (first, known)
    runtime.result(True)
    assert runtime.hook("after_restore").kind is Kind.DONE
    assert runtime.result(False) != known


HOOKS = """
import sys
sys.path.append(TENANT)
from snapshot_restore_py import register_after_restore, register_before_snapshot
seen = []
for n in (1, 2):
    register_before_snapshot(seen.append, f"before{n}")
    register_after_restore(seen.append, f"after{n}")
if FAIL:
    register_before_snapshot(lambda: 1 / 0)
def handler(event, context):
    return seen
"""


def hooks(fail: bool) -> str:
    return HOOKS.replace("TENANT", repr(str(TENANT))).replace("FAIL", repr(fail))


def test_hooks_of_the_tenants(runtime: RuntimeProcess, tmp_path: Path) -> None:
    runtime.loaded(write(tmp_path, hooks(fail=False)))
    assert runtime.hook("before_snapshot").kind is Kind.DONE
    assert runtime.hook("after_restore").kind is Kind.DONE
    assert runtime.result() == ["before2", "before1", "after1", "after2"]


def test_hooks_that_fail(runtime: RuntimeProcess, tmp_path: Path) -> None:
    runtime.loaded(write(tmp_path, hooks(fail=True)))
    frame = runtime.hook("before_snapshot")
    assert frame.kind is Kind.FAILURE
    assert json.loads(frame.payload)["errorType"] == "ZeroDivisionError"


def test_ends_with_the_host() -> None:
    with python_runtime() as runtime:
        runtime.socket.close()
        assert runtime.process.wait(5) == 0


def test_shared_requests_run_side_by_side_and_are_answered_as_they_end(runtime: RuntimeProcess, tmp_path: Path) -> None:
    source = """
import threading
BARRIER = threading.Barrier(3)
LATER = threading.Event()

def handler(event, context):
    if event == "later":
        LATER.wait(20)
    elif event == "now":
        LATER.set()
    else:
        BARRIER.wait(20)
        if event == "raise":
            raise ValueError(context.aws_request_id)
    return [event, context.aws_request_id]
"""
    runtime.loaded(write(tmp_path, source))
    # Three that wait for one another: they are inside at once.
    ids = {}
    for event in ("a", "b", "raise"):
        payload = invoke_payload(json.dumps(event).encode(), request_id=f"r-{event}", shared=True)
        ids[runtime.send(Kind.INVOKE, payload)] = event
    for _ in ids.copy():
        frame = runtime.receive()
        event = ids.pop(frame.id)
        if event == "raise":
            assert frame.kind is Kind.FAILURE
            assert json.loads(frame.payload)["errorMessage"] == "r-raise"
        else:
            assert json.loads(frame.payload) == [event, f"r-{event}"]
        assert runtime.marked(f"r-{event}")
    later = runtime.send(Kind.INVOKE, invoke_payload(b'"later"', request_id="r-later", shared=True))
    now = runtime.send(Kind.INVOKE, invoke_payload(b'"now"', request_id="r-now", shared=True))
    assert {runtime.receive().id, runtime.receive().id} == {later, now}
    # And one alone again.
    assert runtime.result("now", request_id="r-last") == ["now", "r-last"]


def test_each_shared_request_has_its_own_output(runtime: RuntimeProcess, tmp_path: Path) -> None:
    source = """
import asyncio, logging, os, sys, threading
EARLY = sys.stdout
BARRIER = threading.Barrier(3)

async def task(event):
    print("task", event)

def handler(event, context):
    if event == "alone":
        print("alone")
        return event
    print("begun", event, end="")
    for number in range(20):
        BARRIER.wait(20)
        print(" and", number, event)
        print("error", event, file=sys.stderr)
    logging.error("logged %s", event)
    asyncio.run(task(event))
    sys.stdout.write("no end " + event)
    print("early", event, file=EARLY)
    BARRIER.wait(20)
    return event
"""
    runtime.loaded(write(tmp_path, source), concurrency=3)
    assert runtime.result("alone", request_id="r-alone") == "alone"
    for event in "abc":
        payload = invoke_payload(json.dumps(event).encode(), request_id=f"r-{event}", shared=True)
        runtime.send(Kind.INVOKE, payload)
    for _ in "abc":
        assert runtime.receive().kind is Kind.RESULT
    assert all(runtime.marked(f"r-{event}") for event in "abc")
    found = cut(runtime, ["r-alone", "r-a", "r-b", "r-c"])
    assert found["r-alone"].startswith("alone\n")
    for event in "abc":
        text = found[f"r-{event}"]
        lines = [f"begun {event} and 0 {event}", *(f" and {number} {event}" for number in range(1, 20))]
        assert [line for line in text.splitlines() if " and " in line] == lines
        assert text.count(f"error {event}\n") == 20
        assert f"task {event}\nno end {event}early {event}\n" in text
        assert f"\tr-{event}\tlogged {event}" in text
        assert not any(f"{word} {other}" in text for other in "abc" if other != event for word in ("early", "error"))


def test_a_process_forked_while_another_request_prints_can_print(runtime: RuntimeProcess, tmp_path: Path) -> None:
    source = """
import os, signal, sys, threading
HELD, FORKED = threading.Event(), threading.Event()

def handler(event, context):
    if event == "print":
        with sys.stdout.buffer._lock:
            HELD.set()
            FORKED.wait(30)
        return event
    HELD.wait(30)
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        print("from the child")
        os._exit(0)
    FORKED.set()
    return os.waitpid(child, 0)[1]
"""
    runtime.loaded(write(tmp_path, source))
    for event in ("print", "fork"):
        runtime.send(Kind.INVOKE, invoke_payload(json.dumps(event).encode(), request_id=f"r-{event}", shared=True))
    assert {json.loads(runtime.receive().payload) for _ in range(2)} == {"print", 0}
    assert all(runtime.marked(f"r-{event}") for event in ("print", "fork"))
    found = cut(runtime, ["r-print", "r-fork"])
    assert (found["r-print"], found["r-fork"]) == ("", "from the child\n")


def test_each_shared_request_finds_its_own_trace(runtime: RuntimeProcess, tmp_path: Path) -> None:
    source = """
import asyncio, os, threading
BARRIER = threading.Barrier(3)

async def task():
    return os.getenv("_X_AMZN_TRACE_ID")

def handler(event, context):
    if event == "alone":
        return os.environ.get("_X_AMZN_TRACE_ID")
    BARRIER.wait(20)
    found = [os.environ.get("_X_AMZN_TRACE_ID"), asyncio.run(task()), dict(os.environ).get("_X_AMZN_TRACE_ID")]
    return [found, "_X_AMZN_TRACE_ID" in os.environ, len(os.environ) == len(list(os.environ))]
"""
    runtime.loaded(write(tmp_path, source))
    assert runtime.result("alone", trace_id="Root=before") == "Root=before"
    traces: dict[int, str | None] = {}
    for trace in ("Root=a", "Root=b", None):
        traces[runtime.send(Kind.INVOKE, invoke_payload(b"0", trace_id=trace, shared=True))] = trace
    for _ in range(3):
        frame = runtime.receive()
        trace = traces.pop(frame.id)
        assert json.loads(frame.payload) == [[trace] * 3, trace is not None, True]
    assert runtime.result("alone", trace_id="Root=after") == "Root=after"
    assert runtime.result("alone") is None


def test_layers_are_imported_after_the_code_and_before_the_rest(runtime: RuntimeProcess, tmp_path: Path) -> None:
    layers = tmp_path / "opt"
    task = write(tmp_path / "task", handler("import both, other, wave; return [both.V, other.V, wave.V]"))
    write(task, "V = 'task'", "both.py")
    write(layers / "python", "V = 'layer'", "both.py")
    write(layers / "python", "V = 'layer'", "other.py")
    # Before the standard library, as on AWS.
    write(layers / "python/lib/python3.11/site-packages", "V = 'site'", "wave.py")
    assert runtime.loaded(task, layers=str(layers)).result() == ["task", "layer", "site"]


def test_libraries_of_layers_are_found_by_name(runtime: RuntimeProcess, tmp_path: Path) -> None:
    library = tmp_path / "opt/lib"
    library.mkdir(parents=True)
    found = next(Path("/usr/lib").rglob("libutil.so.1"))
    shutil.copyfile(found, library / "libutil.so.1")
    (library / "broken.so").write_text("no library")
    body = "import ctypes; ctypes.CDLL('libutil.so.1'); return open('/proc/self/maps').read()"
    maps = runtime.loaded(write(tmp_path / "task", handler(body)), layers=str(tmp_path / "opt")).result()
    loaded = {line.split()[-1] for line in maps.splitlines() if "libutil" in line}
    assert loaded == {f"{library}/libutil.so.1"}
