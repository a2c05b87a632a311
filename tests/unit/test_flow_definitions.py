"""The flow definition language: what is read of it, and what is said of what is wrong."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alcove.errors import InvalidRequest, TooLarge
from alcove.flows import yaml_text
from alcove.flows.definition import STATES_LIMIT, parse
from alcove.flows.model import Kind
from alcove.flows.yaml_text import BadDefinition

# Of Baidu's documentation: the kinds of states together.
DEMO = """
name: demo
start: makeData
version: 1.0.0
timeoutSeconds: 100
description: "all kinds"
states:
  - type: pass
    name: makeData
    data:
      hello: world
    next: demoSwitch
  - type: switch
    name: demoSwitch
    conditions:
      - condition: .execDemo == true
        next: startExec
      - condition: .execDemo == false
        next: stop
    default:
      next: startExec
  - type: parallel
    name: startExec
    next: each
    branches:
      - start: wait1s
        states:
          - type: wait
            name: wait1s
            seconds: 1
            next: throwSucceed
          - type: succeed
            name: throwSucceed
      - start: until
        states:
          - type: wait
            name: until
            timestamp: 2022-01-01T01:01:00Z
            end: true
  - type: foreach
    name: each
    inputCollection: .fruits
    iterationParam: fruit
    outputCollection: .results
    iterator:
      start: invoke
      states:
        - type: operation
          name: invoke
          resource: "brn:bce:cfc:bj:00000000000000000000123456789012:function:test:$LATEST"
          stateDataFilter: {input: ".fruit", output: "{res: .}"}
          actionDataFilter: {fromStateData: ".", results: ".body", toStateData: .answer}
          retry:
            - errors: [CFC.ServiceException]
              intervalSeconds: 10
              maxAttempts: 2
              multiplier: 2
          catch:
            - errors: [XFlow.ALL]
              next: handleFail
          end: true
        - type: pass
          name: handleFail
          end: true
    end: true
  - type: fail
    name: stop
    error: Custom.Stop
    cause: "demo stopped"
