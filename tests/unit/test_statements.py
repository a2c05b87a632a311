"""Statements of policies: patterns against an oracle, who is let in, what is refused; and the service over them."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.plane import PYTHON, Plane, zipped

from alcove.errors import Conflict, InvalidRequest, NotFound
from alcove.functions.aliases import AliasChange, AliasService
from alcove.functions.permissions import INVOKE, PermissionService
from alcove.functions.records import RevisionMismatch
from alcove.functions.statements import Caller, PolicyTooLong, Statement, arn_like, check_statement, like

FRIEND = "123456789012"
BUCKET = "arn:aws:s3:::pictures"


@given(st.text("ab*?", max_size=8), st.text("ab", max_size=8))
def test_patterns_are_those_of_file_names(pattern: str, text: str) -> None:
    oracle = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    assert like(pattern, text) == (re.fullmatch(oracle, text, re.DOTALL) is not None)


def test_a_hostile_pattern_costs_little() -> None:
    assert not like("*a" * 250 + "b", "a" * 2000)


@pytest.mark.parametrize(
    ("pattern", "arn", "fits"),
    [
        (BUCKET, BUCKET, True),
        ("arn:aws:s3:::pic*", BUCKET, True),
        ("arn:*:s3:::*", BUCKET, True),
        ("arn:aws:*", BUCKET, False),
        ("*", BUCKET, False),
        ("arn:aws:s3:::*", "arn:aws:sns:::pictures", False),
        ("arn:aws:execute-api:*:*:a/*/GET/*", "arn:aws:execute-api:r:1:a/b/GET/c", True),
    ],
)
def test_arns_are_compared_by_part(pattern: str, arn: str, fits: bool) -> None:
    assert arn_like(pattern, arn) is fits


@pytest.mark.parametrize(
    ("principal", "action", "conditions", "caller", "allowed"),
    [
        (FRIEND, INVOKE, {}, Caller(FRIEND, INVOKE), True),
        (f"arn:aws:iam::{FRIEND}:root", INVOKE, {}, Caller(FRIEND, INVOKE), True),
        (f"arn:aws:iam::{FRIEND}:user/eve", INVOKE, {}, Caller(FRIEND, INVOKE), False),
        (FRIEND, INVOKE, {}, Caller("999999999999", INVOKE), False),
        (FRIEND, INVOKE, {}, Caller("", INVOKE), False),
        (FRIEND, "lambda:GetFunction", {}, Caller(FRIEND, INVOKE), False),
        (FRIEND, "lambda:*", {}, Caller(FRIEND, INVOKE), True),
        ("*", "lambda:invokefunction", {}, Caller("", INVOKE), True),
        ("*", INVOKE, {"url_auth_type": "NONE"}, Caller("", INVOKE, {"url_auth_type": "NONE"}), True),
        ("*", INVOKE, {"url_auth_type": "NONE"}, Caller("", INVOKE), False),
        ("s3.amazonaws.com", INVOKE, {"source_arn": BUCKET}, Caller("s3.amazonaws.com", INVOKE), False),
        (
            "s3.amazonaws.com",
            INVOKE,
            {"source_arn": BUCKET, "source_account": FRIEND},
            Caller("s3.amazonaws.com", INVOKE, {"source_arn": BUCKET, "source_account": FRIEND}),
            True,
        ),
        (
            "s3.amazonaws.com",
            INVOKE,
            {"source_arn": BUCKET, "source_account": FRIEND},
            Caller("s3.amazonaws.com", INVOKE, {"source_arn": BUCKET, "source_account": "999999999999"}),
            False,
        ),
    ],
)
def test_who_is_let_in(principal: str, action: str, conditions: dict[str, str], caller: Caller, allowed: bool) -> None:
    statement = check_statement(Statement("s", principal, action, conditions))
    assert statement.allows(caller) is allowed


@pytest.mark.parametrize(
    "statement",
    [
        Statement("a b", FRIEND, INVOKE),
        Statement("", FRIEND, INVOKE),
        Statement("s", "", INVOKE),
        Statement("s", "two words", INVOKE),
        Statement("s", "a" * 257, INVOKE),
        Statement("s", FRIEND, "s3:GetObject"),
        Statement("s", FRIEND, "InvokeFunction"),
        Statement("s", FRIEND, INVOKE, {"source_arn": "has space"}),
        Statement("s", FRIEND, INVOKE, {"source_arn": "a" * 513}),
    ],
)
def test_what_no_policy_says(statement: Statement) -> None:
    with pytest.raises(InvalidRequest):
        check_statement(statement)


async def test_policies_are_apart_by_qualifier_and_go_with_it(plane: Plane) -> None:
    tenant, service = plane.tenant, plane.service
    aliases, policies = AliasService(plane.database, service), PermissionService(plane.database, service)
    caller = Caller(FRIEND, INVOKE)
    await service.create(tenant, "f", zipped("1"), PYTHON, publish=True)
    await aliases.create(tenant, "f", "live", AliasChange("1"))
    assert not await policies.may(tenant, "f", "live", caller)
    await policies.add(tenant, "f", "live", Statement("s", FRIEND, INVOKE))
    for qualifier, allowed in (("live", True), ("", False), ("$LATEST", False), ("1", False)):
        assert await policies.may(tenant, "f", qualifier, caller) is allowed
    await aliases.delete(tenant, "f", "live")
    await aliases.create(tenant, "f", "live", AliasChange("1"))
    assert not await policies.may(tenant, "f", "live", caller)
    await policies.add(tenant, "f", "", Statement("s", FRIEND, INVOKE))
    assert await policies.may(tenant, "f", "$LATEST", caller)
    await service.delete(tenant, "f")
    assert not await policies.may(tenant, "f", "", caller)
    await service.create(tenant, "f", zipped("1"), PYTHON)
    with pytest.raises(NotFound):
        await policies.get(tenant, "f")


async def test_statements_keep_their_order_and_the_policy_its_limit(plane: Plane) -> None:
    tenant, policies = plane.tenant, PermissionService(plane.database, plane.service)
    await plane.service.create(plane.tenant, "f", zipped("1"), PYTHON)
    first = await policies.add(tenant, "f", "", Statement("b", FRIEND, INVOKE))
    with pytest.raises(RevisionMismatch):
        await policies.add(tenant, "f", "", Statement("a", FRIEND, INVOKE), revision_id="other")
    await policies.add(tenant, "f", "", Statement("a", FRIEND, INVOKE), revision_id=first.revision_id)
    with pytest.raises(Conflict):
        await policies.add(tenant, "f", "", Statement("a", "*", INVOKE))
    with pytest.raises(PolicyTooLong):
        for number in range(200):
            await policies.add(tenant, "f", "", Statement(f"s{number}", FRIEND, INVOKE))
    kept = json.loads((await policies.get(tenant, "f")).text)["Statement"]
    assert [one["Sid"] for one in kept[:3]] == ["b", "a", "s0"]
    assert len(kept) < 200
    await policies.remove(tenant, "f", "", "b")
    with pytest.raises(NotFound):
        await policies.remove(tenant, "f", "", "b")
    for qualifier in ("9", "nobody"):
        with pytest.raises(NotFound):
            await policies.add(tenant, "f", qualifier, Statement("x", FRIEND, INVOKE))
    with pytest.raises(InvalidRequest):
        await policies.add(tenant, "f", "$LATEST", Statement("x", FRIEND, INVOKE))
