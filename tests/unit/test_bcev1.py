"""BCE v1 against the signer of bce-python-sdk."""

from __future__ import annotations

import time
from typing import Any

import pytest
from baidubce import utils
from baidubce.auth import bce_v1_signer
from baidubce.auth.bce_credentials import BceCredentials
from hypothesis import given
from hypothesis import strategies as st

from alcove.errors import AccessDenied
from alcove.wire import bcev1

KEY, SECRET = "bceaccesskey", "bcesecretkey"
CFC_HEADERS = [b"host", b"content-length", b"content-type", b"x-bce-date"]
TEXT = st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), max_size=12)


def signed(
    method: str = "POST",
    path: str = "/v1/functions/f/invocations",
    params: dict[str, str] | None = None,
    extra: dict[str, str] | None = None,
    headers_to_sign: list[bytes] | None = CFC_HEADERS,
    timestamp: int = 0,
    expiry: int = 1800,
    body: bytes = b"{}",
) -> dict[str, Any]:
    raw_path = utils.normalize_string(path, False).decode()
    headers = {
        b"host": b"localhost:8080",
        b"content-length": len(body),
        b"content-type": b"application/json",
        b"x-bce-date": utils.get_canonical_time(timestamp),
    } | {name.encode(): value.encode() for name, value in (extra or {}).items()}
    query = {name.encode(): value.encode() for name, value in (params or {}).items()}
    authorization = bce_v1_signer.sign(
        BceCredentials(KEY, SECRET),
        method.encode(),
        raw_path.encode(),
        headers,
        query,
        timestamp,
        expiry,
        headers_to_sign,
    )
    sent = {
        name.decode(): value.decode() if isinstance(value, bytes) else str(value) for name, value in headers.items()
    }
    return {
        "method": method,
        "raw_path": raw_path,
        "raw_query": utils.get_canonical_querystring(query, False).decode() if query else "",
        "headers": sent | {"authorization": authorization.decode()},
        "body": body,
    }


def check(arguments: dict[str, Any], now_s: float | None = None) -> str:
    now_s = time.time() if now_s is None else now_s
    return bcev1.verify(**arguments, secret_of={KEY: SECRET}.get, now_s=now_s)


def refused(arguments: dict[str, Any], now_s: float | None = None) -> str:
    with pytest.raises(AccessDenied) as caught:
        check(arguments, now_s)
    return caught.value.code


@given(
    TEXT.map(lambda text: "/v1/" + text),
    st.dictionaries(TEXT.filter(lambda name: bool(name) and name.lower() != "authorization"), TEXT, max_size=4),
    st.dictionaries(st.from_regex(r"x-bce-t[a-z]{1,5}", fullmatch=True), TEXT, max_size=3),
)
def test_what_the_sdk_signs_is_accepted(path: str, params: dict[str, str], extra: dict[str, str]) -> None:
    assert check(signed("GET", path, params, extra)) == KEY
    assert check(signed("GET", path, params, extra, headers_to_sign=None)) == KEY


@pytest.mark.parametrize(
    "change",
    [{"method": "GET"}, {"raw_path": "/v1/functions/g/invocations"}, {"raw_query": "Qualifier=1"}],
)
def test_any_change_is_refused(change: dict[str, Any]) -> None:
    assert refused(signed() | change) == "signature"


def test_changed_or_added_headers_are_refused() -> None:
    for name in ("host", "content-type", "x-bce-date", "x-bce-new"):
        request = signed()
        request["headers"][name] = "other"
        assert refused(request) == "signature"
    assert refused(signed(headers_to_sign=[b"x-bce-date"])) == "signature"


def test_expiry_is_honoured() -> None:
    now = int(time.time())
    request = signed(timestamp=now, expiry=100)
    assert check(request, now + 100) == KEY
    assert refused(request, now + 101) == "expired"
    assert refused(request, now - 301) == "expired"
    request["headers"]["authorization"] = request["headers"]["authorization"].replace("/100/", "/9/")
    assert refused(request, now + 1) == "signature"


def test_body_is_checked_where_it_is_bound() -> None:
    request = signed(extra={"x-bce-content-sha256": "0" * 64})
    assert refused(request) == "signature"
    request = signed(extra={"content-md5": "mZFLkyvTelC5g8XnyQrpOw=="})  # of b"{}"
    assert check(request) == KEY
    assert refused(request | {"body": b"[]"}) == "signature"


def test_unknown_and_missing() -> None:
    with pytest.raises(AccessDenied) as caught:
        bcev1.verify(**signed(), secret_of=lambda key: None, now_s=time.time())
    assert caught.value.code == "unknown_key"
    request = signed()
    del request["headers"]["authorization"]
    assert refused(request) == "missing"


@given(st.text(max_size=100), st.text(max_size=40))
def test_any_text_is_refused_and_nothing_else(text: str, query: str) -> None:
    for authorization in (text, "bce-auth-v1/" + text, f"bce-auth-v1/{KEY}/{text}/9/host/x"):
        refused(
            {
                "method": "GET",
                "raw_path": "/",
                "raw_query": query,
                "headers": {"authorization": authorization, "host": "h"},
                "body": b"",
            }
        )


def test_a_path_is_signed_with_each_segment_encoded() -> None:
    """The Go SDK sends ``:`` and ``$`` as they are, and signs them encoded."""
    request = signed(path="/v1/functions/brn:bce:cfc:bj:1:function:f:$LATEST/invocations")
    assert "%3A" in request["raw_path"]
    sent = request | {"raw_path": request["raw_path"].replace("%3A", ":").replace("%24", "$")}
    assert bcev1.verify(secret_of={KEY: SECRET}.get, now_s=time.time(), **sent) == KEY
    assert bcev1.canonical_path("/a%2Fb/c") == "/a%2Fb/c"


def test_a_request_id_may_be_left_out_of_the_signature() -> None:
    """The Python SDK signs it, the Go SDK does not; where it is listed, it must be the one that was signed."""
    request_id = {"x-bce-request-id": "one"}
    own, without = signed(extra=request_id), signed()
    listed = signed(extra=request_id, headers_to_sign=[*CFC_HEADERS, b"x-bce-request-id"])
    without["headers"] |= request_id
    for request in (own, without, listed):
        assert bcev1.verify(secret_of={KEY: SECRET}.get, now_s=time.time(), **request) == KEY
    listed["headers"]["x-bce-request-id"] = "two"
    with pytest.raises(AccessDenied):
        bcev1.verify(secret_of={KEY: SECRET}.get, now_s=time.time(), **listed)
