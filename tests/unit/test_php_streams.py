"""PHP handlers that yield, and requests that share a PHP runtime: each in a worker of its own."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.runtime_process import RuntimeProcess, cut, eventually, invoke_payload, php_runtime

from alcove.wire.frame import MAX_CHUNK, Kind

BYTES = "application/octet-stream"
HTTP = "application/vnd.awslambda.http-integration-response"
STREAMS = """<?php
class Mark { function __toString() { return '!'; } }
function text($event, $context) { yield "gr\\u{fc}"; yield "\\xff"; yield new Mark(); }
function large($event, $context) { yield str_repeat('x', 200000); yield str_repeat('y', $event); }
function head($event, $context) { yield ['statusCode' => 201, 'headers' => ['x-a' => 'b']]; yield 'body'; }
function bare($event, $context) { yield []; }
function nothing($event, $context) { yield from []; }
function returned($event, $context) { return (function () { yield 'some'; })(); }
function early($event, $context) { throw new RangeException('early'); yield; }
function late($event, $context) { yield 'some'; throw new RangeException('late'); }
function wrong($event, $context) { yield 'some'; yield 7; }
function second($event, $context) { yield 'some'; yield ['statusCode' => 201]; }
function leaves($event, $context) { yield 'some'; exit(3); }
function waits($event, $context) {
    yield 'begun';
    while (!file_exists($event)) { usleep(1000); clearstatcache(); }
    yield 'ended';
}
"""
WORKERS = """<?php
$log = [];
$hooked = false;
Alcove\\Snapshot::after(function () { global $hooked; $hooked = true; });
function handler($event, $context) {
    global $log, $hooked;
    [$do, $value] = $event;
    $log[] = $do;
    echo "seen $do\\n";
    if ($do === 'meet') {
        touch("$value/{$context->requestId}");
        while (count(glob("$value/*")) < 3) usleep(1000);
    }
    if ($do === 'print') {
        for ($number = 0; $number < 20; $number++) {
            touch("$value/{$context->requestId}-$number");
            while (count(glob("$value/*-$number")) < 3) usleep(1000);
            echo "printed by ", $context->requestId, " $number\n";
            fwrite(STDOUT, "written by {$context->requestId}\n");
            fwrite(STDERR, "error of {$context->requestId}\n");
        }
        ob_start();
        print "no end of {$context->requestId}";
    }
    if ($do === 'raise') throw new RangeException($context->requestId);
    if ($do === 'exit') exit(3);
    if ($do === 'closes') fclose(STDERR);
    if ($do === 'lingers') { register_shutdown_function(fn () => sleep(45)); exit(3); }
    if ($do === 'fatal') trigger_error('stop', E_USER_ERROR);
    if ($do === 'kill') { echo "last words\\n"; posix_kill(getmypid(), SIGKILL); }
    if ($do === 'held') { proc_open(['sleep', '45'], [], $pipes); posix_kill(getmypid(), SIGKILL); }
    if ($do === 'stream') return (function () { yield 'some'; posix_kill(getmypid(), SIGKILL); })();
    if ($do === 'large') return str_repeat('x', $value);
    if ($do === 'state') return [$log, $hooked, mt_rand(), getmypid()];
    return [$context->requestId, getmypid(), getenv('_X_AMZN_TRACE_ID')];
}
"""


@pytest.fixture
def runtime() -> Iterator[RuntimeProcess]:
    with php_runtime() as process:
        yield process


def write(folder: Path, source: str) -> Path:
    (folder / "app.php").write_text(source)
    return folder


@pytest.mark.parametrize(
    ("handler", "expected"),
    [
        ("text", (BYTES, "grü".encode() + b"\xff!", None)),
        ("large", (BYTES, b"x" * 200_000 + b"y" * 70_000, None)),
        ("head", (HTTP, b'{"statusCode":201,"headers":{"x-a":"b"}}' + bytes(8) + b"body", None)),
        ("bare", (HTTP, b"{}" + bytes(8), None)),
        ("nothing", (BYTES, b"", None)),
        ("returned", (BYTES, b"some", None)),
        ("late", (BYTES, b"some", ("RangeException", "late"))),
        ("wrong", (BYTES, b"some", ("TypeError", "a streamed answer is made of strings, not of int"))),
        ("second", (BYTES, b"some", ("TypeError", "a streamed answer is made of strings, not of array"))),
    ],
)
def test_handlers_that_yield(
    runtime: RuntimeProcess, tmp_path: Path, handler: str, expected: tuple[str, bytes, tuple[str, str] | None]
) -> None:
    runtime.loaded(write(tmp_path, STREAMS), f"app.{handler}")
    for request_id in ("r-1", "r-2"):
        content_type, data, error = runtime.streamed(70_000, request_id=request_id)
        assert (content_type, data) == expected[:2]
        assert (error and (error["errorType"], error["errorMessage"])) == expected[2]
        assert runtime.marked(request_id)


def test_an_error_before_the_first_part(runtime: RuntimeProcess, tmp_path: Path) -> None:
    runtime.loaded(write(tmp_path, STREAMS), "app.early")
    failure = runtime.failure()
    assert failure["errorMessage"] == "early"
    assert all("guest/runtimes" not in line for line in failure["stackTrace"])


def test_an_exit_ends_the_stream(runtime: RuntimeProcess, tmp_path: Path) -> None:
    runtime.loaded(write(tmp_path, STREAMS), "app.leaves")
    assert runtime.streamed()[2]["errorType"] == "Runtime.ExitError"
    assert runtime.marked()


def test_parts_flow_as_they_are_yielded(runtime: RuntimeProcess, tmp_path: Path) -> None:
    runtime.loaded(write(tmp_path, STREAMS), "app.waits")
    runtime.send(Kind.INVOKE, invoke_payload(json.dumps(str(tmp_path / "go")).encode()))
    assert [runtime.receive().payload for _ in range(2)] == [BYTES.encode(), b"begun"]
    (tmp_path / "go").touch()
    assert [runtime.receive().payload for _ in range(2)] == [b"ended", b""]


def share(runtime: RuntimeProcess, name: str, do: str, value: Any = None) -> int:
    call = {"request_id": f"r-{name}", "shared": True, "trace_id": f"Root={name}"}
    return runtime.send(Kind.INVOKE, invoke_payload(json.dumps([do, value]).encode(), **call))


def shared(runtime: RuntimeProcess, name: str, do: str, value: Any = None) -> Any:
    """Return the document that the request is answered with."""
    number = share(runtime, name, do, value)
    frame = runtime.receive()
    assert frame.id == number
    return json.loads(frame.payload)


def test_shared_requests_run_side_by_side_in_workers(runtime: RuntimeProcess, tmp_path: Path) -> None:
    (tmp_path / "met").mkdir()
    runtime.loaded(write(tmp_path, WORKERS))
    ids = {share(runtime, name, "meet", str(tmp_path / "met")): name for name in ("a", "b", "c")}
    pids = set()
    for _ in range(3):
        frame = runtime.receive()
        name = ids.pop(frame.id)
        request_id, pid, trace = json.loads(frame.payload)
        assert (request_id, trace) == (f"r-{name}", f"Root={name}")
        assert runtime.marked(request_id)
        pids.add(pid)
    assert len(pids) == 3
    assert runtime.process.pid not in pids
    # They are kept, and one alone is the runtime's own.
    assert shared(runtime, "d", "")[1] in pids
    assert runtime.result(["", None], request_id="r-e")[:2] == ["r-e", runtime.process.pid]


def test_each_shared_request_has_its_own_output(runtime: RuntimeProcess, tmp_path: Path) -> None:
    (folder := tmp_path / "folder").mkdir()
    runtime.loaded(write(tmp_path, WORKERS), "app.handler", concurrency=3)
    for name in "abc":
        share(runtime, name, "print", str(folder))
    assert {runtime.receive().kind for _ in "abc"} == {Kind.RESULT}
    assert all(runtime.marked(f"r-{name}") for name in "abc")
    found = cut(runtime, [f"r-{name}" for name in "abc"])
    for name in (f"r-{letter}" for letter in "abc"):
        lines = (f"printed by {name} {number}\nwritten by {name}\n" for number in range(20))
        errors = f"error of {name}\n" * 20
        assert found[name] == f"seen print\n{''.join(lines)}no end of {name}{errors}"


def test_a_function_may_close_its_streams(runtime: RuntimeProcess, tmp_path: Path) -> None:
    runtime.loaded(write(tmp_path, WORKERS), "app.handler", concurrency=3)
    for name, do in (("first", "closes"), ("second", "")):
        assert shared(runtime, name, do)[0] == f"r-{name}"
        assert runtime.marked(f"r-{name}")


def test_a_worker_begins_as_init_code_left_it_with_generators_of_its_own(
    runtime: RuntimeProcess, tmp_path: Path
) -> None:
    (tmp_path / "met").mkdir()
    runtime.loaded(write(tmp_path, WORKERS.replace("$log = [];", "$log = []; mt_srand(7);", 1)))
    for name in ("a", "b", "c"):
        share(runtime, name, "meet", str(tmp_path / "met"))
    for _ in range(3):
        runtime.receive()
    numbers = set()
    for number in range(3):
        log, hooked, random, _ = shared(runtime, f"state-{number}", "state")
        assert (log[0], hooked) == ("meet", True)
        numbers.add(random)
    with php_runtime() as other:
        other.loaded(tmp_path)
        numbers.add(shared(other, "other", "state")[2])
    assert len(numbers) == 4


@pytest.mark.parametrize(
    ("do", "message"),
    [
        ("raise", "r-a"),
        ("exit", "RequestId: r-a Error: Runtime exited without providing a reason"),
        # It has answered, and is not gone yet when the next request comes.
        ("lingers", "RequestId: r-a Error: Runtime exited without providing a reason"),
        ("fatal", "stop"),
        ("kill", "RequestId: r-a Error: Runtime exited with error: signal: killed"),
        # A process that it has started still holds its socket.
        ("held", "RequestId: r-a Error: Runtime exited with error: signal: killed"),
    ],
)
def test_a_worker_that_dies_is_answered_for_and_replaced(
    runtime: RuntimeProcess, tmp_path: Path, do: str, message: str
) -> None:
    runtime.loaded(write(tmp_path, WORKERS))
    before = shared(runtime, "before", "")[1]
    assert shared(runtime, "a", do)["errorMessage"] == message
    assert runtime.marked("r-a")
    after = shared(runtime, "after", "")[1]
    assert (after == before) is (do == "raise")
    if do != "raise":
        assert not Path(f"/proc/{before}").exists()


def test_a_worker_that_dies_while_it_streams(runtime: RuntimeProcess, tmp_path: Path) -> None:
    runtime.loaded(write(tmp_path, WORKERS))
    number = share(runtime, "a", "stream")
    frames = [runtime.receive() for _ in range(3)]
    assert [(frame.kind, frame.id) for frame in frames] == [
        (Kind.STREAM, number), (Kind.CHUNK, number), (Kind.END, number)
    ]  # fmt: skip
    assert "signal: killed" in json.loads(frames[2].payload)["errorMessage"]
    assert len(frames[1].payload) <= MAX_CHUNK


def test_an_idle_worker_that_dies_is_replaced(runtime: RuntimeProcess, tmp_path: Path) -> None:
    runtime.loaded(write(tmp_path, WORKERS))
    first = shared(runtime, "a", "")[1]
    os.kill(first, signal.SIGKILL)
    assert eventually(lambda: not Path(f"/proc/{first}").exists())
    assert shared(runtime, "b", "")[0] == "r-b"


def test_answers_of_workers_are_whole(runtime: RuntimeProcess, tmp_path: Path) -> None:
    """Large ones that are made at the same time do not mix."""
    runtime.loaded(write(tmp_path, WORKERS))
    ids = {share(runtime, f"{size}", "large", size): size for size in range(3_000_000, 3_000_004)}
    for _ in range(4):
        frame = runtime.receive()
        assert len(json.loads(frame.payload)) == ids.pop(frame.id)


def test_workers_end_with_the_runtime(runtime: RuntimeProcess, tmp_path: Path) -> None:
    runtime.loaded(write(tmp_path, WORKERS))
    (tmp_path / "met").mkdir()
    share(runtime, "waits", "meet", str(tmp_path / "met"))
    worker = shared(runtime, "a", "")[1]
    children = Path(f"/proc/{runtime.process.pid}/task/{runtime.process.pid}/children").read_text().split()
    assert str(worker) in children
    assert len(children) == 2
    runtime.socket.close()
    assert eventually(lambda: runtime.process.poll() is not None)
    assert eventually(lambda: not any(is_alive(int(pid)) for pid in children))


def is_alive(pid: int) -> bool:
    """A process that its new parent has not collected yet is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
