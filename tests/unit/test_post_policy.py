"""Policies of forms that upload: what they let through, and who signed them."""

from __future__ import annotations

import base64
import hmac
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alcove.buckets import post_policy
from alcove.buckets.errors import BadPolicy, PolicyViolated
from alcove.errors import AccessDenied
from alcove.wire import post_signature

NOW = 1_800_000_000.0
CREDENTIAL = "KEY/20270115/eu-central-1/s3/aws4_request"


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def policy(*conditions: Any, expiration: str = "2030-01-01T00:00:00.000Z") -> str:
    return encoded(json.dumps({"expiration": expiration, "conditions": list(conditions)}))


def allows(text: str, **fields: str) -> bool:
    found = {name.replace("_", "-"): value for name, value in fields.items()}
    try:
        post_policy.parse(text).check(found, NOW)
    except PolicyViolated:
        return False
    return True


@pytest.mark.parametrize(
    ("condition", "value", "holds"),
    [
        ({"Content-Type": "image/png"}, "image/png", True),
        ({"Content-Type": "image/png"}, "image/png2", False),
        (["eq", "$content-type", "image/png"], "image/png", True),
        (["starts-with", "$Content-Type", "image/"], "image/png", True),
        (["starts-with", "$Content-Type", "image/"], "text/plain", False),
        (["starts-with", "$Content-Type", "image/"], "image/png, image/gif", True),
        (["starts-with", "$Content-Type", "image/"], "image/png, text/plain", False),
        (["starts-with", "$Content-Type", ""], "anything", True),
        (["Starts-With", "$CONTENT-TYPE", "image/"], "image/png", True),
    ],
)
def test_conditions(condition: Any, value: str, holds: bool) -> None:
    assert allows(policy(condition), content_type=value) is holds


def test_every_condition_and_every_field() -> None:
    text = policy({"bucket": "b"}, ["starts-with", "$key", "user/"], ["eq", "$key", "user/x"])
    assert allows(text, bucket="b", key="user/x", policy=text, x_amz_signature="s", x_ignore_this="1")
    assert not allows(text, bucket="b", key="user/y")
    assert not allows(text, bucket="other", key="user/x")
    assert not allows(text, bucket="b")
    assert not allows(text, bucket="b", key="user/x", acl="private")
    assert not allows(policy({"key": "k"}), bucket="b", key="k"), "a policy says which bucket it is of"
    anything = policy(["starts-with", "$acl", ""])
    assert allows(anything, acl="")
    assert not allows(anything), "a field that is absent has no beginning"
    # A list is one of the content type alone.
    assert allows(policy(["starts-with", "$key", "a"]), key="a,b")


def test_it_ends() -> None:
    assert allows(policy(expiration="2027-01-15T08:00:01Z"))
    assert not allows(policy(expiration="2027-01-15T08:00:00Z"))


def test_sizes_and_escapes() -> None:
    found = post_policy.parse(policy(["content-length-range", 5, "100"], ["content-length-range", 1, 50]))
    assert (found.least, found.most) == (5, 50)
    text = encoded(r'{"expiration": "2030-01-01T00:00:00Z", "conditions": [{"key": "\$a\v\\$ü\u00e4"}]}')
    assert allows(text, key="$a\x0b\\$üä")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "?",
        encoded("[" * 100_000),
        encoded("[]"),
        encoded('{"expiration": "2030-01-01T00:00:00Z"}'),
        policy(expiration="tomorrow"),
        policy(expiration="2030-13-01T00:00:00Z"),
        policy(expiration="2030-01-01T00:00:00"),
        policy(expiration="2030-01-01 00:00:00Z"),
        policy(expiration="2030-01-01T00:00:00+02:00"),
        policy({"key": "x", "acl": "private"}),
        policy({"key": 1}),
        policy([]),
        policy({}),
        policy("x"),
        policy(["eq", "key", "x"]),
        policy(["ends-with", "$key", "x"]),
        policy({"key": ["x"]}),
        policy({"key": True}),
        policy(["content-length-range", 1]),
        policy(["content-length-range", -1, 2]),
        policy(["content-length-range", 1, "9" * 5000]),
        encoded('{"expiration": "2030-01-01T00:00:00Z", "conditions": {"key": "x"}}'),
    ],
)
def test_policies_that_are_none(text: str) -> None:
    with pytest.raises(BadPolicy):
        post_policy.parse(text)


NODES = st.none() | st.integers() | st.sampled_from(["eq", "$key", "2030-01-01", "content-length-range"])
KEYS = st.sampled_from(["expiration", "conditions", "a"])


@given(st.recursive(NODES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3)))
def test_no_document_breaks_it(document: Any) -> None:
    try:
        post_policy.parse(encoded(json.dumps(document))).check({}, NOW)
    except (BadPolicy, PolicyViolated):
        pass


def test_signatures() -> None:
    """The policy is signed as it stands in the form; altered in any field, it is not."""
    fields = {
        "policy": policy({"key": "k"}),
        "x-amz-algorithm": "AWS4-HMAC-SHA256",
        "x-amz-credential": CREDENTIAL,
        "x-amz-date": "20270115T080000Z",
    }
    key = post_signature.signing_key("secret", "20270115", "eu-central-1", "s3")
    fields["x-amz-signature"] = hmac.digest(key, fields["policy"].encode(), "sha256").hex()
    secrets = {"KEY": "secret"}
    assert post_signature.verify(fields, secrets.get, NOW) == "KEY"
    others = {
        "policy": policy({"key": "l"}),
        "x-amz-algorithm": "AWS4",
        "x-amz-credential": CREDENTIAL.replace("eu-", "us-"),
        "x-amz-date": "20270114T080000Z",
        "x-amz-signature": "é",
    }
    for name, other in others.items():
        with pytest.raises(AccessDenied):
            post_signature.verify({**fields, name: other}, secrets.get, NOW)
        with pytest.raises(AccessDenied):
            post_signature.verify({one: value for one, value in fields.items() if one != name}, secrets.get, NOW)
    with pytest.raises(AccessDenied):
        post_signature.verify(fields, {}.get, NOW)
    for moment in (NOW + post_signature.MAX_AGE_S + 1, NOW - 3600):
        with pytest.raises(AccessDenied):
            post_signature.verify(fields, secrets.get, moment)
