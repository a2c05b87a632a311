"""SigV4 against botocore: what it signs is accepted, and any change to it is not."""

from __future__ import annotations

import calendar
import hashlib
import re
import time
from typing import Any

import pytest
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.utils import percent_encode_sequence
from hypothesis import given
from hypothesis import strategies as st

from alcove.errors import AccessDenied
from alcove.wire import sigv4

KEY, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
HOST = "127.0.0.1:9000"
PATH_CHARACTERS = st.text(alphabet="abzAZ09-_.~/%:$@!*'()+, ", min_size=0, max_size=30).map(
    lambda text: "/" + text.replace("%", "%25").replace(" ", "%20")
)
VALUES = st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), max_size=20)
QUERY = st.lists(st.tuples(st.text(min_size=1, max_size=8), st.text(max_size=8)), max_size=5)
HEADERS = st.dictionaries(
    st.from_regex(r"x-(amz|test)-[a-z]{1,6}", fullmatch=True).filter(lambda name: name not in ("x-amz-date",)),
    VALUES.map(str.strip),
    max_size=4,
)


def signed(
    signer: Any = SigV4Auth,
    method: str = "POST",
    path: str = "/2015-03-31/functions/f/invocations",
    query: str = "",
    headers: dict[str, str] | None = None,
    body: bytes = b"{}",
    region: str = "eu-west-1",
    service: str = "lambda",
    **options: Any,
) -> dict[str, Any]:
    """Return the arguments of ``verify`` for a request that botocore signed."""
    url = f"http://{HOST}{path}" + (f"?{query}" if query else "")
    request = AWSRequest(method=method, url=url, headers=dict(headers or {}), data=body)
    signer(Credentials(KEY, SECRET), service, region, **options).add_auth(request)
    target = request.url.removeprefix(f"http://{HOST}")
    raw_path, _, raw_query = target.partition("?")
    sent = {"host": HOST} | {name.lower(): value for name, value in request.headers.items()}
    return {
        "method": method,
        "raw_path": raw_path,
        "raw_query": raw_query,
        "headers": sent,
        "body_sha256": hashlib.sha256(body).hexdigest,
    }


def check(arguments: dict[str, Any], now_s: float | None = None, **options: Any) -> sigv4.Signer:
    return sigv4.verify(
        **arguments,
        secret_of={KEY: SECRET}.get,
        now_s=time.time() if now_s is None else now_s,
        **options,
    )


def refused(arguments: dict[str, Any], **options: Any) -> str:
    with pytest.raises(AccessDenied) as caught:
        check(arguments, **options)
    return caught.value.code


@given(PATH_CHARACTERS, QUERY, HEADERS, st.binary(max_size=64))
def test_what_botocore_signs_is_accepted(
    path: str, query: list[tuple[str, str]], headers: dict[str, str], body: bytes
) -> None:
    request = signed(path=path, query=percent_encode_sequence(query), headers=headers, body=body)
    assert check(request) == sigv4.Signer(KEY, "eu-west-1", "lambda")


@given(PATH_CHARACTERS, st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=8)))
def test_what_botocore_presigns_is_accepted(path: str, query: dict[str, str]) -> None:
    request = signed(SigV4QueryAuth, "GET", path, percent_encode_sequence(query), body=b"", expires=60)
    assert check(request).access_key == KEY


@pytest.mark.parametrize(
    "change",
    [
        {"method": "PUT"},
        {"raw_path": "/2015-03-31/functions/g/invocations"},
        {"raw_query": "Qualifier=1"},
        {"body_sha256": hashlib.sha256(b"other").hexdigest},
    ],
)
def test_any_change_is_refused(change: dict[str, Any]) -> None:
    assert refused(signed() | change) == "signature"


@given(st.data())
def test_a_changed_header_is_refused(data: st.DataObject) -> None:
    request = signed(headers={"x-amz-client-context": "abc", "content-type": "application/json"})
    name = data.draw(st.sampled_from(["host", "x-amz-client-context", "content-type"]))
    request["headers"][name] += data.draw(st.sampled_from(["x", ",y", " z"]))
    assert refused(request) == "signature"