"""


def flow(*states: dict[str, Any], start: str = "a", **more: Any) -> str:
    return json.dumps({"name": "f", "start": start, "states": list(states), **more})


def a(kind: str = "pass", **more: Any) -> dict[str, Any]:
    going_on = {} if kind in ("switch", "fail", "succeed") or "next" in more else {"end": True}
    return {"type": kind, "name": "a", **going_on, **more}


def test_what_the_documentation_shows() -> None:
    found = parse(DEMO)
    assert (found.name, found.timeout_s, found.scope.start) == ("demo", 100, "makeData")
    assert [state.kind for state in found.scope.states.values()] == [
        Kind.PASS, Kind.SWITCH, Kind.PARALLEL, Kind.FOREACH, Kind.FAIL
    ]  # fmt: skip
    parallel, each = found.scope.states["startExec"], found.scope.states["each"]
    assert parallel.scopes[1].states["until"].until_ms == 1_640_998_860_000
    invoke = each.scopes[0].states["invoke"]
    assert invoke.function is not None
    assert (invoke.function.name, invoke.function.account) == ("test", "123456789012")
    assert (invoke.filters.target, each.results) == (("answer",), ("results",))
    assert [invoke.retry[0].delay_s(attempt) for attempt in (1, 2)] == [10, 10]
    assert invoke.catch[0].next == "handleFail"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is a mapping with name, start and states"),
        ("[1]", "is a mapping"),
        ("a: [", "line 1"),
        ("a: 1\na: 2", "line 2: a key must be a word, and be there once"),
        ("a: &x 1\nb: *x", "line 1: anchors and aliases are not offered"),
        ("a: !!python/object:os.system x", "line 1: tags are not offered"),
        ("[" * 30, "nested more than 24 deep"),
        ("? [a]\n: b", "a key must be a word"),
        (flow(a(), colour="red"), "the definition: there is no field 'colour' here"),
        (json.dumps({"name": "f", "start": "a"}), "the definition: 'states' is required"),
        (flow(a(), start="b"), "'start' leads to 'b', which is not a state here"),
        (flow(a(next="b")), "state 'a' leads to 'b'"),
        (flow(a(), a()), "there are two states 'a'"),
        (flow(a(), {**a(), "name": "b"}), "nothing leads to the state 'b'"),
        (flow(a("nap")), "state 'a': there is no type 'nap'"),
        (flow({"type": "pass", "name": "a"}), "state 'a': one of 'next' and 'end: true' is required"),
        (flow(a(next="a", end=True)), "one of 'next' and 'end: true'"),
        (flow({"type": "pass"}), "state 1 of the definition: 'name' is required"),
        (flow(a(retry=[])), "state 'a': there is no field 'retry' here"),
        (flow(a("operation")), "state 'a': 'resource' is required"),
        (flow(a("operation", resource="brn:x")), "state 'a': 'resource'"),
        (flow(a("operation", resource="f", retry=[{"errors": []}])), "'errors' must have 1 to"),
        (flow(a("operation", resource="f", retry=[{"errors": ["a"], "maxAttempts": 1000}])), "'maxAttempts' must be 0"),
        (flow(a("operation", resource="f", retry=[{"errors": ["a"], "multiplier": 0.5}])), "'multiplier' must be 1"),
        (flow(a("operation", resource="f", catch=[{"errors": ["a"], "next": "b"}])), "leads to 'b'"),
        (flow(a("operation", resource="f", actionDataFilter={"toStateData": ".[0]"})), "must be a path"),
        (flow(a(stateDataFilter={"input": "def f: f;"})), "state 'a': 'input': "),
        (flow(a(stateDataFilter={"inputs": "."})), "state 'a': there is no field 'inputs'"),
        (flow(a("wait")), "one of 'seconds' and 'timestamp' is required"),
        (flow(a("wait", seconds=-1)), "'seconds' must be 0 to"),
        (flow(a("wait", timestamp="soon")), "'timestamp' must look like"),
        (flow(a("switch", conditions=[])), "'conditions' must have 1 to 50"),
        (flow(a("switch", conditions=[{"condition": "os.system()", "next": "a"}])), "state 'a': 'condition'"),
        (flow(a("fail", next="a")), "there is no field 'next'"),
        (flow(a("parallel", branches=[{"start": "b", "states": [a()]}])), "branch 1 of state 'a': 'start' leads"),
        (flow(a("foreach", inputCollection=".x", iterationParam="x", iterator={})), "the iterator of state 'a'"),
        (flow(a(), timeoutSeconds=200_000), "'timeoutSeconds' must be 1 to 172800"),
        (flow(*[{**a(next=f"s{n + 1}"), "name": f"s{n}"} for n in range(STATES_LIMIT + 1)]), "'states' must have 1 to"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(text: str, said: str) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(said)):
        parse(text)


def test_depth_and_size_are_bounded() -> None:
    deep: dict[str, Any] = a()
    for _ in range(4):
        deep = a("parallel", branches=[{"start": "a", "states": [deep]}])
    with pytest.raises(BadDefinition, match="nested"):
        parse(flow(deep))
    many = [{"start": "a", "states": [a()]} for _ in range(20)]
    wide = [{**a("parallel", branches=many, next=f"s{n + 1}"), "name": f"s{n}"} for n in range(10)]
    with pytest.raises(BadDefinition, match="at most 200 states"):
        parse(flow(*wide, {**a(), "name": "s10"}, start="s0"))
    with pytest.raises(TooLarge):
        parse("#" * 70_000)


def test_aliases_make_no_bomb() -> None:
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n"
        for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    )
    began = time.process_time()
    with pytest.raises(BadDefinition):
        parse(bomb)
    assert time.process_time() - began < 5


def test_words_stay_words() -> None:
    text = "a: yes\nb: 2022-01-01\nc: 1:30\nd: 0x1F\ne: 1.0.0\nf: ~\ng: true\nh: 1e3\ni: 12\nj: .5\nk: 1_0"
    assert yaml_text.load(text) == {
        "a": "yes", "b": "2022-01-01", "c": "1:30", "d": "0x1F", "e": "1.0.0", "f": None, "g": True, "h": 1000.0,
        "i": 12, "j": 0.5, "k": "1_0",
    }  # fmt: skip
    for number in ("1e999", "9" * 18):
        try:
            json.dumps(yaml_text.load(f"a: {number}"), allow_nan=False)
        except BadDefinition:
            pass


LINES = DEMO.splitlines()
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(list(Kind)),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["name", "start", "states", "type", "next", "end", "branches", "iterator", "retry", "data"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@given(
    st.text(max_size=60)
    | st.lists(st.sampled_from(LINES), max_size=40).map("\n".join)
    | JSON.map(json.dumps)
    | st.tuples(st.integers(0, len(DEMO)), st.integers(0, len(DEMO))).map(lambda cut: DEMO[: cut[0]] + DEMO[cut[1] :])
)
def test_nothing_but_our_own_errors(text: str) -> None:
    try:
        parse(text)
    except InvalidRequest:
        return
