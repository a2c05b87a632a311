"""Whole policies: what statements say is read as it is written, all else is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alcove.errors import InvalidRequest
from alcove.functions.permissions import INVOKE
from alcove.functions.policy_text import read_policy
from alcove.functions.statements import CONDITIONS, Caller, PolicyTooLong, Statement, policy

ARN = "arn:aws:lambda:r:000000000001:function:f"
NAMES = st.sampled_from(["arn:aws:iam::123456789012:root", "arn:aws:iam::123456789012:user/a", "s3.amazonaws.com"])
ACTIONS = st.sampled_from([INVOKE, "lambda:GetFunction", "lambda:*"])


def words(one: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(one, min_size=1, max_size=3, unique=True).map(lambda found: " ".join(sorted(found)))


STATEMENTS = st.builds(
    Statement,
    st.from_regex(r"[a-zA-Z0-9_-]{1,20}", fullmatch=True),
    st.just("*") | words(NAMES),
    st.just("*") | words(ACTIONS),
    st.dictionaries(st.sampled_from(list(CONDITIONS)), st.from_regex(r"[!-~]{1,20}", fullmatch=True), max_size=3),
)


@given(st.lists(STATEMENTS, min_size=1, max_size=4, unique_by=lambda one: one.id))
def test_what_is_shown_is_read_as_it_was(statements: list[Statement]) -> None:
    assert read_policy(policy(statements, ARN), ARN) == statements


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda one: st.lists(one) | st.dictionaries(
    st.sampled_from(["Statement", "Sid", "Effect", "Principal", "AWS", "Action", "Resource", "Condition"]), one
)))  # fmt: skip
def test_no_other_json_is_a_policy(document: Any) -> None:
    with pytest.raises(InvalidRequest):
        read_policy(json.dumps(document), ARN)


def test_each_principal_and_action_of_a_statement_counts() -> None:
    both = Statement("s", "123456789012 s3.amazonaws.com", f"lambda:GetFunction {INVOKE}")
    assert all(both.allows(Caller(one, INVOKE)) for one in ("123456789012", "s3.amazonaws.com"))
    assert not both.allows(Caller("123456789012", "lambda:Delete"))
    assert not both.allows(Caller("", INVOKE))
    assert not both.allows(Caller("123456789012 s3.amazonaws.com", INVOKE))


GOOD = {"Sid": "s", "Effect": "Allow", "Principal": "*", "Action": INVOKE, "Resource": ARN}


@pytest.mark.parametrize(
    "more",
    [
        {"Effect": "Deny"},
        {"Effect": None},
        {"NotAction": "x"},
        {"NotPrincipal": "*"},
        {"Sid": "a b"},
        {"Sid": 1},
        {"Principal": None},
        {"Principal": {}},
        {"Principal": {"Federated": "x"}},
        {"Principal": {"AWS": "s3.amazonaws.com"}},
        {"Principal": {"AWS": "1234"}},
        {"Principal": {"Service": "123456789012"}},
        {"Principal": {"AWS": "arn:x *"}},
        {"Action": f"{INVOKE} *"},
        {"Action": "s3:GetObject"},
        {"Action": []},
        {"Resource": "*"},
        {"Resource": [ARN, ARN]},
        {"Resource": ARN + ":1"},
        {"Condition": {"StringLike": {"AWS:SourceArn": "x"}}},
        {"Condition": {"StringEquals": {"aws:RequestedRegion": "x"}}},
        {"Condition": {"StringEquals": {"AWS:SourceAccount": ["1", "2"]}}},
        {"Condition": {"StringEquals": "x"}},
        {"Condition": []},
    ],
)
def test_what_would_be_half_kept_is_refused(more: dict[str, Any]) -> None:
    assert read_policy(json.dumps({"Statement": GOOD}), ARN)
    with pytest.raises(InvalidRequest):
        read_policy(json.dumps({"Statement": [{**GOOD, **more}]}), ARN)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "[" * 9000, json.dumps({"Statement": []}), json.dumps({"Statement": [GOOD, GOOD]}),
     json.dumps({"Version": "2030-01-01", "Statement": [GOOD]}), json.dumps({"Statement": [GOOD], "More": 1})],
)  # fmt: skip
def test_no_policy(text: str) -> None:
    with pytest.raises(InvalidRequest):
        read_policy(text, ARN)


def test_a_policy_that_is_too_long() -> None:
    with pytest.raises(PolicyTooLong):
        read_policy(" " * (20 << 10) + json.dumps({"Statement": GOOD}), ARN)


def test_keys_have_no_case_and_operators_that_are_alike_are_one() -> None:
    condition = {"ArnEquals": {"aws:sourcearn": "arn:x"}, "Bool": {"lambda:InvokedViaFunctionUrl": True}}
    (found,) = read_policy(json.dumps({"Statement": {**GOOD, "Condition": condition}}), ARN)
    assert found.conditions == {"source_arn": "arn:x", "via_url": "true"}
