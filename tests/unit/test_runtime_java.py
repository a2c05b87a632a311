"""Java's own: the signatures that handlers may have, jars, hooks."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.runtime_process import RuntimeProcess, compile_java, java_runtime

from alcove.wire.frame import Kind

SOURCE = """
package app;

import java.io.*;
import java.util.*;

public class Many {
    static final List<String> LOG = new ArrayList<>();

    public static String greet(String name) { return "hello " + name; }
    public int twice(int number) { return 2 * number; }
    public long first(List<Integer> numbers) { return numbers.get(0); }
    public double half(double number) { return number / 2; }
    public Object same(Object event) { return event; }
    public List<String> nothing() { return LOG; }
    public int[] numbers(Map<String, Object> event) { return new int[] {1, 2}; }
    public String bean(Thread event) { return ""; }
    public Object noJson(Object event) { return new Object(); }
    public Object itself(Object event) { List<Object> held = new ArrayList<>(); held.add(held); return held; }
    public double nan(Object event) { return Double.NaN; }
    public String two(String a, String b) { return ""; }
    public Object caused(Object event) { throw new IllegalStateException("outer", new IOException("inner")); }
    public Object deep(Object event) { return deep(event); }
    public String resource(Object event) throws IOException {
        try (var input = Many.class.getResourceAsStream("/data.txt")) { return new String(input.readAllBytes()); }
    }
    private String hidden(Object event) { return ""; }
    static void beforeSnapshot() { LOG.add("before"); }
    static void afterRestore() { LOG.add("after"); }
}
"""


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    (folder / "Many.java").write_text(SOURCE)
    return compile_java(tmp_path_factory.mktemp("task"), folder / "Many.java")


@pytest.fixture
def runtime(java_classes: Path) -> Iterator[RuntimeProcess]:
    with java_runtime(java_classes) as process:
        yield process


@pytest.mark.parametrize(
    ("method", "event", "answer"),
    [
        ("greet", "Ada", "hello Ada"),
        ("twice", 21, 42),
        ("first", [7, 8], 7),
        ("half", 3, 1.5),
        ("same", {"a": [1, {"b": None}]}, {"a": [1, {"b": None}]}),
        ("same", 2**40, 2**40),
        ("same", 2**80, 2**80),
        ("same", -1.5e-3, -1.5e-3),
        ("nothing", {"ignored": 1}, []),
        ("numbers", {}, [1, 2]),
    ],
)
def test_signatures(runtime: RuntimeProcess, task: Path, method: str, event: object, answer: object) -> None:
    assert runtime.loaded(task, f"app.Many::{method}").result(event) == answer


@pytest.mark.parametrize(
    ("method", "event", "kind"),
    [
        ("bean", {"a": 1}, "Runtime.UnmarshalError"),
        ("twice", "text", "Runtime.UnmarshalError"),
        ("noJson", 1, "Runtime.MarshalError"),
        ("itself", 1, "Runtime.MarshalError"),
        ("nan", 1, "Runtime.MarshalError"),
        ("deep", 1, "java.lang.StackOverflowError"),
    ],
)
def test_failures_of_calls(runtime: RuntimeProcess, task: Path, method: str, event: object, kind: str) -> None:
    runtime.loaded(task, f"app.Many::{method}")
    assert runtime.failure(event)["errorType"] == kind
    assert runtime.marked()


def test_a_cause_is_told(runtime: RuntimeProcess, task: Path) -> None:
    failure = runtime.loaded(task, "app.Many::caused").failure(1)
    kinds = (failure["errorType"], failure["cause"]["errorType"])
    assert kinds == ("java.lang.IllegalStateException", "java.io.IOException")
    assert failure["stackTrace"][0].startswith("app.Many.caused(Many.java:")
    assert len(failure["stackTrace"]) == 1


@pytest.mark.parametrize("method", ["two", "hidden", "missing"])
def test_methods_that_are_no_handlers(runtime: RuntimeProcess, task: Path, method: str) -> None:
    assert runtime.fails_to_load(task, f"app.Many::{method}")["errorType"] == "Runtime.HandlerNotFound"


def test_jars_in_lib(runtime: RuntimeProcess, task: Path, tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (task / "data.txt").write_text("from the jar")
    jar = ["java", "-m", "jdk.jartool/sun.tools.jar.Main", "cf", str(tmp_path / "lib/many.jar"), "-C", str(task), "."]
    subprocess.run(jar, check=True)
    assert runtime.loaded(tmp_path, "app.Many::resource").result(1) == "from the jar"


def test_hooks_of_the_handlers_class(runtime: RuntimeProcess, task: Path) -> None:
    runtime.loaded(task, "app.Many::nothing")
    for hook in ("before_snapshot", "after_restore"):
        assert runtime.hook(hook).kind is Kind.DONE
    assert runtime.result(1) == ["before", "after"]


def test_deep_json_is_refused(runtime: RuntimeProcess, task: Path) -> None:
    runtime.loaded(task, "app.Many::same")
    frame = runtime.invoke(b"[" * 100_000 + b"]" * 100_000)
    assert json.loads(frame.payload)["errorType"] == "Runtime.UnmarshalError"
    assert runtime.result(1) == 1
