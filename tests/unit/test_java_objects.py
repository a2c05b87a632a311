"""Java handlers that take and return objects of their own classes: records, beans, collections of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.runtime_process import RuntimeProcess, compile_java, java_runtime

SOURCE = """
package app;

import java.math.*;
import java.net.URI;
import java.time.*;
import java.util.*;

public class Objects extends Base<Objects.Order> {
    enum Size { SMALL, LARGE }
    record Item(String name, int count, double price, Size size) {}
    record Order(String id, List<Item> items, Map<Size, Integer> stock, Instant placed, UUID by) {}
    record Empty() {}
    record Odd(Optional<String> some, Optional<String> none, URI uri, Duration spent, int[] numbers, char letter) {}
    public static class Batch {
        private List<Message> records;
        private final Set<String> seen = new TreeSet<>();
        public int total = 7;
        public final int fixed = 1;
        private final List<Integer> numbers = new ArrayList<>();
        private final int unseen = 2;
        public List<Integer> getNumbers() { return numbers; }
        public List<Message> getRecords() { return records; }
        public void setRecords(List<Message> records) { this.records = records; }
        public void setDetailType(String type) { seen.add(type); }
        public Set<String> getSeen() { return seen; }
        public boolean isDone() { return true; }
        public String getURL() { return "here"; }
        public String getNothing() { return null; }
        public String get() { return "no property"; }
        public static String getStatic() { return "none either"; }
    }
    public static class Message {
        private String messageId;
        private int size = 3;
        public String getMessageId() { return messageId; }
        public void setMessageId(String id) {
            if (id.isEmpty()) throw new IllegalArgumentException("empty");
            messageId = id;
        }
        public void setSize(int size) { this.size = size; }
        public int getSize() { return size; }
    }
    public static class NoWay { public NoWay(int needed) {} }
    public static class Throws { public String getValue() { throw new IllegalStateException("as asked"); } }
    public static class Loop { public Loop getSelf() { return this; } }
    static class Hidden { public String name; }