def test_an_added_amz_header_is_refused() -> None:
    request = signed()
    request["headers"]["x-amz-invocation-type"] = "Event"
    assert refused(request) == "signature"


def test_unsigned_host_is_refused() -> None:
    request = signed()
    authorization = request["headers"]["authorization"]
    request["headers"]["authorization"] = re.sub("host;", "", authorization)
    assert refused(request) == "signature"


def test_dates() -> None:
    request, now_s = signed(), time.time()
    check(request, now_s + 290)
    check(request, now_s - 290)
    assert refused(request, now_s=now_s + 310) == "expired"
    assert refused(request, now_s=now_s - 310) == "expired"
    presigned = signed(SigV4QueryAuth, "GET", body=b"", expires=1000)
    check(presigned, now_s + 990)
    assert refused(presigned, now_s=now_s + 1010) == "expired"


def test_scope() -> None:
    assert refused(signed(service="s3")) == "signature"
    assert refused(signed(), region="us-east-1") == "signature"
    assert check(signed(), region="eu-west-1").region == "eu-west-1"


def test_unknown_key_and_wrong_secret() -> None:
    request = signed()
    with pytest.raises(AccessDenied) as caught:
        sigv4.verify(**request, secret_of=lambda key: None, now_s=time.time())
    assert caught.value.code == "unknown_key"
    with pytest.raises(AccessDenied) as caught:
        sigv4.verify(**request, secret_of=lambda key: "other", now_s=time.time())
    assert caught.value.code == "signature"


def test_payload_rules() -> None:
    unsigned = signed(headers={"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"})
    assert refused(unsigned) == "signature"
    assert check(unsigned, allow_unsigned_payload=True).access_key == KEY
    streaming = signed(headers={"X-Amz-Content-SHA256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER"})
    assert refused(streaming, allow_unsigned_payload=True) == "signature"
    declared = signed(headers={"X-Amz-Content-SHA256": hashlib.sha256(b"{}").hexdigest()})
    check(declared)
    assert refused(declared | {"body_sha256": hashlib.sha256(b"x").hexdigest}) == "signature"


@pytest.mark.parametrize(
    ("authorization", "code"),
    [
        (None, "missing"),
        ("Basic abc", "malformed"),
        ("AWS4-HMAC-SHA256 nonsense", "malformed"),
        ("AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=ff", "malformed"),
        ("AWS4-HMAC-SHA256 Credential=a, Credential=b", "malformed"),
        ("AWS4-HMAC-SHA256 Credential=a/b/c/d/aws4_request, SignedHeaders=host", "malformed"),
    ],
)
def test_malformed(authorization: str | None, code: str) -> None:
    request = signed()
    del request["headers"]["authorization"]
    if authorization is not None:
        request["headers"]["authorization"] = authorization
    assert refused(request) == code


@given(st.text(max_size=200), st.text(max_size=200), st.text(max_size=20))
def test_any_text_is_refused_and_nothing_else(text: str, query: str, date: str) -> None:
    headers = {"authorization": "AWS4-HMAC-SHA256 " + text, "x-amz-date": date, "host": "h"}
    request = {"method": "GET", "raw_path": "/", "raw_query": query, "headers": headers}
    refused(request | {"body_sha256": lambda: "0" * 64})
    del headers["authorization"]
    refused(request | {"raw_query": query + "&X-Amz-Signature=1", "body_sha256": lambda: "0" * 64})


def test_documented_example() -> None:
    """The signing key of the example in AWS's General Reference ("Deriving the signing key")."""
    secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
    key = sigv4.signing_key(secret, "20150830", "us-east-1", "iam")
    assert key.hex() == "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9"


def test_clock_is_the_callers() -> None:
    request = signed()
    stamp = request["headers"]["x-amz-date"]
    now_s = calendar.timegm(time.strptime(stamp, "%Y%m%dT%H%M%SZ"))
    assert check(request, now_s + 300).access_key == KEY
    assert refused(request, now_s=now_s + 301) == "expired"
