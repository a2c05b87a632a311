"""Expressions of flows: what jq says of the same, and never anything but our own errors."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alcove.errors import InvalidRequest
from alcove.flows.expression import Expression
from alcove.flows.faults import RUNTIME, Fault

DATA = {
    "fruits": {"apple": 7, "banana": 10},
    "list": [3, 1, 2, 1],
    "people": [{"name": "Ada", "age": 36}, {"name": "Bob", "age": 20}],
    "text": "a,b,c",
    "odd key": [None, True, {"deep": [1]}],
    "ready": "yes",
    "nothing": None,
}
# Each gives one value here and in jq.
SAME = r"""
.
.fruits
.fruits.apple
."odd key"[2].deep[0]
.["odd key"]
.list[-1]
.list[9]
.list[1:3]
.list[:-1]
.text[1:]
.nothing.a.b
{res: .fruits.apple}
{fruits, "n": 1, (.ready): .list[0]}
[.fruits.apple, .list[]]
[.people[].name]
[.people[] | select(.age > 30) | .name]
.people | map(.age) | add
.people | map({(.name): .age}) | add
.people | sort_by(.age) | .[0].name
.people | max_by(.age).name
.ready == "yes" and .fruits.apple >= 7
.ready == "no" or (.list | length) == 4
.nothing // "other"
.fruits.cherry // .fruits.apple
.list | sort
.list | unique
.list | reverse
.list - [1]
.list + [4] | length
.fruits + {cherry: 1}
.text | split(",") | join("-")
.text | startswith("a"), endswith("c") | not
.fruits | keys
.fruits | to_entries | from_entries
.fruits | has("apple")
.list | has(9)
.list | contains([3])
.text | contains("b,")
.list | (min, max) | . * 2
7 / 2
8 / 2
-7 % 3
1.5 + 1
.fruits.apple * -1
(.fruits | tojson | fromjson) == .fruits
"12" | tonumber
12 | tostring
.list | first
.list | last
3.7 | floor
.list | any
[] | all
if .ready == "yes" then 1 elif .ready == "no" then 2 else 3 end
if .nothing then 1 else "n" end | type
[.a?, (.list | .a?), 1]
"\u00e9A" | ascii_downcase
.list | type
.list < .fruits
null < false
"a" < "b"
{a: 1} == {"a": 1.0}
[1, [2]] < [1, [3]]
""".strip().splitlines()


@pytest.mark.parametrize("text", SAME)
def test_as_jq_has_it(text: str) -> None:
    done = subprocess.run(["jq", "-c", text], input=json.dumps(DATA), capture_output=True, text=True, check=True)
    expected = [json.loads(line) for line in done.stdout.splitlines()]
    if len(expected) == 1:
        assert Expression(text).apply(DATA) == expected[0]
    assert Expression(f"[{text}]").apply(DATA) == expected


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (".list.a", 'cannot index array with "a"'),
        (".fruits[0]", "cannot index object with number"),
        (".list[]", "gives 4 values"),
        ("empty", "gives 0 values"),
        (".text + 1", "string and number cannot be added"),
        ("1 / 0", "division by zero"),
        (".text[]", "cannot iterate over string"),
        ("{(.list): 1}", "the key of an object"),
        ('"x" | tonumber', "is not a number"),
        ('"x" | fromjson', "not JSON"),
        ("true | length", "no length"),
        (".list | " + "[.,.] | " * 19 + ".", "takes too long"),
        (".text | " + ". + . | " * 40 + ".", "too long"),
        ("9 | " + ". * . | " * 60 + ".", "too large"),
        ('.list | [.[] | [range(9)]]?, 1 | tojson | "x"', None),
    ],
)
def test_what_does_not_fit_is_a_runtime_fault(text: str, cause: str | None) -> None:
    if cause is None:
        with pytest.raises(InvalidRequest):
            Expression(text)
        return
    with pytest.raises(Fault, match=cause.replace("(", r"\(")) as caught:
        Expression(text).apply(DATA)
    assert caught.value.code == RUNTIME


@pytest.mark.parametrize(
    "text",
    ["", "|", ".a |", ".a.", ".[", "{a: }", "(.a", "a(", ".a b", "nope", "length(1)", "map", "$x", "import re", "`x`",
     "if . then", "and", ". as $x | $x", "def f: f; f", "[" * 40 + "]" * 40, "-" * 40 + "1", "." + "a" * 2000, '"\\q"',
     "1e999", '"unended'],
)  # fmt: skip
def test_what_is_no_expression_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        Expression(text)


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=12,
)
PIECES = st.sampled_from(
    [".", ".a", ".b[0]", ".[]", "..", "|", ",", "//", "+", "-", "*", "/", "%", "==", "<", "and", "or", "(", ")", "[",
     "]", "{", "}", ":", ";", "?", "1", "0", '"a"', "null", "not", "length", "keys", "map(", "sort", "add", "tojson",
     "tonumber", "to_entries", "unique", "if", "then", "else", "end", "select(", "sort_by(", "has(", "join(", "floor"]
)  # fmt: skip


@given(st.lists(PIECES, max_size=12).map(" ".join) | st.text(max_size=30), JSON)
def test_nothing_but_our_own_errors(text: str, value: Any) -> None:
    try:
        expression = Expression(text)
    except InvalidRequest:
        return
    try:
        json.dumps(expression.apply(value))
    except Fault:
        return


@given(JSON, JSON)
def test_an_order_that_is_one(first: Any, second: Any) -> None:
    pair = {"a": first, "b": second}
    less, equal, more = (Expression(f".a {mark} .b").apply(pair) for mark in ("<", "==", ">"))
    assert [less, equal, more].count(True) == 1
    assert Expression(".b > .a").apply(pair) is less


def test_a_path() -> None:
    assert Expression(".a.b").path() == ("a", "b")
    assert Expression(".").path() == ()
    for text in (".a[0]", "1", ".a | .b"):
        with pytest.raises(InvalidRequest):
            Expression(text).path()