    public Order record(Order order) { return order; }
    public Batch bean(Batch batch) { return batch; }
    public List<Item> list(List<Item> items) { items.get(0).name(); return items; }
    public Item[] array(Item[] items) { return items; }
    public Map<String, Item> map(TreeMap<String, Item> items) { items.firstEntry().getValue().name(); return items; }
    public Object odd(Object event) {
        Optional<String> some = Optional.of("a");
        return new Odd(some, Optional.empty(), URI.create("x:y"), Duration.ofSeconds(3), new int[] {1}, 'c');
    }
    public BigDecimal decimal(BigDecimal number) { return number.add(BigDecimal.ONE); }
    public String later(LocalDate day) { return day.plusDays(1).toString(); }
    public short small(short number) { return number; }
    public Object empty(Object event) { return new Empty(); }
    public NoWay noWay(NoWay event) { return event; }
    public String event(com.amazonaws.services.lambda.runtime.events.Change change) { return change.getKey(); }
    public Thread thread(Thread event) { return event; }
    public Object javas(Object event) { return new Random(1); }
    public Object throwing(Object event) { return new Throws(); }
    public Object loop(Object event) { return new Loop(); }
    public Hidden hidden(Hidden event) { return event; }
}
"""
# As aws-lambda-java-events has it: no constructor without parameters.
EVENT = """
package com.amazonaws.services.lambda.runtime.events;
public class Change {
    private final String key;
    public Change(long number) { key = "n" + number; }
    public String getKey() { return key; }
}
"""
BASE = """
package app;
public abstract class Base<T> {
    public String generic(T event) { return event.getClass().getSimpleName(); }
}
"""
ITEM = {"count": 2, "name": "tea", "price": 3.5, "size": "LARGE"}
ORDER = {
    "by": "12345678-1234-1234-1234-123456789abc",
    "id": "o-1",
    "items": [ITEM],
    "placed": "2024-01-02T03:04:05Z",
    "stock": {"SMALL": 4},
}
NONE = {"count": 0, "name": None, "price": 0.0, "size": None}


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    for name, text in {"Objects": SOURCE, "Base": BASE, "Change": EVENT}.items():
        (folder / f"{name}.java").write_text(text)
    return compile_java(tmp_path_factory.mktemp("task"), *folder.glob("*.java"))


@pytest.fixture(scope="module")
def process(java_classes: Path) -> Iterator[RuntimeProcess]:
    """One for all: what is loaded last counts."""
    with java_runtime(java_classes) as process:
        yield process


@pytest.mark.parametrize(
    ("method", "event", "answer"),
    [
        ("record", ORDER, ORDER),
        ("record", {**ORDER, "unknown": [1]}, ORDER),
        ("record", {}, dict.fromkeys(ORDER)),
        ("record", {"items": [{}, None]}, {**dict.fromkeys(ORDER), "items": [NONE, None]}),
        ("record", None, None),
        ("list", [ITEM], [ITEM]),
        ("array", [ITEM, None], [ITEM, None]),
        ("map", {"b": ITEM, "a": ITEM}, {"a": ITEM, "b": ITEM}),
        ("odd", 1, {"letter": "c", "none": None, "numbers": [1], "some": "a", "spent": "PT3S", "uri": "x:y"}),
        ("decimal", 1.25, 2.25),
        ("later", "2024-02-28", "2024-02-29"),
        ("small", 32767, 32767),
        ("empty", 1, {}),
        ("hidden", {"name": "x"}, {"name": "x"}),
        ("generic", {}, "Order"),
        ("event", {"key": "cat.jpg"}, "cat.jpg"),
    ],
)
def test_objects(process: RuntimeProcess, task: Path, method: str, event: object, answer: object) -> None:
    assert process.loaded(task, f"app.Objects::{method}").result(event) == answer


def test_beans_as_events_of_services_have_them(process: RuntimeProcess, task: Path) -> None:
    event = {
        "Records": [{"messageId": "a"}, {"messageId": "b", "size": None}],
        "detail-type": "x",
        "total": 8,
        "fixed": 9,
        "numbers": [4],
        "unseen": 5,
    }
    assert process.loaded(task, "app.Objects::bean").result(event) == {
        "URL": "here",
        "done": True,
        "fixed": 1,
        "nothing": None,
        "numbers": [4],
        "records": [{"messageId": "a", "size": 3}, {"messageId": "b", "size": 3}],
        "seen": ["x"],
        "total": 8,
    }


@pytest.mark.parametrize(
    ("method", "event", "kind", "message"),
    [
        ("record", [], "Runtime.UnmarshalError", "is not made of a list"),
        ("record", "text", "Runtime.UnmarshalError", "is not made of text"),
        ("record", {"items": [{"count": 1.5}]}, "Runtime.UnmarshalError", "items: count: int is not made of 1.5"),
        ("record", {"items": [{"size": "HUGE"}]}, "Runtime.UnmarshalError", "items: size: "),
        ("record", {"placed": "never"}, "java.time.format.DateTimeParseException", "never"),
        ("small", 32768, "Runtime.UnmarshalError", "short is not made of 32768"),
        ("small", None, "Runtime.UnmarshalError", "short is not made of null"),
        ("noWay", {}, "Runtime.UnmarshalError", "no constructor without parameters"),
        ("thread", {"name": "x"}, "Runtime.UnmarshalError", "java.lang.Thread is not made of an object"),
        ("bean", {"Records": [{"messageId": ""}]}, "java.lang.IllegalArgumentException", "empty"),
        ("javas", 1, "Runtime.MarshalError", "java.util.Random has no JSON"),
        ("throwing", 1, "Runtime.MarshalError", "as asked"),
        ("loop", 1, "Runtime.MarshalError", "it holds itself"),
    ],
)
def test_failures(process: RuntimeProcess, task: Path, method: str, event: object, kind: str, message: str) -> None:
    failure = process.loaded(task, f"app.Objects::{method}").failure(event)
    assert failure["errorType"] == kind
    assert message in failure["errorMessage"]
