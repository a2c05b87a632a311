"""PHP's own: globals, output buffers, hooks, ends that nobody can catch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.runtime_process import RuntimeProcess, php_runtime

from alcove.wire.frame import Kind


@pytest.fixture
def runtime() -> Iterator[RuntimeProcess]:
    with php_runtime() as process:
        yield process


def write(folder: Path, source: str) -> Path:
    (folder / "app.php").write_text("<?php\n" + source)
    return folder


def test_globals_are_the_functions(runtime: RuntimeProcess, tmp_path: Path) -> None:
    source = "$prices = ['tea' => 3];\nfunction handler($event, $context) { global $prices; return [$prices[$event],"
    source += " array_keys($GLOBALS)]; }"
    price, names = runtime.loaded(write(tmp_path, source)).result("tea")
    assert price == 3
    assert {name for name in names if not name.startswith(("_", "arg"))} == {"prices"}


def test_what_is_buffered_is_its_own_requests(runtime: RuntimeProcess, tmp_path: Path) -> None:
    source = 'function handler($event, $context) { ob_start(); echo "held $event\\n"; return 1; }'
    runtime.loaded(write(tmp_path, source)).result("a")
    assert runtime.marked()
    assert runtime.stdout() == "held a\n"


def test_hooks(runtime: RuntimeProcess, tmp_path: Path) -> None:
    source = """
$log = [];
foreach (['a', 'b'] as $name) {
    Alcove\\Snapshot::before(function () use ($name) { global $log; $log[] = "before $name"; });
    Alcove\\Snapshot::after(function () use ($name) { global $log; $log[] = "after $name"; });
}
function handler($event, $context) { global $log; return $log; }
"""
    runtime.loaded(write(tmp_path, source))
    for hook in ("before_snapshot", "after_restore"):
        assert runtime.hook(hook).kind is Kind.DONE
    assert runtime.result() == ["before b", "before a", "after a", "after b"]


def test_a_restore_reseeds(runtime: RuntimeProcess, tmp_path: Path) -> None:
    """Two that were seeded alike differ after a restore."""
    source = "mt_srand(7);\nfunction handler($event, $context) { return [mt_rand(), mt_rand(), mt_rand()]; }"
    runtime.loaded(write(tmp_path, source))
    runtime.hook("after_restore")
    with php_runtime() as other:
        other.loaded(tmp_path)
        other.hook("after_restore")
        assert other.result() != runtime.result()


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        ("str_repeat();", "ArgumentCountError", "expects exactly 2"),
        ("undefined_thing();", "Error", "undefined function"),
        ("trigger_error('stop', E_USER_ERROR);", "Runtime.FatalError", "stop"),
        ("return NAN;", "Runtime.MarshalError", "Unable to marshal response"),
        ('return "\\xff";', "Runtime.MarshalError", "UTF-8"),
    ],
)
def test_failures_of_calls(runtime: RuntimeProcess, tmp_path: Path, body: str, kind: str, message: str) -> None:
    runtime.loaded(write(tmp_path, f"function handler($event, $context) {{ {body} }}"))
    failure = runtime.failure()
    assert failure["errorType"] == kind
    assert message in failure["errorMessage"]


def test_an_exit_while_loading_is_told(runtime: RuntimeProcess, tmp_path: Path) -> None:
    assert runtime.fails_to_load(write(tmp_path, "exit(2);"))["errorType"] == "Runtime.ExitError"
    assert runtime.process.wait(5) == 2
