"""Filters of mappings: EventBridge's patterns over what queues and streams bring."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sinks import FakeSink
from tests.sources import SPEC, TENANT, Answering, FakeSource, parts_of, until

from alcove.errors import InvalidRequest
from alcove.sources.filters import Filters
from alcove.sources.pattern import BadPattern, Pattern, TooMuchWork, Work
from alcove.sources.poller import Poller
from alcove.sources.poller import Work as PollerWork
from alcove.sources.source import Item
from alcove.sources.spec import SourceKind, SourceSpec

ABSENT = "absent"


def matches(pattern: Any, document: Any) -> bool:
    return Pattern.read(json.dumps(pattern)).matches(document, Work())


@pytest.mark.parametrize(
    ("rules", "good", "bad"),
    [
        (["a"], ["a", ["b", "a"]], ["b", "A", "", None, 1, ABSENT, {"a": 1}, [["b"]]]),
        (["a", "b"], ["a", "b"], ["c"]),
        ([""], [""], ["a", None, ABSENT]),
        ([None], [None], ["", 0, False, ABSENT, {}]),
        ([True], [True], [1, "true", False]),
        ([1], [1, 1.0], [True, "1", 2]),
        ([{"prefix": "ab"}], ["ab", "abc", ["x", "abc"]], ["a", "Abc", 1, None, ABSENT]),
        ([{"suffix": "yz"}], ["yz", "xyz"], ["z", "yz ", 1, ABSENT]),
        ([{"prefix": {"equals-ignore-case": "AB"}}], ["abc", "ABC"], ["a", "cab"]),
        ([{"suffix": {"equals-ignore-case": "Ss"}}], ["mass", "MASS"], ["s", "mas"]),
        ([{"equals-ignore-case": "Straße"}], ["STRASSE", "straße"], ["strasse!", 1, ABSENT]),
        ([{"equals-ignore-case": ""}], [""], ["a"]),
        ([{"anything-but": "a"}], ["b", "", None, 1, ["a", "b"]], ["a", ["a"], ABSENT, {}]),
        ([{"anything-but": ["a", 1]}], ["b", 2, True], ["a", 1]),
        ([{"anything-but": {"prefix": "a"}}], ["b", 1], ["a", "ab"]),
        ([{"anything-but": {"suffix": ["a", "b"]}}], ["c"], ["xa", "xb"]),
        ([{"anything-but": {"equals-ignore-case": ["a", "B"]}}], ["c"], ["A", "b"]),
        ([{"numeric": ["=", 1.5]}], [1.5], [1, "1.5", True, ABSENT]),
        ([{"numeric": [">", 0, "<=", 5]}], [0.1, 5, [9, 3]], [0, 5.1, "3", None]),
        ([{"numeric": [">=", 1]}], [1, 10**30], [0, True]),
        ([{"numeric": ["<", -1e3]}], [-1001], [-1000]),
        ([{"exists": True}], ["", None, 0, False, ["x"]], [ABSENT, {}, {"a": 1}, []]),
        ([{"exists": False}], [ABSENT, {}, []], ["", None, 0, ["x"]]),
        (["a", {"exists": False}], ["a", ABSENT], ["b"]),
    ],
)  # fmt: skip
def test_rules(rules: list[Any], good: list[Any], bad: list[Any]) -> None:
    for value in good:
        assert matches({"k": rules}, {} if value == ABSENT else {"k": value}), value
    for value in bad:
        assert not matches({"k": rules}, {} if value == ABSENT else {"k": value}), value


@pytest.mark.parametrize(
    ("pattern", "document", "expected"),
    [
        ({"a": ["x"], "b": ["y"]}, {"a": "x", "b": "y", "c": 1}, True),
        ({"a": ["x"], "b": ["y"]}, {"a": "x"}, False),
        ({"a": {"b": {"c": [1]}}}, {"a": {"b": {"c": 1}}}, True),
        ({"a": {"b": [1]}}, {"a": "b"}, False),
        ({"a": {"b": [{"exists": False}]}}, {}, True),
        ({"a": {"b": [{"exists": False}]}}, {"a": "plain"}, False),
        # One element of a list must have everything.
        ({"a": {"b": [1], "c": [2]}}, {"a": [{"b": 1}, {"b": 1, "c": 2}]}, True),
        ({"a": {"b": [1], "c": [2]}}, {"a": [{"b": 1}, {"c": 2}]}, False),
        ({"$or": [{"a": [1]}, {"b": [2]}]}, {"b": 2}, True),
        ({"$or": [{"a": [1]}, {"b": [2]}]}, {"a": 2, "b": 1}, False),
        ({"c": [3], "$or": [{"a": [1]}, {"b": [2]}]}, {"a": 1}, False),
        ({"d": {"$or": [{"a": [1]}, {"b": {"c": [2]}}]}}, {"d": {"b": {"c": 2}}}, True),
        ({"a": ["x"]}, ["no object"], False),
    ],
)
def test_objects(pattern: Any, document: Any, expected: bool) -> None:
    assert matches(pattern, document) is expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "[]", "1", "null", "{}", '{"a": {}}', '{"a": []}', '{"a": "x"}', '{"a": null}', '{"a": [["x"]]}'),
        *('{"a": [{}]}', '{"a": [{"like": "x"}]}', '{"a": [{"prefix": "x", "suffix": "y"}]}', '{"a": [{"prefix": 1}]}'),
        *('{"a": [{"prefix": ""}]}', '{"a": [{"suffix": {"prefix": "x"}}]}', '{"a": [{"equals-ignore-case": 1}]}'),
        *('{"a": [{"exists": "yes"}]}', '{"a": [{"numeric": 1}]}', '{"a": [{"numeric": []}]}'),
        *('{"a": [{"numeric": ["=", 1, "<", 2]}]}', '{"a": [{"numeric": [">", 2, "<", 1]}]}'),
        *('{"a": [{"numeric": [">", true]}]}', '{"a": [{"numeric": ["~", 1]}]}', '{"a": [{"numeric": [["="], 1]}]}'),
        *('{"a": [{"numeric": [">", NaN]}]}', '{"a": [Infinity]}', '{"a": [{"numeric": [">"]}]}'),
        *('{"a": [{"anything-but": []}]}', '{"a": [{"anything-but": [["x"]]}]}', '{"a": [{"anything-but": [{}]}]}'),
        *('{"a": [{"anything-but": {"numeric": ["=", 1]}}]}', '{"a": [{"anything-but": {"prefix": []}}]}'),
        *('{"$or": []}', '{"$or": {"a": [1]}}', '{"$or": [1]}', '{"$or": [{}]}', "[" * 4000, '{"a":' * 500),
        '{"a":' * 17 + "[1]" + "}" * 17,
        '{"a": ["' + "x" * 4090 + '"]}',
    ],
)
def test_bad_patterns_are_refused(text: str) -> None:
    with pytest.raises(BadPattern):
        replace(SPEC, filters=(text,)).check()


def test_a_mapping_has_five_filters_at_most() -> None:
    spec = replace(SPEC, filters=('{"id": ["x"]}',) * 5)
    assert SourceSpec.from_json(spec.check().to_json()) == spec
    with pytest.raises(InvalidRequest):
        replace(spec, filters=('{"id": ["x"]}',) * 6).check()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from(["", "a", "ab", "B"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=8,
)


@given(st.text() | JSON.map(json.dumps) | JSON.map(lambda one: json.dumps({"a": [one]})), JSON)
def test_any_text_is_a_pattern_or_refused(text: str, document: Any) -> None:
    try:
        found = Pattern.read(text)
    except BadPattern:
        return
    assert found.matches(document, Work()) in (True, False)


SCALARS = st.sampled_from([None, True, False, 0, 1, "", "a", "ab"])
FIELD = st.sampled_from("abc")
EXACT = st.recursive(
    st.lists(SCALARS, min_size=1, max_size=3),
    lambda inner: st.dictionaries(FIELD, inner, min_size=1, max_size=3),
    max_leaves=6,
).filter(lambda one: isinstance(one, dict))
DOCUMENT = st.recursive(SCALARS, lambda inner: st.dictionaries(FIELD, inner, max_size=3), max_leaves=8)


def plainly(pattern: Any, document: Any) -> bool:
    """Exact rules over documents without lists, in the simplest words."""
    if isinstance(pattern, list):
        return any((type(one), one) == (type(document), document) for one in pattern)
    return isinstance(document, dict) and all(
        name in document and plainly(rule, document[name]) for name, rule in pattern.items()
    )


@given(EXACT, DOCUMENT)
def test_exact_rules_are_what_they_say(pattern: Any, document: Any) -> None:
    assert matches(pattern, document) == plainly(pattern, document)


@given(EXACT, EXACT, DOCUMENT)
def test_or_is_or_and_more_fields_are_and(first: Any, second: Any, document: Any) -> None:
    assert matches({"$or": [first, second]}, document) == (matches(first, document) or matches(second, document))
    if not set(first) & set(second):
        assert matches(first | second, document) == (matches(first, document) and matches(second, document))


@given(DOCUMENT, st.lists(st.sampled_from(["a", "ab", 0, 1]), min_size=1))
def test_anything_but_is_the_other_values(document: Any, values: list[Any]) -> None:
    given = {"k": document}
    there = matches({"k": [{"exists": True}]}, given)
    assert matches({"k": [{"anything-but": values}]}, given) == (there and not matches({"k": values}, given))


def test_work_is_bounded() -> None:
    many = Pattern.read(json.dumps({"a": [{"anything-but": list(range(100))}]}))
    with pytest.raises(TooMuchWork):
        many.matches({"a": [1] * 1000}, Work())
    nested = Pattern.read(json.dumps({"a": {"b": [1]}}))
    with pytest.raises(TooMuchWork):
        nested.matches({"a": [{"b": 2}] * 100_000}, Work())
    # What costs too much is handed to the function: no message is lost by it.
    item = Item("1", {"body": json.dumps({"a": [1] * 30_000})}, 1)
    assert Filters(SourceKind.QUEUE, ['{"body": {"a": [2]}}']).wants(item)


@pytest.mark.parametrize(
    ("kind", "record", "pattern", "expected"),
    [
        ("queue", {"body": '{"kind": "order"}'}, {"body": {"kind": ["order"]}}, True),
        ("queue", {"body": '{"kind": "mail"}'}, {"body": {"kind": ["order"]}}, False),
        ("queue", {"body": "order"}, {"body": ["order"]}, True),
        ("queue", {"body": "order"}, {"body": {"kind": ["order"]}}, False),
        ("queue", {"body": "order"}, {"body": {"kind": [{"exists": False}]}}, False),
        ("queue", {"body": '{"kind": "order"}'}, {"body": ["order"]}, False),
        ("queue", {"body": "x", "messageAttributes": {"n": {"stringValue": "1"}}},
         {"messageAttributes": {"n": {"stringValue": ["1"]}}}, True),
        ("queue", {"body": "[" * 100_000}, {"body": {"kind": ["order"]}}, False),
        ("redis", {"fields": {"who": "duck"}}, {"fields": {"who": ["duck"]}}, True),
        ("redis", {"fields": {"o": '{"total": 7}'}}, {"fields": {"o": {"total": [{"numeric": [">", 5]}]}}}, True),
        ("redis", {"fields": {"o": '{"total": 3}'}}, {"fields": {"o": {"total": [{"numeric": [">", 5]}]}}}, False),
        ("rabbitmq", {"data": base64.b64encode(b'{"kind": "order"}').decode()}, {"data": {"kind": ["order"]}}, True),
        ("rabbitmq", {"data": base64.b64encode(b"order").decode()}, {"data": ["order"]}, True),
        ("rabbitmq", {"data": base64.b64encode(b"\xff").decode()}, {"data": {"kind": ["order"]}}, False),
        ("rabbitmq", {"data": "", "basicProperties": {"priority": 3}}, {"basicProperties": {"priority": [3]}}, True),
    ],
)  # fmt: skip
def test_messages_are_json_where_they_are_objects(
    kind: str, record: dict[str, Any], pattern: Any, expected: bool
) -> None:
    assert Filters(SourceKind(kind), [json.dumps(pattern)]).wants(Item("1", record, 1)) is expected


async def test_the_function_sees_what_matches_and_the_rest_is_done() -> None:
    functions, source = Answering(), FakeSource(30)
    for item in source.left.values():
        item.record["fields"] = {}
    spec = replace(SPEC, filters=('{"n": [3]}', '{"n": [{"numeric": [">=", 28]}]}'))
    poller = Poller(PollerWork("m", TENANT, "f", "", spec), source, parts_of(functions, FakeSink()), opening="Creating")
    poller.start()
    await until(lambda: not source.left)
    await poller.stop()
    assert sorted(number for batch in functions.batches() for number in batch) == [3, 28, 29]


async def test_without_filters_nothing_is_looked_at() -> None:
    items = [Item("1", {}, 1)]
    assert await Filters(SourceKind.QUEUE, []).divide(items) == (items, [])
